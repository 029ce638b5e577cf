"""What can become of subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import changes

if TYPE_CHECKING:
    from .agreements import Agreement
    from .ledger import Ledger
    from .tokens import TokenStore


class SubscriptionManager:
    """Lets buyers and AWS do with subscriptions what they do in reality.

    Every method takes the `key` of an agreement: its id, its license ARN in either form, or for a legacy product the
    customer identifier or `product_code:aws_account_id`; the key of a license or a customer stands for the newest
    agreement that they have. None is the agreement whose registration token was issued last. Every method gives the
    agreement as it is then. Nothing happens by itself, except that the license of `not-yet-entitled` becomes active.

    Args:
        ledger: The agreements.
        tokens: The registration tokens that were issued.
    """

    def __init__(self, ledger: Ledger, tokens: TokenStore) -> None:
        self._ledger = ledger
        self._tokens = tokens

    def agreement(self, key: str | None = None) -> Agreement:
        """Give an agreement as it is now.

        Raises:
            ValueError: There is no such agreement.
        """
        return self._ledger.find(self._resolve(key))

    def change_plan(self, key: str | None, plan: str) -> Agreement:
        """Let the buyer change to another plan of the product.

        Raises:
            ValueError: There is no such agreement or plan, or the agreement is over.
        """
        return self._ledger.change(self._resolve(key), "plan changed", changes.change_plan(plan))

    def cancel(self, key: str | None = None) -> Agreement:
        """Let the buyer cancel: the entitlements are gone.

        Raises:
            ValueError: There is no such agreement, or it is over.
        """
        return self._ledger.change(self._resolve(key), "cancelled", changes.cancel)

    def expire(self, key: str | None = None) -> Agreement:
        """Let the end date come: the entitlements stay, and they have expired.

        Raises:
            ValueError: There is no such agreement, it is over, or it has no end date.
        """
        return self._ledger.change(self._resolve(key), "expired", changes.expire)

    def renew(self, key: str | None = None, *, new_license: bool = False) -> Agreement:
        """Let the end date come and the agreement renew: another agreement follows it.

        Args:
            key: Which agreement.
            new_license: Whether the agreement that follows has another license. AWS does not say what is usual.

        Raises:
            ValueError: There is no such agreement, it is over, or it does not renew: a free trial or pay as you go.
        """
        change = changes.renew(new_license=new_license)
        return self._ledger.change(self._resolve(key), "renewed", change)

    def replace(self, key: str | None, plan: str, *, new_license: bool = False) -> Agreement:
        """Let the buyer accept another offer in place of the agreement: another agreement follows it.

        Args:
            key: Which agreement.
            plan: The name of the plan that is bought instead.
            new_license: Whether the agreement that follows has another license. AWS does not say what is usual.

        Raises:
            ValueError: There is no such agreement or plan, or the agreement is over.
        """
        change = changes.replace_by(plan, new_license=new_license)
        return self._ledger.change(self._resolve(key), "replaced", change)

    def suspend(self, key: str | None = None) -> Agreement:
        """Let AWS issue an advisory about the buyer, which changes no answer.

        Raises:
            ValueError: There is no such agreement, it is over, or it is suspended already.
        """
        return self._ledger.change(self._resolve(key), "suspended", changes.suspend)

    def resume(self, key: str | None = None) -> Agreement:
        """Let AWS resolve its advisory.

        Raises:
            ValueError: There is no such agreement, or it is not suspended.
        """
        return self._ledger.change(self._resolve(key), "resumed", changes.resume)

    def prepare(self, key: str | None = None) -> Agreement:
        """Let a license that is not active yet become active now.

        Raises:
            ValueError: There is no such agreement, it is over, or its license is active already.
        """
        return self._ledger.change(self._resolve(key), "prepared", changes.prepare)

    def _resolve(self, key: str | None) -> str:
        if key is not None:
            return key
        latest = self._tokens.latest
        if latest is None:
            raise ValueError("No registration token was issued yet. Issue one, or name an agreement.")
        return self._ledger.newest_of(latest).id
