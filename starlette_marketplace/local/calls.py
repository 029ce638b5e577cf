"""The calls that were made."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING

import anyio
from starlette.responses import Response

from .answers import NoResponse
from .exchange import SeenRequest, show_answer
from .wire import RESOLVE_CUSTOMER, AwsJsonResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message, Receive, Scope, Send

    from .operations import Verdict


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made; two are equal when scenario, status and operation are.

    Attributes:
        scenario: The name of the scenario; None when the call is about none of our subscriptions or about several, or
            was not looked at.
        status: The HTTP status of the answer; None when no answer comes, not even its headers, or the client did not
            wait for it.
        operation: What AWS was asked to do.
        subscription: The id of the first agreement of the subscription that it is about; None as for the scenario.
        request: What was asked.
        answer: The answer as HTTP; empty when none comes.
        error: The `__type` of the answer, if it is an error.
        remark: Why the answer is not the scenario's, where it is not.
        started_at: When the request came.
        seconds: How long it took until the answer was whole or the client hung up; None while it is under way.
        hung_up: Whether the client hung up before the answer was whole.
    """

    scenario: str | None
    status: int | None
    operation: str = RESOLVE_CUSTOMER
    subscription: str | None = field(default=None, compare=False)
    request: SeenRequest = field(default=SeenRequest(), compare=False, repr=False)
    answer: str = field(default="", compare=False, repr=False)
    error: str | None = field(default=None, compare=False)
    remark: str = field(default="", compare=False)
    started_at: datetime | None = field(default=None, compare=False)
    seconds: float | None = field(default=None, compare=False)
    hung_up: bool = field(default=False, compare=False)


ResolveCall = Call
"""A call of ResolveCustomer, which is the operation of a `Call` unless it says another."""


class Sent(Enum):
    """How much of an answer was sent."""

    NOTHING = auto()
    SOME = auto()
    ALL = auto()


class CallLog:
    """The calls so far, oldest out first. Tests read it in another thread than the server's."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls: dict[int, Call] = {}
        self._changes = 0
        self._added = 0
        self._generation = 0
        # A page that was open before a restart must not take the new log for the old one.
        self._run = secrets.token_hex(4)
        self._lock = threading.Lock()

    @property
    def generation(self) -> int:
        """Another one after every `clear`."""
        return self._generation

    def snapshot(self) -> tuple[str, list[Call]]:
        """Give the calls, oldest first, after a text that is another one after every change."""
        with self._lock:
            return f"{self._run}-{self._changes}", list(self._calls.values())

    def add(self, request: SeenRequest, verdict: Verdict, *, generation: int) -> int:
        """Log a call that is under way, unless the log was cleared since it began.

        Args:
            request: What was asked.
            verdict: How it is answered.
            generation: The log's when the call began.

        Returns:
            Its number, for `finish`.
        """
        response = verdict.response
        call = Call(
            verdict.scenario,
            None if isinstance(response, NoResponse) else response.status_code,
            operation=verdict.operation,
            subscription=verdict.subscription,
            request=request,
            answer=show_answer(response),
            error=response.error if isinstance(response, AwsJsonResponse) else None,
            remark=verdict.remark,
            started_at=datetime.now().astimezone(),
        )
        with self._lock:
            self._added += 1
            if generation == self._generation:
                self._changes += 1
                self._calls[self._added] = call
                if len(self._calls) > self._limit:
                    del self._calls[next(iter(self._calls))]
            return self._added

    def finish(self, number: int, seconds: float, sent: Sent) -> None:
        """Log how a call ended, unless it is forgotten or that is known already."""
        with self._lock:
            if number in self._calls and self._calls[number].seconds is None:
                self._changes += 1
                call = replace(self._calls[number], seconds=seconds, hung_up=sent is not Sent.ALL)
                if sent is Sent.NOTHING:
                    call = replace(call, status=None, answer="", error=None)
                self._calls[number] = call

    def clear(self) -> None:
        """Forget every call."""
        with self._lock:
            self._changes += 1
            self._generation += 1
            self._calls.clear()


class WatchedResponse(Response):
    """Sends a response after a delay, if the client waits for so long.

    Args:
        response: The response.
        delay: Seconds to wait.
        on_end: Called when its last byte is about to be sent, and when there is nothing more to do.
    """

    def __init__(self, response: Response, *, delay: float, on_end: Callable[[Sent], None]) -> None:
        super().__init__()
        self._response = response
        self._delay = delay
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, and send the response."""
        sent = Sent.NOTHING

        async def send_and_look(message: Message) -> None:
            nonlocal sent
            sent = Sent.SOME
            # Before the last byte: who has the whole answer finds the call ended.
            if message["type"] == "http.response.body" and not message.get("more_body"):
                sent = Sent.ALL
                self._on_end(sent)
            await send(message)

        try:
            if await self._is_waited_for(receive):
                await self._response(scope, receive, send_and_look)
        finally:
            self._on_end(sent)

    async def _is_waited_for(self, receive: Receive) -> bool:
        if self._delay:
            with anyio.move_on_after(self._delay):
                # With the request read, only the end of the connection is left to receive.
                await receive()
                return False
        return True
