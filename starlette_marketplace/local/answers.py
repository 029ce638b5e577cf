"""How AWS answers a call that it has read: on a good day, and on the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias, cast

from starlette.responses import HTMLResponse, Response

from .failures import Failure
from .wire import AwsJsonResponse

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

Members: TypeAlias = Mapping[str, object]
"""What AWS says on a good day."""

Answer: TypeAlias = Callable[[Members], Response]
"""Makes the response to a call from what AWS says on a good day."""


def say(members: Members) -> Response:
    """Say what is asked for."""
    return AwsJsonResponse(members)


def say_without(member: str) -> Answer:
    """Say what is asked for, but leave one member out."""
    return lambda members: AwsJsonResponse({name: members[name] for name in members if name != member})


def say_this(members: Members) -> Answer:
    """Say this, whatever is asked for."""
    return lambda _: AwsJsonResponse(members)


def say_nulls(members: Members) -> Response:
    """Say all that is asked for, and every member of it is null."""
    return AwsJsonResponse(dict.fromkeys(members))


def say_rows(member: str, change: Callable[[Members], Members]) -> Answer:
    """Say what is asked for, but each row of one member otherwise."""

    def answer(members: Members) -> Response:
        rows = cast("list[Members]", members.get(member, []))
        return AwsJsonResponse({**members, member: [change(row) for row in rows]})

    return answer


def refuse(failure: Failure) -> Answer:
    """Answer with an error."""
    return lambda _: AwsJsonResponse.of_failure(failure)


def show_page(title: str, status: int) -> Answer:
    """Answer with a web page, as what stands between the seller and AWS does."""
    page = f"<html>\n<head><title>{title}</title></head>\n<body><h1>{title}</h1></body>\n</html>\n"
    return lambda _: HTMLResponse(page, status)


def send_nothing(_: Members) -> Response:
    """Answer with success and an empty body."""
    return _EmptyResponse({})


def stay_silent(_: Members) -> Response:
    """Never answer."""
    return NoResponse()


def stop_half_way(members: Members) -> Response:
    """Begin to say what is asked for, and never end."""
    return _HalfResponse(members)


class NoResponse(Response):
    """Waits until the client hangs up: with the request read, that is all there is left to receive."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send not even the headers."""
        await receive()


class _EmptyResponse(AwsJsonResponse):
    def render(self, content: object) -> bytes:
        return b""


class _HalfResponse(AwsJsonResponse):
    def __init__(self, members: Members) -> None:
        super().__init__(members)
        # The headers, made before, promise the whole.
        self.body = self.body[: len(self.body) // 2]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await receive()
