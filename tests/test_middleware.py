import copy
import inspect
import logging
import os
import traceback
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, cast

import anyio
import anyio.to_thread
import httpx2
import pytest
from fastapi import FastAPI
from hypercorn.middleware import ProxyFixMiddleware
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_marketplace import (
    ConfigurationError,
    Marketplace,
    MarketplaceMiddleware,
    MarketplaceSettings,
    SettingsError,
)
from tests.support.fakes import CUSTOMER, FakeResolver
from tests.support.hosts import LANDING, browser, fastapi_middleware, form, starlette_middleware
from tests.support.servers import serve, serve_by_hypercorn

pytestmark = pytest.mark.anyio


class Server(Protocol):
    def __call__(self, app: ASGIApp) -> AbstractContextManager[str]: ...


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MARKETPLACE_"):
            monkeypatch.delenv(name)


async def test_one_line_with_settings_from_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETPLACE_SECRET_KEY", "0123456789abcdef" * 2)
    monkeypatch.setenv("MARKETPLACE_PRODUCT_CODES", "p")
    monkeypatch.setenv("MARKETPLACE_REGISTRATION_PATH", "/aws")
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware)
    async with browser(app) as buyer:
        assert (await buyer.get("/aws")).status_code == 200
        assert (await buyer.get(LANDING)).status_code == 404


async def test_everything_else_reaches_the_host_untouched(settings: MarketplaceSettings) -> None:
    calls: list[tuple[Scope, Receive, Send]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append((scope, receive, send))

    async def receive() -> Any: ...
    async def send(_: Any) -> None: ...

    middleware = MarketplaceMiddleware(app, settings=settings)
    for path in ("/", "/marketplace", LANDING + "er", "/other" + LANDING, LANDING + "//", LANDING + "/x"):
        for kind in ("http", "websocket"):
            scope: Scope = {"type": kind, "path": path, "headers": []}
            await middleware(scope, receive, send)
            assert calls.pop() == (scope, receive, send)
    scope = {"type": "websocket", "path": LANDING, "headers": []}
    await middleware(scope, receive, send)
    assert calls.pop() == (scope, receive, send)


@pytest.mark.parametrize(
    "scope",
    [
        {"type": "channel", "channel": "thumbnails"},
        {"type": "channel", "path": LANDING},
        MappingProxyType({"type": "telnet"}),
        {"type": "http"},
        {"type": "http", "headers": []},
        {"type": "websocket"},
    ],
    ids=str,
)
async def test_a_scope_that_it_does_not_know_or_that_has_no_path_reaches_the_host(
    settings: MarketplaceSettings, scope: Scope
) -> None:
    calls: list[tuple[Scope, Receive, Send]] = []
    before = dict(scope)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append((scope, receive, send))

    nothing: Any = None
    await MarketplaceMiddleware(app, settings=settings)(scope, nothing, nothing)
    [(received, *_)] = calls
    assert received is scope
    if scope["type"] not in ("http", "websocket"):
        assert scope == before


async def test_a_request_without_a_root_path_is_answered(settings: MarketplaceSettings) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope["root_path"]
        await MarketplaceMiddleware(Response(), settings=settings, resolver=FakeResolver())(scope, receive, send)

    async with browser(app) as buyer:
        assert (await buyer.post(LANDING, data=form("good"))).headers["location"] == "/signup"


async def test_middleware_inside_may_copy_the_scope_deeply(settings: MarketplaceSettings) -> None:
    """As hypercorn's does for hosts behind a proxy."""
    bare = starlette_middleware(settings=settings)
    assert isinstance(bare, Starlette)
    inside = ProxyFixMiddleware(cast("Any", Starlette(routes=bare.routes)))
    app = MarketplaceMiddleware(cast("ASGIApp", inside), settings=settings, resolver=FakeResolver())
    async with browser(app) as buyer:
        assert (await buyer.get("/signup")).json() is None
        await buyer.post(LANDING, data=form("good"))
        registration = (await buyer.get("/signup")).json()
        assert registration["customer"]["license_arn"] == CUSTOMER.license_arn
        assert (await buyer.post(f"/signup/{registration['id']}")).json() == registration
        assert (await buyer.get("/signup")).json() is None


def test_a_copy_of_a_marketplace_is_the_marketplace(settings: MarketplaceSettings) -> None:
    marketplace = Marketplace(settings)
    assert copy.copy(marketplace) is marketplace
    assert copy.deepcopy({"scope": [marketplace]})["scope"] == [marketplace]
    assert copy.deepcopy(marketplace.routes) == marketplace.routes


@pytest.mark.parametrize("root_path", ["", "/api", "/api/v1"])
async def test_it_answers_below_the_root_path_and_sends_on_below_it(
    settings: MarketplaceSettings, root_path: str
) -> None:
    app = starlette_middleware(settings=settings, resolver=FakeResolver())
    async with browser(app, root_path=root_path) as buyer:
        for path in (root_path + LANDING, LANDING):
            response = await buyer.post(path, data=form("good"))
            assert (response.status_code, response.headers["location"]) == (303, root_path + "/signup")


async def test_a_root_path_of_a_slash_sends_nobody_to_another_host(settings: MarketplaceSettings) -> None:
    app = starlette_middleware(settings=settings, resolver=FakeResolver())
    async with browser(app, root_path="/") as buyer:
        response = await buyer.post(LANDING, data=form("good"))
        assert (response.status_code, response.headers["location"]) == (303, "/signup")


async def test_a_root_path_may_end_with_a_slash(settings: MarketplaceSettings) -> None:
    app = starlette_middleware(settings=settings, resolver=FakeResolver())
    async with browser(app, root_path="/api/") as buyer:
        for path in ("/api" + LANDING, "/api/" + LANDING, LANDING):
            response = await buyer.post(path, data=form("good"))
            assert (response.status_code, response.headers["location"]) == (303, "/api/signup")


async def test_a_root_path_that_only_looks_like_a_prefix_is_none(settings: MarketplaceSettings) -> None:
    app = starlette_middleware(settings=settings, resolver=FakeResolver())
    async with browser(app, root_path="/market") as buyer:
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 303


async def test_it_may_sit_in_an_app_that_is_mounted(settings: MarketplaceSettings) -> None:
    inner = starlette_middleware(settings=settings, resolver=FakeResolver())
    app = Starlette(routes=[Mount("/shop", inner)])
    async with browser(app) as buyer:
        response = await buyer.post("/shop" + LANDING, data=form("good"))
        assert (response.status_code, response.headers["location"]) == (303, "/shop/signup")
        assert (await buyer.get(response.headers["location"])).json() is not None
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 404


async def test_a_marketplace_that_is_wired_already_can_be_given(settings: MarketplaceSettings) -> None:
    marketplace = Marketplace(replace(settings, registration_path="/here"), resolver=FakeResolver())
    app = MarketplaceMiddleware(PlainTextResponse("host"), marketplace)
    async with browser(app) as buyer:
        assert (await buyer.post("/here", data=form("good"))).status_code == 303


def test_a_marketplace_and_options_together_are_refused(settings: MarketplaceSettings) -> None:
    with pytest.raises(TypeError, match="not both"):
        MarketplaceMiddleware(Starlette(), Marketplace(settings), settings=settings)


# Starting


@pytest.mark.usefixtures("no_settings")
def test_missing_settings_keep_the_server_from_starting(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware)
    with pytest.raises(RuntimeError), serve(app):
        pass
    assert "MARKETPLACE_SECRET_KEY is missing" in caplog.text
    assert "MARKETPLACE_PRODUCT_CODES is missing" in caplog.text


@pytest.mark.usefixtures("no_settings")
async def test_missing_settings_are_an_error_of_every_request_where_lifespan_is_off() -> None:
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware)
    async with browser(app) as buyer:
        for path in ("/", LANDING):
            lengths = []
            for _ in range(2):
                with pytest.raises(SettingsError, match="SECRET_KEY") as caught:
                    await buyer.get(path)
                lengths.append(len(caught.traceback))
            assert lengths[0] == lengths[1], "tracebacks do not gather"


@pytest.mark.usefixtures("no_settings")
def test_missing_settings_are_an_error_in_a_test_client() -> None:
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware)
    with pytest.raises(SettingsError, match="SECRET_KEY"), TestClient(app):
        pass


def test_an_unknown_profile_keeps_the_server_from_starting(
    settings: MarketplaceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    app = fastapi_middleware(settings=replace(settings, profile_name="nobody-has-this-profile"))
    with pytest.raises(RuntimeError), serve(app):
        pass
    assert "Set profile_name to a profile of the AWS configuration files" in caplog.text
    with pytest.raises(ConfigurationError), TestClient(app):
        pass


def test_missing_credentials_are_logged_and_the_host_still_serves(
    settings: MarketplaceSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with TestClient(fastapi_middleware(settings=settings), base_url="https://app.example") as client:
        assert client.get("/signup").status_code == 200
        assert client.post(LANDING, data=form("good")).status_code == 503
    assert [record.levelno for record in caplog.records if record.name == "starlette_marketplace"] == [
        logging.ERROR
    ] * 2
    assert "registrations will fail: No AWS credentials were found" in caplog.text


def test_credentials_that_cannot_be_read_are_logged_and_the_hosts_own_lifespan_runs(
    settings: MarketplaceSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    config = tmp_path / "config"
    config.write_text("[default]\ncredential_process = /bin/echo []\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    started: list[FastAPI] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        started.append(app)
        yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(MarketplaceMiddleware, settings=settings)
    with serve(app):
        assert started == [app]
    assert "AWS Marketplace registrations will fail" in caplog.text


def test_whatever_goes_wrong_at_startup_is_told_to_the_server(
    settings: MarketplaceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Marketplace):
        async def startup(self) -> None:
            raise ZeroDivisionError("a bug")

    with pytest.raises(RuntimeError), serve(MarketplaceMiddleware(Starlette(), Broken(settings))):
        pass
    assert "a bug" in caplog.text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_end_of_the_lifespan_refuses_what_still_waits(settings: MarketplaceSettings) -> None:
    resolver = FakeResolver({"good": CUSTOMER, "second": CUSTOMER})
    app = starlette_middleware(settings=replace(settings, max_concurrency=1), resolver=resolver)
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    statuses: dict[str, int] = {}

    async def receive() -> Message:
        return messages.pop(0)

    async def send(_: Message) -> None: ...

    async def post(token: str) -> None:
        statuses[token] = (await buyer.post(LANDING, data=form(token))).status_code

    async with browser(app) as buyer, anyio.create_task_group() as tasks:
        with resolver.held():
            tasks.start_soon(post, "good")
            await anyio.to_thread.run_sync(resolver.called.acquire)
            tasks.start_soon(post, "second")
            await anyio.wait_all_tasks_blocked()
            await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
            await anyio.wait_all_tasks_blocked()
            assert statuses == {"second": 503}
    assert statuses == {"good": 303, "second": 503}


def test_the_lifespan_of_the_host_runs_and_the_app_can_be_started_again(settings: MarketplaceSettings) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await JSONResponse("host")(scope, receive, send)
            return
        for stage in ("startup", "shutdown"):
            message = await receive()
            seen.append(message["type"])
            await send({"type": f"lifespan.{stage}.complete"})

    middleware: ASGIApp = MarketplaceMiddleware(app, settings=settings, resolver=FakeResolver())
    for _ in range(2):
        with TestClient(middleware, base_url="https://app.example") as client:
            assert client.get("/").json() == "host"
            assert client.post(LANDING, data=form("good"), follow_redirects=False).status_code == 303
    assert seen == ["lifespan.startup", "lifespan.shutdown"] * 2


class Recorded(Marketplace):
    """A marketplace that notes when it is started and shut down; an error that is given is raised at startup."""

    def __init__(self, settings: MarketplaceSettings, error: Exception | None = None) -> None:
        super().__init__(settings, resolver=FakeResolver())
        self.stages: list[str] = []
        self.error = error

    async def startup(self) -> None:
        self.stages.append("marketplace started")
        await super().startup()
        if self.error is not None:
            raise self.error

    def shutdown(self) -> None:
        self.stages.append("marketplace shut down")
        super().shutdown()


async def http_only(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await PlainTextResponse("host")(scope, receive, send)


async def without_an_answer_to_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await PlainTextResponse("host")(scope, receive, send)


async def without_shutdown(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await PlainTextResponse("host")(scope, receive, send)
    else:
        await receive()
        await send({"type": "lifespan.startup.complete"})


async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
    """Takes an error at startup for none."""
    with suppress(ZeroDivisionError):
        await receive()
    with suppress(ZeroDivisionError):
        await receive()
    await send({"type": "lifespan.startup.complete"})


each_server = pytest.mark.parametrize("server", [serve, serve_by_hypercorn])


@pytest.mark.parametrize(
    ("server", "host"),
    [
        (serve, http_only),
        (serve_by_hypercorn, http_only),
        # hypercorn on trio ends with these, also when they are alone.
        (serve, without_an_answer_to_lifespan),
        (serve, without_shutdown),
    ],
)
def test_a_host_without_lifespan_or_with_half_of_one_is_served_and_the_marketplace_started(
    settings: MarketplaceSettings, server: Server, host: ASGIApp
) -> None:
    marketplace = Recorded(settings)
    with server(MarketplaceMiddleware(host, marketplace)) as url:
        assert httpx2.get(url).text == "host"
        assert httpx2.post(url + LANDING, data=form("good")).status_code == 303
        assert marketplace.stages == ["marketplace started"]


@each_server
@pytest.mark.parametrize("host", [http_only, without_an_answer_to_lifespan, without_shutdown, deaf])
def test_a_startup_that_fails_stops_the_server_of_any_host(
    settings: MarketplaceSettings, server: Server, host: ASGIApp, caplog: pytest.LogCaptureFixture
) -> None:
    marketplace = Recorded(settings, ZeroDivisionError("a bug"))
    with pytest.raises((RuntimeError, BaseExceptionGroup)) as stopped, server(MarketplaceMiddleware(host, marketplace)):
        pass
    assert "a bug" in caplog.text + "".join(traceback.format_exception(stopped.value))
    assert marketplace.stages == ["marketplace started"]


async def test_a_host_sees_its_scope_before_any_message_is_asked_for(settings: MarketplaceSettings) -> None:
    marketplace = Recorded(settings)
    seen = marketplace.stages

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])
        seen.append((await receive())["type"])
        await send({"type": "lifespan.startup.complete"})
        seen.append((await receive())["type"])

    async def receive() -> Message:
        seen.append("asked for")
        return {"type": "lifespan.shutdown" if "lifespan.startup" in seen else "lifespan.startup"}

    async def send(_: Message) -> None: ...

    await MarketplaceMiddleware(host, marketplace)({"type": "lifespan"}, receive, send)
    assert seen == [
        "lifespan",
        "asked for",
        "marketplace started",
        "lifespan.startup",
        "asked for",
        "lifespan.shutdown",
        "marketplace shut down",
    ]


async def test_of_a_host_without_lifespan_the_server_learns_what_the_host_itself_says(
    settings: MarketplaceSettings,
) -> None:
    marketplace = Recorded(settings)
    nothing: Any = None
    with pytest.raises(NotImplementedError, match="lifespan"):
        await MarketplaceMiddleware(http_only, marketplace)({"type": "lifespan"}, nothing, nothing)
    assert marketplace.stages == ["marketplace started"]


def test_where_a_server_insists_on_lifespan_a_host_without_one_does_not_start(
    settings: MarketplaceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    for app in (http_only, MarketplaceMiddleware(http_only, settings=settings)):
        with pytest.raises(RuntimeError), serve(app, lifespan="on"):
            pass
        assert "NotImplementedError: lifespan" in caplog.text
        caplog.clear()


@pytest.mark.usefixtures("no_settings")
@each_server
def test_missing_settings_stop_the_server_of_a_host_without_lifespan(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises((RuntimeError, BaseExceptionGroup)) as stopped, server(MarketplaceMiddleware(http_only)):
        pass
    assert "SECRET_KEY" in caplog.text + "".join(traceback.format_exception(stopped.value))


async def test_whoever_looks_takes_it_for_an_asgi_3_app(settings: MarketplaceSettings) -> None:
    app = MarketplaceMiddleware(Starlette(), settings=settings, resolver=FakeResolver())

    # What uvicorn, hypercorn, asgiref and Starlette's TestClient ask.
    assert inspect.iscoroutinefunction(app.__call__)
    async with browser(app.__call__) as buyer:
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 303
