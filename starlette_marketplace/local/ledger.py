"""All agreements, and everything that has become of them."""

from __future__ import annotations

import threading
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .agreements import Agreement, license_id_of
from .chains import Chain, Entry
from .changes import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from .chains import Action
    from .changes import Change
    from .scenario import Scenario

PREPARATION = 20.0
"""Seconds from a buyer's arrival until a license that was pending is active."""


class Ledger:
    """The chains of agreements, oldest out first. Tests change them in another thread than the server's.

    Args:
        limit: How many chains and how many entries are kept.
        clock: Gives the time, in seconds since the epoch.
        timer: Gives seconds, for licenses that become active by themselves.
    """

    def __init__(self, limit: int, clock: Callable[[], float], timer: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._timer = timer
        self._chains: dict[str, Chain] = {}
        self._entries: deque[Entry] = deque(maxlen=limit)
        self._lock = threading.RLock()

    @property
    def entries(self) -> list[Entry]:
        """What has happened, oldest first."""
        with self._lock:
            return list(self._entries)

    def buy(self, account_id: str, scenario: Scenario) -> Chain:
        """Let the buyer with this AWS account subscribe."""
        with self._lock:
            now = self._now()
            chain = Chain(Agreement.of(account_id, scenario, now))
            self._chains[chain.newest.id] = chain
            if len(self._chains) > self._limit:
                del self._chains[next(iter(self._chains))]
            self._entries.append(Entry("bought", now, chain.agreements))
            return chain

    def change(self, name: str, action: Action, change: Change) -> Agreement:
        """Let something happen to an agreement: the one place through which each of them goes.

        Args:
            name: What names the agreement, as in `find`.
            action: What happens.
            change: What becomes of the agreement.

        Returns:
            What it has become, or the agreement that follows it.

        Raises:
            ValueError: No agreement has this name, or this cannot happen to it.
        """
        with self._lock:
            agreement = self.find(name)
            return self._record(self._chains[agreement.initial_id], action, change, agreement)

    def find(self, name: str) -> Agreement:
        """Look an agreement up.

        Args:
            name: Its id; or what names the newest agreement of a chain: a license ARN in either form, or for a legacy
                product the customer identifier or `product_code:aws_account_id`.

        Raises:
            ValueError: No agreement has this name.
        """
        with self._lock:
            for chain in reversed(self._chains.values()):
                self._settle(chain)
                for agreement in reversed(chain.agreements):
                    if name == agreement.id:
                        return agreement
                    if _names(agreement, name):
                        return chain.newest
        raise _unknown(name)

    def chain_of(self, agreement: Agreement) -> Chain:
        """Give the chain that an agreement is in.

        Raises:
            ValueError: It is forgotten.
        """
        with self._lock:
            chain = self._chains.get(agreement.initial_id)
        if chain is None:
            raise _unknown(agreement.id)
        return chain

    def known(self) -> list[Agreement]:
        """Give all agreements that AWS tells of, in the order in which their chains began."""
        with self._lock:
            for chain in self._chains.values():
                self._settle(chain)
            return [each for chain in self._chains.values() if chain.is_known for each in chain.agreements]

    def newest_of(self, chain: Chain) -> Agreement:
        """Give the agreement of a chain that is in force, or was last."""
        with self._lock:
            self._settle(chain)
            return chain.newest

    def arrive(self, chain: Chain) -> None:
        """Let the buyer come to the seller, who learns who it is."""
        with self._lock:
            if chain.arrived_at is None:
                chain.arrived_at = self._timer()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._chains.clear()
            self._entries.clear()

    def _settle(self, chain: Chain) -> None:
        # Nothing watches the timer: whoever looks finds what has happened meanwhile.
        newest, arrived_at = chain.newest, chain.arrived_at
        if not newest.is_pending or newest.is_closed or arrived_at is None:
            return
        if self._timer() - arrived_at >= PREPARATION:
            self._record(chain, "prepared", prepare, newest)

    def _record(self, chain: Chain, action: Action, change: Change, agreement: Agreement) -> Agreement:
        now = self._now()
        changed = change(agreement, now)
        for each in changed:
            chain.put(each)
        self._entries.append(Entry(action, now, changed))
        return changed[-1]

    def _now(self) -> datetime:
        # Rounded, so that a time is the same here and on the wire.
        return datetime.fromtimestamp(round(self._clock(), 3), UTC)


def _unknown(name: str) -> ValueError:
    return ValueError(
        f"The local marketplace knows no agreement {name!r}. Name one by its id, by its license ARN, or for a "
        "legacy product by its customer identifier or product_code:aws_account_id."
    )


def _names(agreement: Agreement, name: str) -> bool:
    if agreement.license_arn:
        return license_id_of(agreement.license_arn) == license_id_of(name)
    return name in (agreement.customer_identifier, f"{agreement.product.code}:{agreement.account_id}")
