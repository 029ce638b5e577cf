"""How AWS answers a ResolveCustomer call that it has read: on a good day, and on the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from starlette.responses import HTMLResponse, Response

from .wire import AwsJsonResponse, Failure

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

Identity: TypeAlias = Mapping[str, object]
"""What ResolveCustomer says of a buyer."""

Answer: TypeAlias = Callable[[Identity], Response]
"""Makes the response to a call whose token stands for this identity."""


def identify(identity: Identity) -> Response:
    """Say who the buyer is."""
    return AwsJsonResponse(identity)


def identify_without(member: str) -> Answer:
    """Say who the buyer is, but leave one member out."""
    return lambda identity: AwsJsonResponse({name: identity[name] for name in identity if name != member})


def identify_as(identity: Identity) -> Answer:
    """Say this, whoever the buyer is."""
    return lambda _: AwsJsonResponse(identity)


def refuse(failure: Failure) -> Answer:
    """Answer with an error."""
    return lambda _: AwsJsonResponse.of_failure(failure)


def show_page(title: str, status: int) -> Answer:
    """Answer with a web page, as what stands between the seller and AWS does."""
    page = f"<html>\n<head><title>{title}</title></head>\n<body><h1>{title}</h1></body>\n</html>\n"
    return lambda _: HTMLResponse(page, status)


def send_nothing(_: Identity) -> Response:
    """Answer with success and an empty body."""
    return Response(media_type=AwsJsonResponse.media_type)


def stay_silent(_: Identity) -> Response:
    """Never answer."""
    return NoResponse()


def stop_half_way(identity: Identity) -> Response:
    """Begin to say who the buyer is, and never end."""
    return _HalfResponse(identity)


class NoResponse(Response):
    """Waits until the client hangs up: with the request read, that is all there is left to receive."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send not even the headers."""
        await receive()


class _HalfResponse(AwsJsonResponse):
    def __init__(self, identity: Identity) -> None:
        super().__init__(identity)
        # The headers, made before, promise the whole.
        self.body = self.body[: len(self.body) // 2]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await receive()
