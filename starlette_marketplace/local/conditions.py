"""What can be set while the marketplace runs, in the words and units of people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NUMBER = re.compile(r"\d{1,9}(\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Condition:
    """One number that people set.

    Attributes:
        name: Its name in forms and on the command line.
        attribute: Its name in Python.
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
    title: str
    unit: str
    help: str
    per_unit: float
    lowest: int
    highest: int
    may_be_empty: bool = False

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
        "latency",
        "delay",
        "Latency",
        "milliseconds",
        "AWS takes this much longer for every answer.",
        per_unit=0.001,
        lowest=0,
        highest=60_000,
    ),
    Condition(
        "error-rate",
        "error_rate",
        "Error rate",
        "percent",
        "So many calls fail by chance: one half with ThrottlingException (400), the other with "
        "InternalServiceErrorException (500).",
        per_unit=0.01,
        lowest=0,
        highest=100,
    ),
    Condition(
        "token-life",
        "token_life",
        "Token life",
        "seconds",
        "Older tokens get ExpiredTokenException (400). A life begins when the storefront is shown. Empty: they never "
        "expire.",
        per_unit=1,
        lowest=1,
        highest=86_400,
        may_be_empty=True,
    ),
)
"""What can be set of the local marketplace, in the order in which people are asked."""


def read_conditions(texts: Mapping[str, str]) -> tuple[dict[str, float | None], dict[str, str]]:
    """Read what was typed for conditions.

    Args:
        texts: What was typed, by the names of all conditions or some.

    Returns:
        The values by attribute, and what is wrong with the others by name.
    """
    values: dict[str, float | None] = {}
    errors: dict[str, str] = {}
    for condition in (condition for condition in CONDITIONS if condition.name in texts):
        try:
            values[condition.attribute] = condition.read(texts[condition.name])
        except ValueError as exc:
            errors[condition.name] = str(exc)
    return values, errors
