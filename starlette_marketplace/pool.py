"""`Pool`: threads of our own that any event loop can wait for, with one limit for all calls in them."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import anyio.lowlevel

from .errors import DeadlineExceededError, MarketplaceError, OverloadedError, UnavailableError
from .threads import CallSoon, Threads, call_after_fork

if TYPE_CHECKING:
    from .settings import MarketplaceSettings

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
class Flight(Generic[R]):
    """A call in our threads, and those who wait for it."""

    wanted_until: float = math.inf
    is_begun: bool = False
    waiting: list[_Waiting] = field(default_factory=list)
    future: Future[R] = field(init=False)


class Pool:
    """Threads of our own, and one limit for all calls in them.

    Args:
        settings: How many threads, how many calls that wait, and how long a caller waits at most.
    """

    def __init__(self, settings: MarketplaceSettings) -> None:
        self._deadline = settings.deadline
        self._threads = settings.max_concurrency
        self._limit = settings.max_concurrency + settings.max_waiting
        self._begin()
        call_after_fork(self._begin)

    def _begin(self) -> None:
        # Guards all below and what each kind of call keeps; reentrant, as a future that has ended calls back at once.
        self._lock = threading.RLock()
        self._executor: Threads | None = None
        self._under_way = 0

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Guards the pool, and what each kind of call keeps."""
        return self._lock

    def deadline(self) -> float:
        """When a caller that comes now is to give up, by `anyio.current_time()`."""
        return anyio.current_time() + self._deadline

    def begin(self, flight: Flight[R], function: Callable[[], R]) -> None:
        """Have `flight` call `function` in a thread, with the lock held.

        Raises:
            OverloadedError: Too many calls are under way or wait already, or no thread can be started.
        """
        if self._under_way >= self._limit:
            raise OverloadedError(
                f"{self._limit} calls to AWS are under way or wait for a thread already.",
                "If AWS is not slow, raise max_concurrency; against a flood, limit the rate of requests.",
            )
        self._start(flight, function)
        self._under_way += 1

    def end(self) -> None:
        """One call less is under way, with the lock held."""
        self._under_way -= 1

    async def land(self, flight: Flight[R], deadline: float) -> R | MarketplaceError:
        """What `flight` ends with; waits until `deadline`, by `anyio.current_time()`."""
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

    def wake(self, flight: Flight[Any], _: Future[Any]) -> None:
        """Tell those who wait for `flight` that it has ended."""
        with self._lock:
            waiting = list(flight.waiting)
        # Without the lock: waking gives up the GIL, and a loop would wait for both.
        for caller in waiting:
            with suppress(RuntimeError):  # The loop has gone, and the caller with it.
                caller.call_soon(caller.ended.set)

    async def run(self, function: Callable[[], None], *, deadline: float) -> None:
        """Run `function` in the threads that calls run in, whatever their limit.

        Args:
            function: What to run. It goes on when nobody waits for it any longer.
            deadline: When to stop waiting, by `anyio.current_time()`.

        Raises:
            DeadlineExceededError: It has not ended by then.
            OverloadedError: No thread can be started.
            UnavailableError: The server is shutting down.
        """
        flight: Flight[None] = Flight()
        with self._lock:
            self._start(flight, function)
            flight.future.add_done_callback(functools.partial(self.wake, flight))
        outcome = await self.land(flight, deadline)
        if outcome is not None:
            raise outcome

    def close(self) -> None:
        """Refuse what has not begun. A later call starts anew, so that an app can be started again."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.close()

    def _start(self, flight: Flight[R], function: Callable[[], R]) -> None:
        if self._executor is None:
            self._executor = Threads(self._threads)
        flight.future = self._executor.submit(function, call_soon=_call_soon())

    async def _ended(self, flight: Flight[Any]) -> None:
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


def _call_soon() -> CallSoon:
    """That of this event loop, on asyncio or trio. Neither waits for it, as anyio.from_thread.run_sync would."""
    loop: Any = anyio.lowlevel.current_token().native_token
    call_soon: CallSoon = loop.run_sync_soon if hasattr(loop, "run_sync_soon") else loop.call_soon_threadsafe
    return call_soon
