"""What can be set while the marketplace runs, by code and in the words and units of people."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NUMBER = re.compile(r"\d{1,9}(\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A number of `Conditions`: what it may be, and how people type it.

    Attributes:
        name: Its name in forms and on the command line.
        attribute: Its name in Python.
        rule: What it may be in Python, in words.
        allows: Whether it may be a number in Python.
        title: Its name for people.
        unit: What the number counts.
        help: What it does.
        per_unit: How much of the attribute one unit is.
        lowest: The least that can be set, in the unit.
        highest: The most that can be set, in the unit.
        may_be_empty: Whether there may be no number, which is None in Python.
    """

    name: str
    attribute: str
    rule: str
    allows: Callable[[float], bool]
    title: str
    unit: str
    help: str
    per_unit: float
    lowest: int
    highest: int
    may_be_empty: bool = False

    def check(self, value: float | None) -> None:
        """Check the attribute's value.

        Raises:
            ValueError: It cannot be; the message says what can.
        """
        if not (self.may_be_empty if value is None else self.allows(value)):
            raise ValueError(f"{self.attribute} is {self.rule}, not {value!r}")

    def read(self, text: str) -> float | None:
        """Read what somebody has typed into the attribute's value.

        Raises:
            ValueError: It is not a number that can be set; the message says which can.
        """
        text = text.strip()
        if self.may_be_empty and not text:
            return None
        if not (_NUMBER.fullmatch(text) and self.lowest <= float(text) <= self.highest):
            raise ValueError(f"{self.title} is a number of {self.unit} from {self.lowest} to {self.highest}")
        return float(text) * self.per_unit

    def show(self, value: float | None) -> str:
        """Write the attribute's value as people type it."""
        return "" if value is None else f"{value / self.per_unit:.6f}".rstrip("0").rstrip(".")


CONDITIONS = (
    Condition(
        name="latency",
        attribute="delay",
        rule="a number of seconds from 0",
        allows=lambda seconds: 0 <= seconds < math.inf,
        title="Latency",
        unit="milliseconds",
        help="AWS takes this much longer for every answer.",
        per_unit=0.001,
        lowest=0,
        highest=60_000,
    ),
    Condition(
        name="error-rate",
        attribute="error_rate",
        rule="a share from 0 to 1",
        allows=lambda share: 0 <= share <= 1,
        title="Error rate",
        unit="percent",
        help="So many calls fail by chance: one half is throttled, the other fails with an internal error of AWS.",
        per_unit=0.01,
        lowest=0,
        highest=100,
    ),
    Condition(
        name="token-life",
        attribute="token_life",
        rule="a number of seconds above 0 or None",
        allows=lambda seconds: seconds > 0,
        title="Token life",
        unit="seconds",
        help="Older tokens get ExpiredTokenException (400). A life begins when the storefront is shown. Empty: they "
        "never expire.",
        per_unit=1,
        lowest=1,
        highest=86_400,
        may_be_empty=True,
    ),
)
"""What can be set of the local marketplace, in the order in which people are asked."""


@dataclass
class Conditions:
    """What can be set while the marketplace runs, checked when code sets it; what people type has its own bounds.

    Attributes:
        registration_url: Where *Set up your account* sends buyers.
        delay: Seconds that AWS takes to answer each call.
        error_rate: The share of calls that fail by chance, from 0 to 1.
        token_life: Seconds after which a token has expired; None lets it live for as long as it is remembered.

    Raises:
        ValueError: A delay, error rate or token life cannot be, here or when it is set later.
    """

    registration_url: str
    delay: float
    error_rate: float
    token_life: float | None

    def __post_init__(self) -> None:
        self._at_first = vars(self).copy()

    def __setattr__(self, name: str, value: Any) -> None:
        for condition in CONDITIONS:
            if condition.attribute == name:
                condition.check(value)
        super().__setattr__(name, value)

    def show(self) -> dict[str, str]:
        """Write what is set as people type it, by the conditions' names."""
        return {condition.name: condition.show(getattr(self, condition.attribute)) for condition in CONDITIONS}

    def read(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Set what people have typed, unless some of it cannot be.

        Args:
            texts: What was typed, by the names of all conditions.

        Returns:
            What is wrong, by the conditions' names; then nothing is set.
        """
        values: dict[str, float | None] = {}
        errors: dict[str, str] = {}
        shown = self.show()
        # Code can set more than people can type: what nobody has changed stays as it is, to its last digit.
        for condition in (condition for condition in CONDITIONS if texts[condition.name] != shown[condition.name]):
            try:
                values[condition.attribute] = condition.read(texts[condition.name])
            except ValueError as exc:
                errors[condition.name] = str(exc)
        if not errors:
            vars(self).update(values)
        return errors

    def reset(self) -> None:
        """Set everything to what it was at first."""
        vars(self).update(self._at_first)
