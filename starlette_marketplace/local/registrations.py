"""ResolveCustomer calls, told by registration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .calls import ResolveCall
    from .scenarios import Scenario


@dataclass(frozen=True, slots=True)
class SeenRegistration:
    """The calls for one registration token.

    Attributes:
        id: What tells it from others, in the page.
        calls: The calls, oldest first.
    """

    id: str
    calls: tuple[ResolveCall, ...]

    @property
    def latest(self) -> ResolveCall:
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
    def retries(self) -> int:
        """How many calls an SDK has made because the one before had failed."""
        return sum((call.request.attempt or 1) > 1 for call in self.calls)


def group(calls: Iterable[ResolveCall]) -> list[SeenRegistration]:
    """Tell calls, oldest first, by registration: the one with the latest call first."""
    found: dict[str, list[ResolveCall]] = {}
    for call in calls:
        its_calls = found.pop(call.request.registration, [])
        its_calls.append(call)
        found[call.request.registration] = its_calls
    return [SeenRegistration(name, tuple(its)) for name, its in reversed(found.items())]
