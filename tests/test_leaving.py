"""Who leaves in the middle: a buyer, a hook, the server. Nothing leaks, nobody waits for ever, no answer is lost."""

import gc
import os
import signal
import socket
import subprocess
import sys
import weakref
from contextlib import AbstractContextManager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol
from urllib.parse import urlencode

import anyio
import anyio.to_thread
import httpx2
import pytest
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_marketplace import MarketplaceSettings
from starlette_marketplace.hooks import LandingVisited, RegistrationFailed, RegistrationRequested, RegistrationResolved
from starlette_marketplace.local import LocalMarketplace
from tests.support.fakes import FakeResolver
from tests.support.hosts import HOSTS, LANDING, Host, browser, form, starlette_middleware
from tests.support.memory import living
from tests.support.network import Fault, network
from tests.support.servers import serve, serve_by_hypercorn
from tests.support.sockets import URLENCODED, answer_on, connect, head_of, post_of

pytestmark = pytest.mark.slow


class Server(Protocol):
    def __call__(self, app: ASGIApp) -> AbstractContextManager[str]: ...


A_HOST = """
from starlette.applications import Starlette
from starlette_marketplace import MarketplaceMiddleware

app = Starlette()
app.add_middleware(MarketplaceMiddleware)
"""


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest) -> Host:
    made: Host = request.param
    return made


async def read_the_request(event: RegistrationRequested | RegistrationResolved | RegistrationFailed) -> None:
    await event.request.body()


async def wait_on_a_visit(event: LandingVisited) -> None:
    async for _ in event.request.stream():
        pass


GONE = {"type": "http.disconnect"}
HALF = {"type": "http.request", "body": b"x-amzn-marketplace-tok", "more_body": True}
WHOLE = {"type": "http.request", "body": urlencode(form("good")).encode(), "more_body": False}
BAD = {"type": "http.request", "body": urlencode(form("bad")).encode(), "more_body": False}


@pytest.mark.anyio
@pytest.mark.parametrize("is_wrapped", [False, True])
@pytest.mark.parametrize(
    ("method", "options", "received"),
    [
        ("POST", {}, [GONE]),
        ("POST", {}, [HALF, GONE]),
        ("POST", {"on_request": read_the_request}, [WHOLE, GONE]),
        ("POST", {"on_resolved": read_the_request}, [WHOLE, GONE]),
        ("POST", {"on_error": read_the_request}, [BAD, GONE]),
        ("GET", {"on_visit": wait_on_a_visit}, [GONE]),
        ("HEAD", {"on_visit": wait_on_a_visit}, [GONE]),
    ],
)
async def test_a_closed_tab_is_no_error_and_gets_an_answer_that_nobody_reads(
    host: Host,
    settings: MarketplaceSettings,
    caplog: pytest.LogCaptureFixture,
    is_wrapped: bool,
    method: str,
    options: dict[str, Any],
    received: list[Message],
) -> None:
    """BaseHTTPMiddleware takes a missing answer for a mistake of the host."""
    app = host(settings=settings, resolver=FakeResolver(), **options)
    if is_wrapped:
        app = BaseHTTPMiddleware(app, dispatch=lambda request, call_next: call_next(request))
    messages = list(received)
    answered: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0) if messages else GONE

    async def send(message: Message) -> None:
        answered.append(message)

    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    scope = {"type": "http", "method": method, "path": LANDING, "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    start, *body = answered
    assert start["status"] == 400
    assert dict(start["headers"]) == {b"content-length": b"0", b"cache-control": b"no-store"}
    assert not any(message["body"] for message in body)
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("server", [serve, serve_by_hypercorn])
def test_a_closed_tab_leaves_no_error_on_a_server(host: Host, server: Server, settings: MarketplaceSettings) -> None:
    ended: SimpleQueue[Exception | None] = SimpleQueue()
    inside = BaseHTTPMiddleware(
        host(settings=settings, resolver=FakeResolver()), dispatch=lambda request, call_next: call_next(request)
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await inside(scope, receive, send)
        except Exception as error:
            ended.put(error)
            raise
        if scope["type"] == "http":
            ended.put(None)

    with server(app) as url:
        for _ in range(5):
            with connect(url) as connection:
                connection.sendall(head_of(URLENCODED, "Content-Length: 200") + b"x-amzn-marketplace-tok")
            assert ended.get(timeout=60) is None
        assert httpx2.post(url + LANDING, data=form("good")).status_code == 303


@pytest.mark.anyio
@pytest.mark.parametrize("hook", ["on_request", "on_resolved"])
async def test_a_cancelled_hook_loses_nothing(host: Host, settings: MarketplaceSettings, hook: str) -> None:
    resolver = FakeResolver()
    begun = anyio.Event()

    async def hang_once(_: object) -> None:
        if not begun.is_set():
            begun.set()
            await anyio.sleep_forever()

    async with browser(host(settings=settings, resolver=resolver, **{hook: hang_once})) as buyer:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: buyer.post(LANDING, data=form("good")))
            await begun.wait()
            tasks.cancel_scope.cancel()
        assert resolver.calls == ({"good": 1} if hook == "on_resolved" else {})
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 303
    assert resolver.calls == {"good": 1}


@pytest.mark.anyio
async def test_those_who_left_leave_nothing_behind(host: Host, settings: MarketplaceSettings) -> None:
    resolver = FakeResolver()
    async with browser(host(settings=settings, resolver=resolver)) as buyer:
        with resolver.held():
            async with anyio.create_task_group() as tasks:
                for token in ("good", "bad") * 20:
                    tasks.start_soon(lambda token: buyer.post(LANDING, data=form(token)), token)
                await anyio.to_thread.run_sync(resolver.called.acquire)
                await anyio.wait_all_tasks_blocked()
                before = living("anyio")["Event"]
                tasks.cancel_scope.cancel()
            assert before - living("anyio")["Event"] >= 40, "while AWS is still asked"
        assert (await buyer.post(LANDING, data=form("bad"))).status_code == 400
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 303
    assert resolver.calls == {"good": 1, "bad": 1}


def test_a_server_that_is_told_to_stop_answers_those_who_wait_and_ends(
    running_marketplace: tuple[LocalMarketplace, str], marketplace: LocalMarketplace, tmp_path: Path
) -> None:
    _, aws_url = running_marketplace
    (tmp_path / "a_host.py").write_text(A_HOST)
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "MARKETPLACE_SECRET_KEY": "0123456789abcdef" * 2,
        "MARKETPLACE_PRODUCT_CODES": "acmeanalytics",
        "MARKETPLACE_MAX_CONCURRENCY": "1",
        "MARKETPLACE_MAX_ATTEMPTS": "1",
        "MARKETPLACE_READ_TIMEOUT": "0.5",
    }
    first, second = [marketplace.issue_token("new-product") for _ in range(2)]
    with socket.create_server(("127.0.0.1", 0)) as listener, network(aws_url) as to_aws:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        to_aws.suffer(Fault.SILENCE)
        command = [sys.executable, "-m", "uvicorn", "a_host:app", "--fd", str(listener.fileno()), "--no-use-colors"]
        server = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment | {"MARKETPLACE_ENDPOINT_URL": to_aws.url},
            pass_fds=[listener.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            with connect(url) as under_way, connect(url) as waiting:
                under_way.sendall(post_of(urlencode(form(first)).encode()))
                to_aws.held.acquire()
                waiting.sendall(post_of(urlencode(form(second)).encode()))
                assert httpx2.get(url).status_code == 404, "so the server has read all that came before"
                server.send_signal(signal.SIGTERM)
                for connection in (under_way, waiting):
                    answer = answer_on(connection)
                    assert answer.startswith("HTTP/1.1 503 ")
                    assert "Try again" in answer
            _, log = server.communicate(timeout=60)
        finally:
            server.kill()
    assert "Finished server process" in log
    assert "Traceback" not in log
    assert "Application shutdown complete" in log


@pytest.mark.anyio
async def test_what_a_hook_has_raised_is_let_go_at_once(settings: MarketplaceSettings) -> None:
    """Its traceback leads to the token: what a rate limit refuses must not pile up until a garbage collection."""

    class Refused(HTTPException):
        pass

    raised: list[weakref.ref[Refused]] = []

    async def refuse(_: RegistrationRequested) -> None:
        error = Refused(429)
        raised.append(weakref.ref(error))
        raise error

    async with browser(starlette_middleware(settings=settings, resolver=FakeResolver(), on_request=refuse)) as buyer:
        gc.collect()
        gc.disable()
        try:
            assert (await buyer.post(LANDING, data=form("good"))).status_code == 429
            await anyio.wait_all_tasks_blocked()
            assert raised[0]() is None
        finally:
            gc.enable()
