"""The ResolveCustomer calls that were made."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

import anyio
from starlette.responses import Response

from .answers import NoResponse
from .exchange import SeenRequest, show_answer
from .wire import AwsJsonResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message, Receive, Scope, Send

    from .metering import Verdict


@dataclass(frozen=True, slots=True)
class ResolveCall:
    """A ResolveCustomer call that was made; two are equal when scenario and status are.

    Attributes:
        scenario: The name of the scenario; None when the token is not one of ours or was not looked at.
        status: The HTTP status of the answer; None when no answer comes, not even its headers.
        request: What was asked.
        answer: The answer as HTTP; empty when none comes.
        error: The `__type` of the answer, if it is an error.
        remark: Why the answer is not the scenario's, where it is not.
        started_at: When the request came.
        seconds: How long it took until the answer was whole or the client hung up; None while it is under way.
    """

    scenario: str | None
    status: int | None
    request: SeenRequest = field(default=SeenRequest(), compare=False, repr=False)
    answer: str = field(default="", compare=False, repr=False)
    error: str | None = field(default=None, compare=False)
    remark: str = field(default="", compare=False)
    started_at: datetime | None = field(default=None, compare=False)
    seconds: float | None = field(default=None, compare=False)


class CallLog:
    """The calls so far, oldest out first. Tests read it in another thread than the server's."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls: dict[int, ResolveCall] = {}
        self._changes = 0
        self._added = 0
        # A page that was open before a restart must not take the new log for the old one.
        self._run = secrets.token_hex(4)
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        """Another one after every change."""
        return f"{self._run}-{self._changes}"

    def list(self) -> list[ResolveCall]:
        """Give the calls, oldest first."""
        with self._lock:
            return list(self._calls.values())

    def add(self, request: SeenRequest, verdict: Verdict) -> int:
        """Log a call that is under way.

        Returns:
            Its number, for `finish`.
        """
        response = verdict.response
        call = ResolveCall(
            verdict.scenario,
            None if isinstance(response, NoResponse) else response.status_code,
            request=request,
            answer=show_answer(response),
            error=response.error if isinstance(response, AwsJsonResponse) else None,
            remark=verdict.remark,
            started_at=datetime.now().astimezone(),
        )
        with self._lock:
            self._changes += 1
            self._added += 1
            self._calls[self._added] = call
            if len(self._calls) > self._limit:
                del self._calls[next(iter(self._calls))]
            return self._added

    def finish(self, number: int, seconds: float) -> None:
        """Log how long a call took, unless it is forgotten or known already."""
        with self._lock:
            if number in self._calls and self._calls[number].seconds is None:
                self._changes += 1
                self._calls[number] = replace(self._calls[number], seconds=seconds)

    def clear(self) -> None:
        """Forget every call."""
        with self._lock:
            self._changes += 1
            self._calls.clear()


class WatchedResponse(Response):
    """Sends a response after a delay.

    Args:
        response: The response.
        delay: Seconds to wait.
        on_end: Called when its last byte is about to be sent, and when there is nothing more to do.
    """

    def __init__(self, response: Response, *, delay: float, on_end: Callable[[], None]) -> None:
        super().__init__()
        self._response = response
        self._delay = delay
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, and send the response."""

        async def send_and_look(message: Message) -> None:
            # Before the last byte: who has the whole answer finds the call ended.
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._on_end()
            await send(message)

        try:
            await anyio.sleep(self._delay)
            await self._response(scope, receive, send_and_look)
        finally:
            self._on_end()
