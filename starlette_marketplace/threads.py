"""`Threads`: a bounded number of threads of our own for what blocks."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from .errors import OverloadedError

R = TypeVar("R")


class Threads:
    """Runs jobs in at most `limit` threads, started when they are needed.

    `concurrent.futures.ThreadPoolExecutor` keeps a job that it has refused because no thread could start, and makes the
    interpreter wait at its end for a job that hangs.

    Args:
        limit: Threads at most.
        idle_timeout: Seconds after which a thread with nothing to do ends.
    """

    def __init__(self, limit: int, *, idle_timeout: float = 30.0) -> None:
        self._limit = limit
        self._idle_timeout = idle_timeout
        self._begin()
        call_after_fork(self._begin)

    def _begin(self) -> None:
        self._condition = threading.Condition()
        self._work_queue: SimpleQueue[_Job[Any]] = SimpleQueue()
        self._running = 0
        self._idle = 0
        self._is_closed = False

    def submit(self, function: Callable[..., R], *args: object) -> Future[R]:
        """Have `function` called in one of the threads.

        Raises:
            OverloadedError: There is no thread, and none can be started. Nothing of the job is kept.
        """
        job = _Job(function, args)
        with self._condition:
            self._work_queue.put(job)
            if self._work_queue.qsize() > self._idle and self._running < self._limit:
                try:
                    threading.Thread(target=self._work, name="starlette-marketplace", daemon=True).start()
                except RuntimeError as exc:
                    if not self._running:
                        self._work_queue.get_nowait()
                        raise OverloadedError(
                            f"No thread could be started ({exc}).",
                            "Raise the limit of processes of this container, or lower max_concurrency.",
                        ) from exc
                else:
                    self._running += 1
            self._condition.notify()
        return job.future

    def close(self) -> None:
        """Cancel the jobs that have not begun, and let the threads end."""
        with self._condition:
            self._is_closed = True
            jobs, self._work_queue = self._work_queue, SimpleQueue()
            self._condition.notify_all()
        # Outside of the lock, as whoever waits is told.
        while not jobs.empty():
            jobs.get_nowait().future.cancel()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            _run(job)
            # Not kept while the thread waits for another: a job can hold a token.
            del job

    def _next(self) -> _Job[Any] | None:
        with self._condition:
            while self._work_queue.empty():
                self._idle += 1
                is_wanted = not self._is_closed and self._condition.wait(self._idle_timeout)
                self._idle -= 1
                if not is_wanted and self._work_queue.empty():
                    self._running -= 1
                    return None
            return self._work_queue.get_nowait()


@dataclass(frozen=True, slots=True, eq=False)
class _Job(Generic[R]):
    function: Callable[..., R]
    args: tuple[object, ...]
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
