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

    Every method takes what names an agreement: its id, its license ARN in either form, or for a legacy product the
    customer identifier or `product_code:aws_account_id`; a license and a customer name the newest agreement that they
    have. None is the agreement whose registration token was issued last. Every method gives the agreement as it is
    then. Nothing happens by itself, except that the license of `not-yet-entitled` becomes active.

    Args:
        ledger: The agreements.
        tokens: The registration tokens that were issued.
    """

    def __init__(self, ledger: Ledger, tokens: TokenStore) -> None:
        self._ledger = ledger
        self._tokens = tokens

    def agreement(self, agreement_id: str | None = None) -> Agreement:
        """Give an agreement as it is now.

        Raises:
            ValueError: There is no such agreement.
        """
        return self._ledger.find(self._name(agreement_id))

    def change_plan(self, agreement_id: str | None, plan: str) -> Agreement:
        """Let the buyer change to another plan of the product.

        Raises:
            ValueError: There is no such agreement or plan, or the agreement is over.
        """
        return self._ledger.change(self._name(agreement_id), "plan changed", changes.change_plan(plan))

    def cancel(self, agreement_id: str | None = None) -> Agreement:
        """Let the buyer cancel: the entitlements are gone.

        Raises:
            ValueError: There is no such agreement, or it is over.
        """
        return self._ledger.change(self._name(agreement_id), "cancelled", changes.cancel)

    def expire(self, agreement_id: str | None = None) -> Agreement:
        """Let the end date come: the entitlements stay, and they have expired.

        Raises:
            ValueError: There is no such agreement, it is over, or it has no end date.
        """
        return self._ledger.change(self._name(agreement_id), "expired", changes.expire)

    def renew(self, agreement_id: str | None = None, *, new_license: bool = False) -> Agreement:
        """Let the end date come and the agreement renew: another agreement follows it.

        Args:
            agreement_id: What names the agreement.
            new_license: Whether the agreement that follows has another license. AWS does not say what is usual.

        Raises:
            ValueError: There is no such agreement, it is over, or it does not renew: a free trial or pay as you go.
        """
        change = changes.renew(new_license=new_license)
        return self._ledger.change(self._name(agreement_id), "renewed", change)

    def replace(self, agreement_id: str | None, plan: str, *, new_license: bool = False) -> Agreement:
        """Let the buyer accept another offer in place of the agreement: another agreement follows it.

        Args:
            agreement_id: What names the agreement.
            plan: The name of the plan that is bought instead.
            new_license: Whether the agreement that follows has another license. AWS does not say what is usual.

        Raises:
            ValueError: There is no such agreement or plan, or the agreement is over.
        """
        change = changes.replace_by(plan, new_license=new_license)
        return self._ledger.change(self._name(agreement_id), "replaced", change)

    def suspend(self, agreement_id: str | None = None) -> Agreement:
        """Let AWS issue an advisory about the buyer, which changes no answer.

        Raises:
            ValueError: There is no such agreement, it is over, or it is suspended already.
        """
        return self._ledger.change(self._name(agreement_id), "suspended", changes.suspend)

    def resume(self, agreement_id: str | None = None) -> Agreement:
        """Let AWS resolve its advisory.

        Raises:
            ValueError: There is no such agreement, or it is not suspended.
        """
        return self._ledger.change(self._name(agreement_id), "resumed", changes.resume)

    def prepare(self, agreement_id: str | None = None) -> Agreement:
        """Let a license that is not active yet become active now.

        Raises:
            ValueError: There is no such agreement, it is over, or its license is active already.
        """
        return self._ledger.change(self._name(agreement_id), "prepared", changes.prepare)

    def _name(self, agreement_id: str | None) -> str:
        if agreement_id is not None:
            return agreement_id
        latest = self._tokens.latest
        if latest is None:
            raise ValueError("No registration token was issued yet. Issue one, or name an agreement.")
        return self._ledger.newest_of(latest).id
