"""What is told of registrations to those who watch the host: nothing, unless OpenTelemetry is there (`otel.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

R = TypeVar("R")

Lookup = Literal["cached", "joined", "asked", "refused"]
SharedLookup = Literal["hit", "miss", "failed"]


class Outcome:
    """How a registration, a resolution or a call ended.

    Attributes:
        code: The code of the error, or REGISTERED, REFUSED by a hook, or RESOLVED; until then UNFINISHED, which it
            stays when the browser leaves, or when a hook or a resolver raises an exception that is not of our tree.
        is_failure: Whether it is for the seller to look at.
    """

    __slots__ = ("code", "is_failure")

    def __init__(self) -> None:
        self.code: str = "UNFINISHED"
        self.is_failure: bool = False


class Telemetry:
    """Takes note of nothing; a subclass may. No method is given a token, an account or anything else of a buyer."""

    @contextmanager
    def registration(self) -> Iterator[Outcome]:
        """Around a registration POST, from reading it to its answer."""
        yield Outcome()

    def looked_up(self, result: Lookup) -> None:
        """A caller has found an outcome in memory, joined a call under way, begun one, or was refused."""

    def carried(self, function: Callable[..., R]) -> Callable[..., R]:
        """`function` such that in another thread it belongs to the trace of its caller."""
        return function

    def queued(self) -> None:
        """A resolution waits for a thread."""

    @contextmanager
    def resolution(self) -> Iterator[None]:
        """Around a resolution in its thread, the shared cache included."""
        yield

    def cancelled(self) -> None:
        """A resolution that waited for a thread will never begin."""

    def looked_up_shared(self, result: SharedLookup) -> None:
        """A resolution has asked the shared cache."""

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around the call to AWS, its retries included."""
        yield
