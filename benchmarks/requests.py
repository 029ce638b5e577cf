"""Requests that are handed to an ASGI app in process, as a server would."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message

# As Chromium sends them, without those of its make.
_HEADERS = {
    "host": "app.example",
    "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "accept-encoding": "gzip, deflate, br",
    "accept-language": "en",
    "sec-fetch-dest": "document",
    "sec-fetch-mode": "navigate",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)",
}


def form(token: str) -> bytes:
    return urlencode({"x-amzn-marketplace-token": token}).encode()


def requests(
    app: ASGIApp, path: str, *, cookie: str | None = None, bodies: Iterator[bytes] | None = None, answer: bytes = b""
) -> Callable[[int], Awaitable[None]]:
    """What sends so many requests to `app`, one after the other, and sees that they are answered as they should be.

    Args:
        app: Whom.
        path: The path of each.
        cookie: The cookie of each.
        bodies: The form of each, to be answered by 303; None for GET, to be answered by 200.
        answer: What the body of each answer has to be.
    """
    expected = 200 if bodies is None else 303
    headers = _HEADERS | ({"cookie": cookie} if cookie else {})
    if bodies is not None:
        headers |= {"content-type": "application/x-www-form-urlencoded"}
    raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50_000),
        "scheme": "https",
        "method": "GET" if bodies is None else "POST",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
    }
    body = b""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    status, content = 0, b""

    async def send(message: Message) -> None:
        nonlocal status, content
        if message["type"] == "http.response.start":
            status, content = message["status"], b""
        else:
            content += message.get("body", b"")

    async def send_requests(count: int) -> None:
        nonlocal body
        for _ in range(count):
            of_this = raw_headers.copy()
            if bodies is not None:
                body = next(bodies)
                of_this.append((b"content-length", str(len(body)).encode()))
            await app({**scope, "headers": of_this, "state": {}}, receive, send)
            if (status, content) != (expected, answer):
                raise RuntimeError(f"{path} answered {status}: {content!r}")

    return send_requests


async def headers_of_answer(app: ASGIApp, path: str, body: bytes) -> dict[str, str]:
    """The headers that a form is answered with."""
    start: dict[str, Any] = {}

    async def recording(scope: Any, receive: Any, send: Any) -> None:
        async def record(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            await send(message)

        await app(scope, receive, record)

    await requests(recording, path, bodies=iter([body]))(1)
    return {name.decode(): value.decode() for name, value in start["headers"]}
