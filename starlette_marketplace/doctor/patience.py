"""Waiting no longer than so long, for what knows no time limit of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` gives or raises. After the time limit it goes on in its thread, which keeps no process alive.

    Raises:
        TimeoutError: It has not ended within the time limit.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as exc:  # noqa: BLE001 - it is raised in the thread that waits.
            future.set_exception(exc)

    threading.Thread(target=run, daemon=True).start()
    return future.result(seconds)
