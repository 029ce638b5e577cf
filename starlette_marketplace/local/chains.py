"""Agreements that follow one another, and what has happened to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from .agreements import Agreement

Action: TypeAlias = Literal[
    "bought", "plan changed", "cancelled", "expired", "renewed", "replaced", "suspended", "resumed", "prepared"
]
"""What can happen to an agreement."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that has happened.

    Attributes:
        action: What it was.
        at: When.
        agreements: What the agreement became, and after that the one that follows it, if one does.
    """

    action: Action
    at: datetime
    agreements: tuple[Agreement, ...]


class Chain:
    """An agreement, and those that have renewed or replaced it one after the other.

    Attributes:
        agreements: The agreements, oldest first.
        arrived_at: When ResolveCustomer first named the buyer, by the timer; None before.
    """

    def __init__(self, first: Agreement) -> None:
        self.agreements: tuple[Agreement, ...] = (first,)
        self.arrived_at: float | None = None

    @property
    def newest(self) -> Agreement:
        """The agreement that is in force, or was last."""
        return self.agreements[-1]

    @property
    def is_known(self) -> bool:
        """Whether AWS tells of it: of what went wrong, only after the buyer has come."""
        return self.newest.scenario.is_subscription or self.arrived_at is not None

    def put(self, agreement: Agreement) -> None:
        """Put an agreement in the place of what it was before, or at the end."""
        kept = {known.id: known for known in self.agreements}
        self.agreements = tuple({**kept, agreement.id: agreement}.values())
