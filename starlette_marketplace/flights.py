"""`Flights`: one call in our threads for each key, however many ask, whose outcome is kept for a while.

A call belongs to no request. Callers wait for it, each with its own deadline and in its own event loop. When they
leave, it still finishes and is kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

import anyio
from cachetools import TLRUCache

from .clocks import monotonic
from .errors import MarketplaceError, OverloadedError, copy_of
from .pool import Flight, Pool
from .telemetry import Telemetry
from .threads import call_after_fork

R = TypeVar("R")


class Flights(Generic[R]):
    """One kind of call: one for each key at a time, and their outcomes.

    Args:
        pool: The threads, and the limit.
        size: Outcomes that are kept at most.
        lifetime: Seconds that an outcome is kept; 0 does not keep it.
        telemetry: Takes note of what happens.
        timer: Seconds from any beginning, never running backwards.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        size: int,
        lifetime: Callable[[R | MarketplaceError], float],
        telemetry: Telemetry | None = None,
        timer: Callable[[], float] = monotonic,
    ) -> None:
        self._pool = pool
        self._size = size
        self._lifetime = lifetime
        self._telemetry = Telemetry() if telemetry is None else telemetry
        self._timer = timer
        self._begin()
        call_after_fork(self._begin)

    def _begin(self) -> None:
        self._flights: dict[Hashable, Flight[R]] = {}
        self._outcomes: TLRUCache[Hashable, R | MarketplaceError] = TLRUCache(
            self._size, ttu=lambda key, outcome, now: now + self._lifetime(outcome), timer=self._timer
        )

    async def get(
        self, key: Hashable, call: Callable[[], R], *, deadline: float | None = None, refresh: bool = False
    ) -> R:
        """The outcome for `key`: one that is kept, that of a call under way, or that of `call`.

        A refresh joins no call that has begun before it, which may have been answered before something changed.

        Args:
            key: What is asked.
            call: Asks. It is kept for as long as the call lasts, so it must show no secret.
            deadline: When to give up, by `anyio.current_time()`; None after the seconds of the setting.
            refresh: Whether to pass over what is kept.

        Raises:
            MarketplaceError: What `call` raised.
            DeadlineExceededError: There is no outcome by then.
            OverloadedError: Too many wait already.
            UnavailableError: The server is shutting down.
        """
        if deadline is None:
            deadline = self._pool.deadline()
        with self._pool.lock:
            outcome = None if refresh else self._outcomes.get(key)
            flight = self._join(key, call, deadline, refresh=refresh) if outcome is None else None
        if flight is not None:
            outcome = await self._pool.land(flight, deadline)
        else:
            self._telemetry.looked_up("cached")
        if isinstance(outcome, MarketplaceError):
            # A copy for each caller: one exception raised by many would gather all their tracebacks.
            raise copy_of(outcome) from outcome.__cause__
        return outcome  # type: ignore[return-value]  # no call gives None

    def _join(self, key: Hashable, call: Callable[[], R], deadline: float, *, refresh: bool) -> Flight[R]:
        wanted_until = self._timer() + deadline - anyio.current_time()
        flight = self._flights.get(key)
        if flight is not None and not (refresh and flight.is_begun):
            flight.wanted_until = max(flight.wanted_until, wanted_until)
            self._telemetry.looked_up("joined")
            return flight
        flight = Flight(wanted_until)
        try:
            self._pool.begin(flight, self._telemetry.carried(functools.partial(self._call, flight, call)))
        except OverloadedError:
            self._telemetry.looked_up("refused")
            raise
        self._telemetry.looked_up("asked")
        self._telemetry.queued()
        self._flights[key] = flight
        # Before its callers wake, so that one who asks again at once does not join what has ended.
        flight.future.add_done_callback(functools.partial(self._landed, key, flight))
        flight.future.add_done_callback(functools.partial(self._pool.wake, flight))
        return flight

    def _call(self, flight: Flight[R], call: Callable[[], R]) -> R:
        with self._telemetry.resolution():
            if self._timer() > flight.wanted_until:
                raise OverloadedError("Everyone who waited for this call has left before it began.")
            flight.is_begun = True
            return call()

    def _landed(self, key: Hashable, flight: Flight[R], future: Future[R]) -> None:
        with self._pool.lock:
            self._pool.end()
            is_newest = self._flights.get(key) is flight
            if is_newest:
                del self._flights[key]
            if future.cancelled():
                self._telemetry.cancelled()
            elif is_newest:
                self._keep(key, future)

    def _keep(self, key: Hashable, future: Future[R]) -> None:
        error = future.exception()
        if isinstance(error, MarketplaceError):
            if self._lifetime(error):
                # Without its traceback, which would keep the token and the request alive.
                self._outcomes[key] = copy_of(error)
        elif error is None:
            self._outcomes[key] = future.result()
