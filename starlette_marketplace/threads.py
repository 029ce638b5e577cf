"""`Threads`: a bounded number of threads of our own for what blocks."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from .clocks import monotonic
from .errors import OverloadedError

R = TypeVar("R")


CallSoon = Callable[[Callable[[], None]], object]
"""Has a function called by an event loop, from any thread. Raises a RuntimeError when the loop has gone."""


class Threads:
    """Runs jobs in at most `limit` threads, started when they are needed.

    A job that has to wait is handed out by the event loop that wants it. Threads that took the next job by themselves
    would hold the GIL one after the other, and boto3's work would come before all other routes of the host.

    `concurrent.futures.ThreadPoolExecutor` keeps a job that it has refused because no thread could start, and makes the
    interpreter wait at its end for a job that hangs.

    Args:
        limit: Threads at most.
        idle_timeout: Seconds after which a thread with nothing to do ends.
        timer: Seconds from any beginning, never running backwards.
    """

    # Seconds after which a job is begun without its event loop, which stands still or does not run any longer.
    _PATIENCE = 1.0

    def __init__(self, limit: int, *, idle_timeout: float = 30.0, timer: Callable[[], float] = monotonic) -> None:
        self._limit = limit
        self._idle_timeout = idle_timeout
        self._timer = timer
        self._begin()
        call_after_fork(self._begin)

    def _begin(self) -> None:
        # What the threads take from. No more jobs are in it than there are threads that have nothing to do.
        self._queue: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        # Guards all below.
        self._lock = threading.Lock()
        self._running = 0
        # Jobs that have a thread, or are about to get one.
        self._begun = 0
        self._waiting: deque[_Job[Any]] = deque()
        # Those that their event loop has been asked to hand out, and when.
        self._handed: dict[_Job[Any], float] = {}

    def submit(self, function: Callable[..., R], *args: object, call_soon: CallSoon | None = None) -> Future[R]:
        """Have `function` called in one of the threads.

        Args:
            function: The job.
            *args: What it is called with.
            call_soon: That of the event loop that wants it; None leaves it to the threads.

        Raises:
            OverloadedError: There is no thread, and none can be started. Nothing of the job is kept.
        """
        job = _Job(function, args, call_soon)
        with self._lock:
            if self._begun >= self._running and self._running < self._limit:
                self._start()
            if self._begun < self._running:
                self._begun += 1
                self._queue.put(job)
            else:
                self._waiting.append(job)
        self._begin_overdue()
        return job.future

    def close(self) -> None:
        """Cancel the jobs that have not begun, and let the threads end. No job may be submitted any more."""
        with self._lock:
            cancelled = [*self._handed, *self._waiting]
            self._begun -= len(self._handed)
            self._handed.clear()
            self._waiting.clear()
            for _ in range(self._running):
                self._queue.put(None)
        # Outside of the lock, as their callers are told.
        for job in cancelled:
            job.future.cancel()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name="starlette-marketplace", daemon=True).start()
        except RuntimeError as exc:
            if not self._running:
                raise OverloadedError(
                    f"No thread could be started ({exc}).",
                    "Raise the limit of processes of this container, or lower max_concurrency.",
                ) from exc
        else:
            self._running += 1

    def _work(self) -> None:
        while (job := self._next()) is not None:
            _run(job)
            # Not kept while the thread waits for another: a job can hold a token.
            del job
            self._hand_out()

    def _next(self) -> _Job[Any] | None:
        while True:
            with suppress(Empty):
                # For each job that an event loop was asked to begin, a thread has nothing to do but wait for it.
                job = self._queue.get(timeout=self._PATIENCE if self._handed else self._idle_timeout)
                if job is None:
                    with self._lock:
                        self._running -= 1
                return job
            with self._lock:
                # Otherwise a job is on its way to this thread.
                if self._begun < self._running:
                    self._running -= 1
                    return None
            self._begin_overdue()

    def _hand_out(self) -> None:
        """Let the event loop of the job that has waited longest put it into the queue."""
        with self._lock:
            if not self._waiting:
                self._begun -= 1
                return
            job = self._waiting.popleft()
            self._handed[job] = self._timer()
        if job.call_soon is None:
            self._put(job)
        else:
            try:
                job.call_soon(functools.partial(self._put, job))
            except RuntimeError:  # The loop has gone, and with it those who wanted the job.
                self._put(job)
        self._begin_overdue()

    def _put(self, job: _Job[Any]) -> None:
        with self._lock:
            # It may be begun already, or the threads are closed.
            if self._handed.pop(job, None) is not None:
                self._queue.put(job)

    def _begin_overdue(self) -> None:
        with self._lock:
            overdue = [job for job, since in self._handed.items() if self._timer() - since > self._PATIENCE]
        for job in overdue:
            self._put(job)


@dataclass(frozen=True, slots=True, eq=False)
class _Job(Generic[R]):
    function: Callable[..., R]
    args: tuple[object, ...]
    call_soon: CallSoon | None
    future: Future[R] = field(default_factory=Future)


def _run(job: _Job[Any]) -> None:
    if not job.future.set_running_or_notify_cancel():
        return
    try:
        result = job.function(*job.args)
    except BaseException as exc:  # noqa: BLE001 - it belongs to whoever waits for the future.
        job.future.set_exception(exc)
        # The traceback holds this frame: with the job in it, they would keep each other alive.
        del job
    else:
        job.future.set_result(result)


def call_after_fork(method: Callable[[], None]) -> None:
    """Call the bound `method` in each child that this process forks, for as long as its object lives.

    A child has none of its parent's threads, its locks may be held by one of them, and its connections are shared with
    the parent: what is read from one of these may be the answer to the other.
    """
    if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows does not fork.
        weak = weakref.WeakMethod(method)
        os.register_at_fork(after_in_child=lambda: (alive := weak()) and alive())
