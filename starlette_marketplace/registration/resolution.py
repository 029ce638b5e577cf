"""`Resolutions`: each registration token is asked about once, and its outcome is kept for a while.

A resolution is a future in threads of our own. It belongs to no request: callers wait for it, each with its own
deadline and in its own event loop. Whoever leaves, it finishes and is kept.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import anyio.lowlevel
from cachetools import TLRUCache

from ..clocks import monotonic
from ..errors import DeadlineExceededError, MarketplaceError, OverloadedError, TokenError, UnavailableError, copy_of
from ..keys import Keys
from ..telemetry import Telemetry
from ..threads import CallSoon, Threads, call_after_fork
from .kept import HiddenToken, key_of, lifetime

if TYPE_CHECKING:
    from ..customer import MarketplaceCustomer
    from ..settings import MarketplaceSettings
    from .resolver import Resolver

R = TypeVar("R")


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A caller, in an event loop of its own.

    Attributes:
        call_soon: That of its loop.
        ended: What the caller waits for.
    """

    call_soon: CallSoon
    ended: anyio.Event


@dataclass(slots=True, eq=False, repr=False)
class _Flight(Generic[R]):
    """A job in our threads, and those who wait for it."""

    wanted_until: float = math.inf
    waiting: list[_Waiting] = field(default_factory=list)
    future: Future[R] = field(init=False)


class Resolutions:
    """Resolves tokens, one call to the resolver for each, however many ask.

    Args:
        settings: Keys, limits and lifetimes.
        resolver: Asks AWS.
        telemetry: Takes note of what happens.
        timer: Seconds from any beginning, never running backwards.
    """

    def __init__(
        self,
        settings: MarketplaceSettings,
        resolver: Resolver,
        *,
        telemetry: Telemetry | None = None,
        timer: Callable[[], float] = monotonic,
    ) -> None:
        self._resolver = resolver
        self._telemetry = Telemetry() if telemetry is None else telemetry
        self._timer = timer
        self._deadline = settings.deadline
        self._settings = settings
        self._cache_size = settings.cache_size
        self._threads = settings.max_concurrency
        self._limit = settings.max_concurrency + settings.max_waiting
        self._keys = Keys(settings, "token")
        self._begin()
        call_after_fork(self._begin)

    def _begin(self) -> None:
        # Guards all below; reentrant, as a future that has ended already calls back at once.
        self._lock = threading.RLock()
        self._executor: Threads | None = None
        self._flights: dict[str, _Flight[MarketplaceCustomer]] = {}
        self._outcomes: TLRUCache[str, MarketplaceCustomer | TokenError] = TLRUCache(
            self._cache_size, ttu=self._keep_until, timer=self._timer
        )

    async def resolve(self, token: str, *, deadline: float | None = None) -> MarketplaceCustomer:
        """The customer of `token`, from the cache, from a call under way, or by asking.

        Args:
            token: The registration token.
            deadline: When to give up, by `anyio.current_time()`; None after the seconds of the setting.

        Raises:
            MarketplaceError: What the resolver raised.
            DeadlineExceededError: There is no outcome by then.
            OverloadedError: Too many wait already.
            UnavailableError: The server is shutting down.
        """
        hidden = HiddenToken(token)
        del token
        key = key_of(hidden, self._keys)
        if deadline is None:
            deadline = anyio.current_time() + self._deadline
        with self._lock:
            found = self._outcomes.get(key) or self._join(key, hidden, deadline)
        if isinstance(found, _Flight):
            outcome = await self._land(found, deadline)
        else:
            self._telemetry.looked_up("cached")
            outcome = found
        if isinstance(outcome, MarketplaceError):
            # A copy for each caller: one exception raised by many would gather all their tracebacks.
            raise copy_of(outcome) from outcome.__cause__
        return outcome

    def close(self) -> None:
        """Refuse what has not begun. A later `resolve` starts anew, so that an app can be started again."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.close()

    async def run(self, function: Callable[[], None], *, deadline: float) -> None:
        """Run `function` in the threads that resolutions run in.

        Args:
            function: What to run. It goes on when nobody waits for it any longer.
            deadline: When to stop waiting, by `anyio.current_time()`.

        Raises:
            DeadlineExceededError: It has not ended by then.
            OverloadedError: No thread can be started.
            UnavailableError: The server is shutting down.
        """
        flight: _Flight[None] = _Flight()
        with self._lock:
            self._start(flight, function)
            flight.future.add_done_callback(functools.partial(self._wake, flight))
        outcome = await self._land(flight, deadline)
        if outcome is not None:
            raise outcome

    def _join(self, key: str, token: HiddenToken, deadline: float) -> _Flight[MarketplaceCustomer]:
        wanted_until = self._timer() + deadline - anyio.current_time()
        flight = self._flights.get(key)
        if flight is not None:
            flight.wanted_until = max(flight.wanted_until, wanted_until)
            self._telemetry.looked_up("joined")
            return flight
        flight = _Flight(wanted_until)
        try:
            if len(self._flights) >= self._limit:
                raise OverloadedError(
                    f"{self._limit} resolutions are under way or wait for a thread already.",
                    "If AWS is not slow, raise max_concurrency; against a flood, let on_request limit the rate.",
                )
            self._start(flight, self._telemetry.carried(self._resolve), flight, token)
        except OverloadedError:
            self._telemetry.looked_up("refused")
            raise
        self._telemetry.looked_up("asked")
        self._telemetry.queued()
        self._flights[key] = flight
        # Before its callers wake, so that one who asks again at once does not join what has ended.
        flight.future.add_done_callback(functools.partial(self._landed, key))
        flight.future.add_done_callback(functools.partial(self._wake, flight))
        return flight

    def _start(self, flight: _Flight[R], function: Callable[..., R], *args: object) -> None:
        if self._executor is None:
            self._executor = Threads(self._threads)
        flight.future = self._executor.submit(function, *args, call_soon=_call_soon())

    async def _land(self, flight: _Flight[R], deadline: float) -> R | MarketplaceError:
        with anyio.CancelScope(deadline=deadline) as scope:
            await self._ended(flight)
        if scope.cancelled_caught:
            return DeadlineExceededError(
                f"AWS gave no answer within {self._deadline} s. The call goes on, and the next try finds its outcome."
            )
        future = flight.future
        if future.cancelled():
            return UnavailableError("The server is shutting down.")
        error = future.exception()
        return error if isinstance(error, MarketplaceError) else future.result()

    async def _ended(self, flight: _Flight[Any]) -> None:
        """Wait until `flight` has ended, on asyncio or trio."""
        caller = _Waiting(_call_soon(), anyio.Event())
        with self._lock:
            if flight.future.done():
                return
            flight.waiting.append(caller)
        try:
            await caller.ended.wait()
        finally:
            with self._lock:
                flight.waiting.remove(caller)

    def _wake(self, flight: _Flight[Any], _: Future[Any]) -> None:
        with self._lock:
            waiting = list(flight.waiting)
        # Without the lock: waking gives up the GIL, and a loop would wait for both.
        for caller in waiting:
            with suppress(RuntimeError):  # The loop has gone, and the caller with it.
                caller.call_soon(caller.ended.set)

    def _landed(self, key: str, future: Future[MarketplaceCustomer]) -> None:
        with self._lock:
            del self._flights[key]
            if future.cancelled():
                self._telemetry.cancelled()
                return
            error = future.exception()
            if isinstance(error, TokenError):
                # Without its traceback, which would keep the token and the request alive.
                self._outcomes[key] = copy_of(error)
            elif error is None:
                self._outcomes[key] = future.result()

    def _keep_until(self, key: str, outcome: MarketplaceCustomer | TokenError, now: float) -> float:
        return now + lifetime(outcome, self._settings)

    def _resolve(self, flight: _Flight[MarketplaceCustomer], token: HiddenToken) -> MarketplaceCustomer:
        with self._telemetry.resolution():
            if self._timer() > flight.wanted_until:
                raise OverloadedError("Everyone who waited for this resolution has left before it began.")
            return self._resolver.resolve(token.value)


def _call_soon() -> CallSoon:
    """That of this event loop, on asyncio or trio. Neither waits for it, as anyio.from_thread.run_sync would."""
    loop: Any = anyio.lowlevel.current_token().native_token
    call_soon: CallSoon = loop.run_sync_soon if hasattr(loop, "run_sync_soon") else loop.call_soon_threadsafe
    return call_soon
