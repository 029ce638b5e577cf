"""What buyers can choose of a product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Quantity: TypeAlias = int | float | bool | str
"""How much a buyer is entitled to; its type is the type of the dimension."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A choice of how much of each dimension to buy.

    Attributes:
        name: Its name for people and in code.
        entitlements: The dimensions by their API names, each with its quantity.
    """

    name: str
    entitlements: tuple[tuple[str, Quantity], ...]
