"""Who is shopping, and who was."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from .agreements import Agreement
    from .answers import Members
    from .chains import Chain
    from .ledger import Ledger
    from .scenario import Scenario

# Fewer than there are companies, so that no two buyers have the same name.
MOST_BUYERS = 8
"""How many buyers are kept; the oldest go first."""

MOST_AGREEMENTS = 10
"""How many agreements a buyer can have for one subscription."""

_COMPANIES = (
    "Alpine Rail",
    "Blue Heron Logistics",
    "Cobalt Mutual",
    "Dunmore Textiles",
    "Evergreen Schools",
    "Juniper & Sons",
    "Kestrel Robotics",
    "Marigold Health",
    "Quarry Lane Bakery",
    "Saltmarsh Energy",
    "Tidewater Foods",
    "Willow Street Press",
)


class Buyer:
    """A company with an AWS account, and its agreements for each of its subscriptions.

    Args:
        ledger: Where the agreements are kept.
        unlike: Companies that this one will not be.
    """

    def __init__(self, ledger: Ledger, *, unlike: Collection[str] = ()) -> None:
        self._ledger = ledger
        self.company: str = secrets.choice([name for name in _COMPANIES if name not in unlike])
        self.account_id: str = f"{secrets.randbelow(10**12):012}"
        self._chains: dict[str, list[Chain]] = {}
        self._lock = threading.Lock()

    def agreements(self, scenario: Scenario) -> list[Agreement]:
        """Give the agreements for a subscription, oldest first: one, unless it was bought again.

        Of those that were renewed or replaced, the newest is given.
        """
        return [self._ledger.newest_of(chain) for chain in self._kept(scenario)]

    def identify(self, scenario: Scenario) -> Members:
        """Give what ResolveCustomer answers for this buyer's first agreement, or the newest that has followed it."""
        return self.agreements(scenario)[0].identity

    def can_buy_again(self, scenario: Scenario) -> bool:
        """Whether there may be one more agreement for a subscription."""
        return scenario.can_be_bought_again and len(self._kept(scenario)) < MOST_AGREEMENTS

    def buy_again(self, scenario: Scenario) -> Agreement:
        """Add an agreement of the same account and product, with a license of its own.

        Raises:
            ValueError: Nobody buys this again, or it was bought often enough.
        """
        if not self.can_buy_again(scenario):
            raise ValueError(
                f"{scenario.slug!r} cannot be bought again: only a subscription to a product with licenses can, "
                f"up to {MOST_AGREEMENTS} times"
            )
        chain = self._ledger.buy(self.account_id, scenario)
        self._kept(scenario).append(chain)
        return chain.newest

    def _kept(self, scenario: Scenario) -> list[Chain]:
        with self._lock:
            if scenario.slug not in self._chains:
                self._chains[scenario.slug] = [self._ledger.buy(self.account_id, scenario)]
            return self._chains[scenario.slug]


class Buyers:
    """The buyers of the run, one of whom is shopping.

    Args:
        ledger: Where their agreements are kept.

    Attributes:
        current: Who is shopping.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.current: Buyer = Buyer(ledger)
        self._kept = {self.current.account_id: self.current}
        self._lock = threading.Lock()

    @property
    def others(self) -> list[Buyer]:
        """The buyers that can be gone back to, newest first."""
        return [buyer for buyer in reversed(list(self._kept.values())) if buyer is not self.current]

    def find(self, account_id: str) -> Buyer | None:
        """Give the buyer with this AWS account; None when there is none that is kept."""
        return self._kept.get(account_id)

    def add(self) -> None:
        """Let a new buyer shop."""
        with self._lock:
            self.current = Buyer(self._ledger, unlike={buyer.company for buyer in self._kept.values()})
            self._kept[self.current.account_id] = self.current
            if len(self._kept) > MOST_BUYERS:
                del self._kept[next(iter(self._kept))]

    def go_back_to(self, account_id: str) -> None:
        """Let a buyer of before shop again.

        Raises:
            LookupError: No buyer that is kept has this account.
        """
        with self._lock:
            if account_id not in self._kept:
                raise LookupError("no buyer that is kept has this AWS account")
            self.current = self._kept[account_id]

    def clear(self) -> None:
        """Forget every buyer, and let a new one shop."""
        self.add()
        with self._lock:
            self._kept = {self.current.account_id: self.current}
