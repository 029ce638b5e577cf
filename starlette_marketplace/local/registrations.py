"""Calls, told by registration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .scenarios import SCENARIOS
from .wire import RESOLVE_CUSTOMER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .calls import Call
    from .scenario import Scenario


@dataclass(frozen=True, slots=True)
class SeenRegistration:
    """The calls for one registration token, and those about its subscription.

    Calls about no subscription, or about several, are told by their operation.

    Attributes:
        id: What tells it from others, in the page.
        calls: The calls, oldest first.
    """

    id: str
    calls: tuple[Call, ...]

    @property
    def latest(self) -> Call:
        """The call that has begun last."""
        return self.calls[-1]

    @property
    def version(self) -> str:
        """Another one after every change."""
        return f"{len(self.calls)}.{sum(call.seconds is not None for call in self.calls)}"

    @property
    def scenario(self) -> Scenario | None:
        """What the buyer has arrived with; None when nobody knows."""
        return next((SCENARIOS[call.scenario] for call in self.calls if call.scenario), None)

    @property
    def token(self) -> str | None:
        """The registration token, shortened; None when there is none that can be read."""
        return next((call.request.token for call in self.calls if call.request.token), None)

    @property
    def title(self) -> str:
        """What it is, for people."""
        if self.scenario:
            return self.scenario.title
        if self.latest.operation != RESOLVE_CUSTOMER:
            return self.latest.operation
        return "Unknown token" if self.token else "No token"

    @property
    def retries(self) -> int:
        """How many calls an SDK has made because the one before had failed."""
        return sum((call.request.attempt or 1) > 1 for call in self.calls)


def group(calls: Iterable[Call]) -> list[SeenRegistration]:
    """Tell calls, oldest first, by registration: the one with the latest call first."""
    found: dict[str, list[Call]] = {}
    # A subscription has as many registrations as tokens: what is asked later belongs to the latest of them.
    registrations: dict[str, str] = {}
    for call in calls:
        name = call.request.registration
        if call.operation != RESOLVE_CUSTOMER:
            name = registrations.get(call.subscription, call.subscription) if call.subscription else call.operation
        elif call.subscription:
            registrations[call.subscription] = name
        its_calls = found.pop(name, [])
        its_calls.append(call)
        found[name] = its_calls
    return [SeenRegistration(name, tuple(its)) for name, its in reversed(found.items())]
