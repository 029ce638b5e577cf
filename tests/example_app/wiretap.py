"""What goes over the wire on both sides of the example app: what browsers sent it, and how AWS answers it."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_marketplace.local import LocalMarketplace

PATIENCE = 60.0  # seconds until a test that waits for a request gives up


@dataclass(frozen=True)
class SeenRequest:
    """A request as it arrived, and the cookies that its answer set."""

    method: str
    target: str
    headers: Mapping[str, str]
    cookies_set: list[str] = field(default_factory=list)

    @property
    def cookies(self) -> set[str]:
        return set(SimpleCookie(self.headers.get("cookie", "")))

    @property
    def site(self) -> str | None:
        return self.headers.get("sec-fetch-site")


class Wiretap:
    """Passes every request on to the app, and remembers it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._seen: list[SeenRequest] = []
        self._changed = threading.Condition()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        query = scope["query_string"].decode()
        target = scope["path"] + ("?" + query if query else "")
        request = SeenRequest(scope["method"], target, dict(Headers(scope=scope)))
        with self._changed:
            self._seen.append(request)
            self._changed.notify_all()

        async def send_and_look(message: Message) -> None:
            if message["type"] == "http.response.start":
                for cookie in Headers(raw=message["headers"]).getlist("set-cookie"):
                    request.cookies_set.append(cookie.partition("=")[0])
            await send(message)

        await self._app(scope, receive, send_and_look)

    @property
    def everything(self) -> list[SeenRequest]:
        """What arrived so far, oldest first, with the style sheets and icons that browsers fetch when they like."""
        return list(self._seen)

    def requests(self, method: str = "", path: str = "") -> list[SeenRequest]:
        """The requests for pages: all of them, or those of one method to one path."""
        pages = [each for each in self.everything if not each.target.startswith(("/static/", "/favicon.ico"))]
        return [each for each in pages if not method or (each.method, each.target.split("?")[0]) == (method, path)]

    def forget(self) -> None:
        self._seen = []

    def wait_for(self, method: str, path: str, number: int = 1) -> SeenRequest:
        """Give the last of so many requests, as soon as they have arrived."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests(method, path)) >= number, PATIENCE):
                raise TimeoutError(f"{method} {path} did not arrive {number} times")
        return self.requests(method, path)[number - 1]


class MoodyAws:
    """The AWS side of the local marketplace, which throttles and keeps callers waiting when a test says so."""

    def __init__(self, marketplace: LocalMarketplace) -> None:
        self.throttles = False
        self._marketplace = marketplace
        self._called = threading.Semaphore(0)
        self._gate = threading.Event()
        self._gate.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    def wait_for_caller(self) -> None:
        if not self._called.acquire(timeout=PATIENCE):
            raise TimeoutError("AWS was not called")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._marketplace(scope, receive, send)
            return
        self._called.release()
        await anyio.to_thread.run_sync(self._gate.wait, PATIENCE)
        if self.throttles:
            response = JSONResponse({"__type": "ThrottlingException", "message": "Rate exceeded"}, 400)
            await response(scope, receive, send)
        else:
            await self._marketplace(scope, receive, send)
