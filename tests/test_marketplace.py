import os
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
import redis
import redis.asyncio
from redis.sentinel import Sentinel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from starlette_marketplace import Marketplace, MarketplaceCustomer, MarketplaceMiddleware, MarketplaceSettings
from starlette_marketplace.local import LocalMarketplace
from starlette_marketplace.registration.resolver import AwsResolver
from starlette_marketplace.testing import FakeReader
from tests.support.fakes import CUSTOMER, FakeResolver
from tests.support.hosts import LANDING, browser, form

pytestmark = pytest.mark.anyio

OTHER = replace(CUSTOMER, license_arn="arn:other")


def host(marketplace: Marketplace) -> Starlette:
    async def registrations(request: Request) -> Response:
        newest = marketplace.get_registration(request)
        keys = [registration.customer.key for registration in marketplace.get_registrations(request)]
        assert keys[:1] == ([newest.customer.key] if newest else [])
        return JSONResponse(keys)

    return Starlette(
        routes=[Mount("/marketplace", routes=marketplace.routes), Route("/registrations", registrations)],
    )


async def test_two_agreements_of_one_account_live_side_by_side_newest_first(settings: MarketplaceSettings) -> None:
    resolver = FakeResolver({"first": CUSTOMER, "second": OTHER})
    async with browser(host(Marketplace(settings, resolver=resolver))) as buyer:
        assert (await buyer.get("/registrations")).json() == []
        expected: list[str] = []
        for token, key in (("first", CUSTOMER.key), ("second", OTHER.key), ("first", CUSTOMER.key)):
            await buyer.post(LANDING, data=form(token))
            expected = [key, *(other for other in expected if other != key)]
            assert (await buyer.get("/registrations")).json() == expected
        assert len(buyer.cookies) == 2


async def test_the_routes_have_a_name(settings: MarketplaceSettings) -> None:
    app = host(Marketplace(settings))
    assert app.url_path_for("marketplace-register") == LANDING


@pytest.mark.parametrize("path", ["/marketplace/", "/marketplace/other"])
async def test_a_mounted_marketplace_answers_its_own_address_only(settings: MarketplaceSettings, path: str) -> None:
    app = Starlette(routes=[Mount("/marketplace", Marketplace(settings))])
    async with browser(app) as buyer:
        assert (await buyer.get(path)).status_code == 404
        assert (await buyer.get(LANDING)).status_code == 200


async def test_a_marketplace_that_is_mounted_deep_sends_on_below_the_outer_root_path(
    settings: MarketplaceSettings,
) -> None:
    inner = Starlette(routes=[Mount("/marketplace", routes=Marketplace(settings, resolver=FakeResolver()).routes)])
    app = Starlette(routes=[Mount("/tenants/{name}", inner)])
    async with browser(app) as buyer:
        response = await buyer.post("/tenants/acme" + LANDING, data=form("good"))
        assert (response.status_code, response.headers["location"]) == (303, "/signup")


async def test_settings_come_from_the_environment_when_none_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETPLACE_SECRET_KEY", "0123456789abcdef" * 2)
    monkeypatch.setenv("MARKETPLACE_PRODUCT_CODES", "a,b")
    assert Marketplace().settings.product_codes == ("a", "b")


async def test_startup_with_a_resolver_of_the_hosts_own_has_nothing_to_do(settings: MarketplaceSettings) -> None:
    resolver = FakeResolver()
    await Marketplace(settings, resolver=resolver).startup()
    assert not resolver.calls


def test_a_host_that_mounts_may_start_it_in_its_lifespan(
    settings: MarketplaceSettings, marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = Marketplace(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await mounted.startup()
        # The client exists already, with the credentials of this moment.
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        yield
        mounted.shutdown()

    app = Starlette(routes=[Mount("/marketplace", mounted)], lifespan=lifespan)
    with TestClient(app) as client:
        token = marketplace.issue_token("new-product")
        assert client.post(LANDING, data=form(token), follow_redirects=False).status_code == 303


@pytest.fixture
def credentials_that_never_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An AWS configuration whose credential_process hangs for as long as the test runs."""
    pipe, config = tmp_path / "pipe", tmp_path / "config"
    os.mkfifo(pipe)
    config.write_text(f"[default]\ncredential_process = cat {pipe}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    yield
    # The process ends once somebody has opened the pipe and closed it.
    os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


@pytest.mark.usefixtures("credentials_that_never_come")
def test_a_server_starts_although_the_look_up_of_credentials_hangs(
    settings: MarketplaceSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    app = Starlette(routes=[Route("/", lambda _: Response("served"))])
    app.add_middleware(MarketplaceMiddleware, settings=replace(settings, deadline=0.2))

    with TestClient(app) as client:
        assert client.get("/").text == "served"
        assert client.post(LANDING, data=form("good"), follow_redirects=False).status_code == 503
    record = caplog.records[0]
    assert (record.levelname, record.name) == ("ERROR", "starlette_marketplace")
    assert "The look-up of AWS credentials has taken more than 0.15 s. Check credential_process" in record.message


async def test_startup_does_not_wait_for_a_shared_cache_that_hangs(
    settings: MarketplaceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    may_end = threading.Event()

    class Hanging:
        def get(self, key: str) -> str | None:
            may_end.wait(60)
            return None

        def set(self, key: str, value: str, ttl: float) -> None:
            raise AssertionError

        def lock(self, key: str) -> AbstractContextManager[object]:
            raise AssertionError

    marketplace = Marketplace(replace(settings, deadline=0.2), resolver=FakeResolver(), shared_cache=Hanging())
    await marketplace.startup()
    may_end.set()
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert "The shared cache has not answered within 0.2 s. Give its client time-outs." in record.message
    marketplace.shutdown()


class AsyncResolver:
    async def resolve(self, token: str) -> MarketplaceCustomer:
        raise AssertionError


class AsyncCall:
    async def __call__(self, token: str) -> MarketplaceCustomer:
        raise AssertionError


def parts_of_the_wrong_kind() -> Iterator[tuple[dict[str, Any], str]]:
    asynchronous = "resolver.resolve() is async, but it is called in a thread. Make it a plain method."
    yield {"resolver": AsyncResolver()}, asynchronous
    yield {"resolver": SimpleNamespace(resolve=partial(AsyncResolver().resolve))}, asynchronous
    yield {"resolver": SimpleNamespace(resolve=AsyncCall())}, asynchronous
    yield {"resolver": SimpleNamespace(resolve=partial(AsyncCall(), "token"))}, asynchronous
    yield {"resolver": AsyncMock()}, asynchronous
    yield {"resolver": FakeResolver}, "resolver is the class FakeResolver. Give an instance of it."
    yield {"resolver": lambda token: CUSTOMER}, "resolver has no method resolve(). It must have resolve."
    yield {"resolver": SimpleNamespace(resolve=CUSTOMER)}, "resolver has no method resolve(). It must have resolve."
    yield {"reader": FakeReader}, "reader is the class FakeReader. Give an instance of it."
    yield {"reader": object()}, "reader has no method get_entitlements(). It must have get_entitlements, get_agreement."
    cache = {"get": str, "set": str, "lock": nullcontext}

    async def get(key: str) -> str | None:
        raise AssertionError

    @asynccontextmanager
    async def lock(key: str) -> AsyncIterator[None]:
        yield

    for name, method in (("get", get), ("lock", lock)):
        broken = SimpleNamespace(**cache | {name: method})
        yield {"shared_cache": broken}, f"shared_cache.{name}() is async, but it is called in a thread."
    yield {"shared_cache": {}}, "shared_cache has no method set(). It must have get, set, lock."
    for client in (redis.Redis(), redis.asyncio.Redis(), redis.asyncio.RedisCluster("localhost"), Sentinel([])):  # type: ignore[no-untyped-call]
        yield (
            {"shared_cache": client},
            "shared_cache is a Redis client. Give starlette_marketplace.registration.redis.RedisCache(",
        )
    yield {"settings": {"secret_key": "k" * 32}}, "settings must be MarketplaceSettings or None, not dict"
    yield {"settings": MarketplaceSettings}, "settings must be MarketplaceSettings or None, not type"
    for hook in ("on_request", "on_resolved", "on_error", "on_visit"):
        yield {hook: "/login"}, "a hook must be a function, not str"
        yield {hook: AsyncCall}, "a hook must be a function, not a class"


WRONG = list(parts_of_the_wrong_kind())


@pytest.mark.parametrize(("arguments", "text"), WRONG, ids=[text for _, text in WRONG])
def test_parts_of_the_wrong_kind_are_refused_at_start(
    settings: MarketplaceSettings, arguments: dict[str, Any], text: str
) -> None:
    arguments = {"settings": settings} | arguments
    with pytest.raises(TypeError) as caught:
        Marketplace(**arguments)
    assert str(caught.value).startswith(text)

    app = Starlette()
    app.add_middleware(MarketplaceMiddleware, **arguments)
    with pytest.raises(TypeError, match=re.escape(text)), TestClient(app):
        pytest.fail("the server has started")


def test_the_middleware_wants_a_marketplace_as_its_first_argument(settings: MarketplaceSettings) -> None:
    app = Starlette()
    app.add_middleware(MarketplaceMiddleware, settings)  # type: ignore[arg-type]
    text = "marketplace must be a Marketplace, not MarketplaceSettings"
    with pytest.raises(TypeError, match=text), TestClient(app):
        pytest.fail("the server has started")


def test_stand_ins_of_unittest_are_parts_of_the_right_kind(settings: MarketplaceSettings) -> None:
    resolver = Mock(spec=AwsResolver)
    resolver.resolve.return_value = CUSTOMER
    app = Starlette(routes=[Mount("/marketplace", Marketplace(settings, resolver=resolver, on_error=Mock()))])
    with TestClient(app) as client:
        assert client.post(LANDING, data=form("good"), follow_redirects=False).status_code == 303
