"""The pages on FastAPI, Starlette and hooks: their programs, and what they say."""

import contextlib
import dataclasses
import json
import queue
import re
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import anyio
import httpx2
import pytest
from fastapi import Depends, FastAPI
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.applications import Starlette
from starlette.config import Config
from starlette.datastructures import CommaSeparatedStrings, Secret
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient, WebSocketDenialResponse
from trio.testing import MockClock

from starlette_marketplace import (
    Marketplace,
    MarketplaceError,
    MarketplaceMiddleware,
    MarketplaceSettings,
    Registration,
    SettingsError,
    ThrottledError,
    complete_registration,
    get_registration,
    hooks,
)
from starlette_marketplace.doctor.host import settings_from
from starlette_marketplace.local import LocalMarketplace
from starlette_marketplace.middleware import MarketplaceOptions
from starlette_marketplace.testing import add_registration
from tests.docs.programs import ROOT, program, running, stored
from tests.example_app.browser import hidden_fields
from tests.support.fakes import CUSTOMER, FakeResolver
from tests.support.hosts import LANDING, Host, browser, fastapi_middleware, form, starlette_middleware, starlette_mount
from tests.support.servers import serve

pytestmark = pytest.mark.slow

HOOKS_PAGE = (ROOT / "docs/hooks.md").read_text()
ORIGIN = "http://127.0.0.1"
each_way = pytest.mark.parametrize("host", [fastapi_middleware, starlette_mount])
FOREIGN = [{"Sec-Fetch-Site": "same-site"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": "null"}]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder that the program runs in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# FastAPI


@pytest.fixture
def fastapi_app(nested_environment: None, folder: Path) -> ModuleType:
    return program("fastapi_app")


@pytest.fixture
def fastapi_client(fastapi_app: ModuleType) -> Iterator[TestClient]:
    with TestClient(fastapi_app.app, base_url=ORIGIN) as client:
        yield client


def test_the_fastapi_program_signs_up_each_customer_once(
    nested_environment: None, marketplace: LocalMarketplace, tmp_path: Path
) -> None:
    token = marketplace.issue_token("new-product")
    with (
        running("fastapi_app", tmp_path) as url,
        httpx2.Client(base_url=url, timeout=60, follow_redirects=True) as buyer,
    ):
        for email in ("a@b.example", "c@d.example"):  # Who does not come from AWS can sign up as well.
            assert hidden_fields(buyer.get("/signup")) == {}
            assert buyer.post("/signup", data={"email": email}).text == f"Welcome, {email}!"
        page = buyer.post(LANDING, data=form(token))
        assert page.url.path == "/signup"
        assert f"ending in {marketplace.buyer.account_id[-4:]}" in page.text
        typed = {"email": "e@f.example"} | hidden_fields(page)
        assert buyer.post("/signup", data=typed).text == "Welcome, e@f.example!"
        assert not buyer.cookies
        buyer.post(LANDING, data=form(token))
        again = buyer.post("/signup", data=typed)
        assert again.status_code == 409
        assert "log in" in again.text
        assert buyer.cookies, "the registration that was not linked can still be linked otherwise"


def test_the_fastapi_program_refuses_an_id_that_is_over(fastapi_client: TestClient, fastapi_app: ModuleType) -> None:
    response = fastapi_client.post("/signup", data={"email": "a@b.example", "registration_id": "gone"})
    assert response.status_code == 400
    assert "Set up your account" in response.json()["detail"]
    assert stored(fastapi_app.settings.database) == []


def test_the_fastapi_program_links_what_the_form_showed_and_not_the_newest(
    fastapi_client: TestClient, fastapi_app: ModuleType
) -> None:
    shown = add_registration(fastapi_client, fastapi_app.settings.marketplace)
    typed = {"email": "a@b.example"} | hidden_fields(fastapi_client.get("/signup"))
    newer = add_registration(fastapi_client, fastapi_app.settings.marketplace)
    assert fastapi_client.post("/signup", data=typed).status_code == 200
    assert stored(fastapi_app.settings.database) == [("a@b.example", shown.customer.key)]
    assert hidden_fields(fastapi_client.get("/signup")) == {"registration_id": newer.id}


@pytest.mark.parametrize("headers", FOREIGN)
def test_the_fastapi_program_takes_no_form_and_no_websocket_of_another_site(
    fastapi_client: TestClient, fastapi_app: ModuleType, headers: dict[str, str]
) -> None:
    registration = add_registration(fastapi_client, fastapi_app.settings.marketplace)
    typed = {"email": "a@b.example", "registration_id": registration.id}
    assert fastapi_client.post("/signup", data=typed, headers=headers).status_code == 403
    socket = fastapi_client.websocket_connect("/signup/questions", headers={"Host": "127.0.0.1"} | headers)
    with pytest.raises(WebSocketDenialResponse) as denied, socket:
        pass
    assert denied.value.status_code == 403
    assert stored(fastapi_app.settings.database) == []
    assert fastapi_client.post("/signup", data=typed, headers={"Origin": ORIGIN}).status_code == 200


def test_the_websocket_of_the_fastapi_program_knows_who_asks(
    fastapi_client: TestClient, fastapi_app: ModuleType
) -> None:
    registration = add_registration(fastapi_client, fastapi_app.settings.marketplace)
    cookie = "; ".join(f"{name}={value}" for name, value in fastapi_client.cookies.items())
    for headers in ({"cookie": cookie}, {}):
        headers |= {"Host": "127.0.0.1", "Origin": ORIGIN}
        with fastapi_client.websocket_connect("ws://127.0.0.1/signup/questions", headers=headers) as websocket:
            websocket.send_text("What does it cost?")
            assert "by e-mail" in websocket.receive_text()
        fastapi_client.cookies.clear()
    asked = stored(fastapi_app.settings.database, "text, customer_key", table="question")
    assert asked == [("What does it cost?", registration.customer.key), ("What does it cost?", None)]


def test_the_mounted_api_of_the_fastapi_program_sees_the_registration_too(
    fastapi_client: TestClient, fastapi_app: ModuleType
) -> None:
    assert fastapi_client.get("/api/arrival").json() is None
    registration = add_registration(fastapi_client, fastapi_app.settings.marketplace)
    assert fastapi_client.get("/api/arrival").json() == {
        "registration_id": registration.id,
        "account_ends_in": registration.customer.aws_account_id[-4:],
        "product_code": registration.customer.product_code,
    }


def test_the_schema_of_the_fastapi_program_has_neither_the_landing_url_nor_the_registration(
    fastapi_app: ModuleType,
) -> None:
    schema = fastapi_app.app.openapi()
    assert list(schema["paths"]) == ["/signup"]
    assert "parameters" not in schema["paths"]["/signup"]["get"]
    assert "requestBody" not in schema["paths"]["/signup"]["get"]
    [fields] = [model for name, model in schema["components"]["schemas"].items() if name.startswith("Body")]
    assert set(fields["properties"]) == {"email", "registration_id"}
    assert "Arrival" in fastapi_app.api.openapi()["components"]["schemas"]
    assert "parameters" not in fastapi_app.api.openapi()["paths"]["/arrival"]["get"]
    mounting = FastAPI()
    mounting.mount("/marketplace", Marketplace(fastapi_app.settings.marketplace))
    assert mounting.openapi()["paths"] == {}


def test_a_wrong_host_stays_outside_of_the_middleware_that_was_added_before(
    fastapi_app: ModuleType, marketplace: LocalMarketplace
) -> None:
    with TestClient(fastapi_app.app, base_url="http://elsewhere.example") as client:
        assert client.post(LANDING, data=form(marketplace.issue_token("new-product"))).status_code == 400
    assert not marketplace.resolve_calls


def test_the_fastapi_program_is_told_its_hosts_as_json(
    nested_environment: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", '["app.example"]')
    client = TestClient(program("fastapi_app").app)
    for host, status in (("app.example", 200), ("127.0.0.1", 400)):
        assert client.get("/signup", headers={"Host": host}).status_code == status


def test_a_dependency_is_overridden_in_the_app_that_has_the_route(fastapi_app: ModuleType) -> None:
    with TestClient(fastapi_app.app, base_url=ORIGIN) as client:
        registration = add_registration(TestClient(fastapi_app.app), fastapi_app.settings.marketplace)
        fastapi_app.app.dependency_overrides[get_registration] = lambda: registration
        assert hidden_fields(client.get("/signup")) == {"registration_id": registration.id}
        assert client.get("/api/arrival").json() is None
        fastapi_app.api.dependency_overrides[get_registration] = lambda: registration
        assert client.get("/api/arrival").json()["registration_id"] == registration.id
        typed = {"email": "a@b.example", "registration_id": registration.id}
        assert client.post("/signup", data=typed).status_code == 400, "the cookie is what counts here"


def test_pydantic_settings_may_read_the_names_that_the_package_reads(
    environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Settings(BaseSettings):
        model_config = SettingsConfigDict(env_nested_delimiter="_", env_nested_max_split=1)

        marketplace: MarketplaceSettings

    assert Settings().marketplace == MarketplaceSettings.from_env()  # type: ignore[call-arg]
    monkeypatch.setenv("MARKETPLACE_PORT", "8000")
    with pytest.raises(ValueError, match="port"):
        Settings()  # type: ignore[call-arg]
    assert MarketplaceSettings.from_env().product_codes


def test_doctor_is_told_where_the_settings_of_the_fastapi_program_are(
    nested_environment: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs/src"), *sys.path])
    monkeypatch.delitem(sys.modules, "fastapi_app", raising=False)
    found = settings_from("fastapi_app:settings.marketplace")
    del sys.modules["fastapi_app"]
    assert isinstance(found, MarketplaceSettings)


def test_a_registration_is_completed_on_the_response_that_fastapi_gives(settings: MarketplaceSettings) -> None:
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware, settings=settings, resolver=FakeResolver())

    @app.post("/signup")
    def finish(request: Request, response: Response) -> dict[str, str]:
        registration = get_registration(request)
        assert registration
        complete_registration(request, response, registration)
        return {"welcome": registration.id}

    with TestClient(app, base_url="https://app.example") as client:
        client.post(LANDING, data=form("good"), follow_redirects=False)
        assert client.cookies
        assert client.post("/signup").json()["welcome"]
        assert not client.cookies


def test_the_dependency_that_the_fastapi_page_shows_for_a_mounted_marketplace_works(
    settings: MarketplaceSettings,
) -> None:
    marketplace = Marketplace(settings, resolver=FakeResolver())
    app = FastAPI()
    app.mount("/marketplace", marketplace)

    def newest_registration(connection: HTTPConnection) -> Registration | None:
        return marketplace.get_registration(connection)

    @app.get("/signup")
    async def signup(registration: Annotated[Registration | None, Depends(newest_registration)]) -> str:
        return registration.customer.key if registration else "nobody"

    with TestClient(app, base_url="https://app.example") as client:
        assert client.get("/signup").json() == "nobody"
        assert client.post(LANDING, data=form("good")).json() == CUSTOMER.key


def test_the_dependencies_of_the_fastapi_program_are_not_those_of_what_is_mounted(fastapi_app: ModuleType) -> None:
    fastapi_app.api.post("/arrival")(lambda: "reached")
    with TestClient(fastapi_app.app, base_url=ORIGIN) as client:
        assert client.post("/api/arrival", headers=FOREIGN[0]).json() == "reached"


@pytest.mark.parametrize("kind", [FastAPI, Starlette])
def test_the_lifespan_of_a_mounted_app_does_not_run_and_its_middleware_answers_all_the_same(
    settings: MarketplaceSettings, kind: type[Starlette]
) -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        raise AssertionError
        yield

    inner = kind(lifespan=lifespan)
    inner.add_middleware(MarketplaceMiddleware, settings=settings, resolver=FakeResolver())
    with TestClient(Starlette(routes=[Mount("/shop", inner)]), follow_redirects=False) as client:
        assert client.post("/shop" + LANDING, data=form("good")).headers["location"] == "/shop/signup"


# Starlette


@pytest.fixture
def starlette_app(environment: None, folder: Path) -> ModuleType:
    return program("starlette_app")


@pytest.fixture
def starlette_client(starlette_app: ModuleType) -> Iterator[TestClient]:
    with TestClient(starlette_app.app, base_url=ORIGIN) as client:
        yield client


def test_the_starlette_program_signs_up_each_customer_once(
    environment: None, marketplace: LocalMarketplace, tmp_path: Path
) -> None:
    token = marketplace.issue_token("new-product")
    with (
        running("starlette_app", tmp_path) as url,
        httpx2.Client(base_url=url, timeout=60, follow_redirects=True) as buyer,
    ):
        for email in ("a@b.example", "c@d.example"):  # Who does not come from AWS can sign up as well.
            assert hidden_fields(buyer.get("/signup")) == {}
            assert buyer.post("/signup", data={"email": email}).url.path == "/welcome"
        page = buyer.post(LANDING, data=form(token))
        assert page.url.path == "/signup"
        assert f"ending in {marketplace.buyer.account_id[-4:]}" in page.text
        typed = {"email": "e@f.example"} | hidden_fields(page)
        assert buyer.post("/signup", data=typed).url.path == "/welcome"
        assert not buyer.cookies
        buyer.post(LANDING, data=form(token))
        again = buyer.post("/signup", data=typed)
        assert again.status_code == 409
        assert "<h1>Sorry</h1>" in again.text
        assert buyer.cookies, "the registration that was not linked can still be linked otherwise"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"email": "a@b.example", "registration_id": "gone"}, "This took too long"),
        ({"email": " "}, "enter your e-mail address"),
    ],
)
def test_the_starlette_program_says_what_is_wrong_with_a_form(
    starlette_client: TestClient, starlette_app: ModuleType, typed: dict[str, str], sentence: str
) -> None:
    response = starlette_client.post("/signup", data=typed)
    assert response.status_code == 400
    assert sentence in response.text
    assert stored(starlette_app.DATABASE) == []


def test_the_starlette_program_shows_every_registration_and_links_the_one_that_is_chosen(
    starlette_client: TestClient, starlette_app: ModuleType
) -> None:
    settings = starlette_app.marketplace.settings
    older, newer = (add_registration(starlette_client, settings) for _ in range(2))
    page = starlette_client.get("/signup").text
    assert re.findall('name="registration_id" value="(.*?)"', page) == [newer.id, older.id]
    typed = {"email": "a@b.example", "registration_id": older.id}
    assert starlette_client.post("/signup", data=typed).url.path == "/welcome"
    assert stored(starlette_app.DATABASE) == [("a@b.example", older.customer.key)]
    assert hidden_fields(starlette_client.get("/signup")) == {"registration_id": newer.id}


@pytest.mark.parametrize("headers", FOREIGN)
def test_the_starlette_program_takes_no_form_of_another_site(
    starlette_client: TestClient, starlette_app: ModuleType, headers: dict[str, str]
) -> None:
    registration = add_registration(starlette_client, starlette_app.marketplace.settings)
    typed = {"email": "a@b.example", "registration_id": registration.id}
    assert starlette_client.post("/signup", data=typed, headers=headers).status_code == 403
    assert stored(starlette_app.DATABASE) == []
    assert starlette_client.post("/signup", data=typed, headers={"Origin": ORIGIN}).status_code == 200


def test_the_starlette_program_reads_its_settings_from_a_file_and_first_from_the_environment(
    environment: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("MARKETPLACE_DEADLINE=7\nMARKETPLACE_SECRET_KEY=short\nDATABASE=other.db\n")
    module = program("starlette_app")
    assert (module.marketplace.settings.deadline, module.DATABASE) == (7, "other.db")
    monkeypatch.setenv("MARKETPLACE_DEADLINE", "8")
    assert program("starlette_app").marketplace.settings.deadline == 8


def test_the_starlette_program_is_ready_for_its_first_buyer_when_it_has_started(
    starlette_client: TestClient, marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client exists already, with the credentials of this moment.
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    arrived = starlette_client.post(LANDING, data=form(marketplace.issue_token("new-product")), follow_redirects=False)
    assert arrived.status_code == 303


def test_a_wrong_host_does_not_reach_the_landing_url_of_the_starlette_program(
    starlette_app: ModuleType, marketplace: LocalMarketplace
) -> None:
    with TestClient(starlette_app.app, base_url="http://elsewhere.example") as client:
        assert client.post(LANDING, data=form(marketplace.issue_token("new-product"))).status_code == 400
    assert not marketplace.resolve_calls


def test_the_starlette_program_keeps_its_root_path(starlette_app: ModuleType, marketplace: LocalMarketplace) -> None:
    with serve(starlette_app.app, root_path="/eu") as url, httpx2.Client(base_url=url) as buyer:
        arrived = buyer.post(LANDING, data=form(marketplace.issue_token("new-product")))
        assert arrived.headers["location"] == "/eu/signup"
        page = buyer.get("/signup")
        signed_up = buyer.post("/signup", data={"email": "a@b.example"} | hidden_fields(page))
        assert signed_up.headers["location"] == f"{url}/eu/welcome"


def test_what_the_marketplace_answers_is_no_exception_of_the_host(
    starlette_client: TestClient, marketplace: LocalMarketplace
) -> None:
    assert "<h1>Sorry</h1>" in starlette_client.get("/marketplace/other").text
    expired = starlette_client.post(LANDING, data=form(marketplace.issue_token("expired")))
    assert "<h1>This link has expired</h1>" in expired.text


def addresses(app: Starlette, *, root_path: str = "") -> dict[str, str]:
    async def show(request: Request) -> Response:
        return JSONResponse({name: str(request.url_for(name)) for name in request.query_params.getlist("name")})

    app.router.routes.append(Route("/addresses", show))
    names = ["marketplace-register", "us:marketplace-register"]
    client = TestClient(app, base_url="https://app.example", root_path=root_path)
    found: dict[str, str] = client.get(root_path + "/addresses", params={"name": names}).json()
    return found


@pytest.mark.parametrize("root_path", ["", "/api"])
@pytest.mark.parametrize("as_routes", [True, False])
def test_the_landing_url_has_a_name(settings: MarketplaceSettings, root_path: str, as_routes: bool) -> None:
    marketplace = Marketplace(settings)
    mounted: dict[str, Any] = {"routes": marketplace.routes} if as_routes else {"app": marketplace}
    routes = [Mount("/marketplace", **mounted), Mount("/us/marketplace", **mounted, name="us")]
    assert addresses(Starlette(routes=routes), root_path=root_path) == {
        "marketplace-register": f"https://app.example{root_path}/marketplace/register",
        "us:marketplace-register": f"https://app.example{root_path}/us/marketplace/register",
    }


def test_the_types_of_starlettes_own_config_are_no_settings(environment: None) -> None:
    config = Config()
    code, key = config("MARKETPLACE_PRODUCT_CODES"), str(config("MARKETPLACE_SECRET_KEY", cast=Secret))
    assert MarketplaceSettings(secret_key=key, product_codes=code).product_codes == tuple(code.split(","))
    secret: Any = config("MARKETPLACE_SECRET_KEY", cast=Secret)
    codes: Any = config("MARKETPLACE_PRODUCT_CODES", cast=CommaSeparatedStrings)
    for wrong in ({"secret_key": secret, "product_codes": code}, {"secret_key": key, "product_codes": codes}):
        with pytest.raises(SettingsError):
            MarketplaceSettings(**wrong)


def test_a_marketplace_of_ones_own_may_be_given_to_the_middleware(settings: MarketplaceSettings) -> None:
    marketplace = Marketplace(settings, resolver=FakeResolver())

    async def show(request: Request) -> Response:
        registration = get_registration(request)
        assert registration
        return JSONResponse(marketplace.get_registrations(request) == [registration])

    app = Starlette(routes=[Route("/signup", show)])
    app.add_middleware(MarketplaceMiddleware, marketplace=marketplace)
    with TestClient(app, base_url="https://app.example") as client:
        assert client.post(LANDING, data=form("good")).json() is True


def test_the_first_of_the_middleware_list_stands_outermost(settings: MarketplaceSettings) -> None:
    class Greeting:
        def __init__(self, app: Any) -> None: ...

        async def __call__(self, *asgi: Any) -> None:
            await PlainTextResponse("the host")(*asgi)

    ours, other = Middleware(MarketplaceMiddleware, settings=settings), Middleware(Greeting)
    for middleware, expected in (([ours, other], "subscriptions"), ([other, ours], "the host")):
        assert expected in TestClient(Starlette(middleware=middleware)).get(LANDING).text


def test_one_marketplace_serves_several_apps(settings: MarketplaceSettings) -> None:
    marketplace = Marketplace(settings, resolver=FakeResolver())

    async def show(request: Request) -> Response:
        registration = marketplace.get_registration(request)
        return PlainTextResponse(registration.customer.key if registration else "nobody")

    site = Starlette(routes=[Mount("/marketplace", marketplace), Route("/signup", show)])
    console = Starlette(routes=[Route("/who", show)])
    with TestClient(site, base_url="https://app.example") as client:
        signup = client.post(LANDING, data=form("good")).text
        assert signup != "nobody"
        other = TestClient(console, base_url="https://app.example", cookies=client.cookies)
        assert other.get("/who").text == signup


def test_marketplaces_with_cookies_of_different_names_know_nothing_of_each_other(settings: MarketplaceSettings) -> None:
    renamed = dataclasses.replace(settings, session_cookie="other")
    one, same, other = (Marketplace(each, resolver=FakeResolver()) for each in (settings, settings, renamed))

    async def show(request: Request) -> Response:
        return JSONResponse([len(each.get_registrations(request)) for each in (one, same, other)])

    app = Starlette(routes=[Mount("/marketplace", one), Route("/signup", show)])
    with TestClient(app, base_url="https://app.example") as client:
        assert client.post(LANDING, data=form("good")).json() == [1, 1, 0]


# Hooks


class Recorder:
    """Another service, which answers when it is let."""

    def __init__(self) -> None:
        self.received: queue.Queue[dict[str, Any]] = queue.Queue()
        self.may_answer = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        content = await Request(scope, receive).json()
        await anyio.to_thread.run_sync(self.may_answer.wait)
        self.received.put(content)
        await PlainTextResponse("thanks")(scope, receive, send)


@pytest.fixture
def crm() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.may_answer.set()


@pytest.fixture
def pager() -> Recorder:
    recorder = Recorder()
    recorder.may_answer.set()
    return recorder


@pytest.fixture
def hooks_app(
    environment: None, folder: Path, crm: Recorder, pager: Recorder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    monkeypatch.setenv("MARKETPLACE_MAX_ATTEMPTS", "1")
    with serve(crm, lifespan="off") as crm_url, serve(pager, lifespan="off") as pager_url:
        monkeypatch.setenv("CRM_URL", crm_url)
        monkeypatch.setenv("PAGER_URL", pager_url)
        yield program("hooks_app")
        crm.may_answer.set()


@pytest.fixture
def buyer(hooks_app: ModuleType) -> Iterator[httpx2.Client]:
    with serve(hooks_app.app) as url, httpx2.Client(base_url=url, timeout=60) as client:
        yield client


def test_a_lead_is_kept_after_the_buyer_was_sent_on(
    buyer: httpx2.Client, crm: Recorder, marketplace: LocalMarketplace, caplog: pytest.LogCaptureFixture
) -> None:
    arrived = buyer.post(LANDING, data=form(marketplace.issue_token("free-trial"), offer_type="free-trial"))
    assert (arrived.status_code, arrived.headers["location"]) == (303, "/signup")
    assert crm.received.empty(), "the CRM has not answered yet"
    assert "did not get through" not in caplog.text, "nor has anybody lost patience with it"
    assert buyer.get("/signup").text.endswith(marketplace.buyer.account_id[-4:])
    crm.may_answer.set()
    lead = crm.received.get(timeout=60)
    assert lead["customer"]["aws_account_id"] == marketplace.buyer.account_id
    assert lead["free_trial"] is True
    assert lead["id"] in next(iter(buyer.cookies))


def test_a_returning_customer_is_sent_to_log_in(
    buyer: httpx2.Client, hooks_app: ModuleType, crm: Recorder, marketplace: LocalMarketplace
) -> None:
    crm.may_answer.set()
    token = marketplace.issue_token("new-product")
    assert buyer.post(LANDING, data=form(token)).headers["location"] == "/signup"
    key = crm.received.get(timeout=60)["customer"]["license_arn"]
    with closing(sqlite3.connect(hooks_app.DATABASE)) as database, database:
        database.execute("INSERT INTO account VALUES (?, ?)", ["a@b.example", key])
    buyer.cookies.clear()
    assert buyer.post(LANDING, data=form(token)).headers["location"] == "/login"
    assert len(buyer.cookies) == 1, "only the registration, no login"
    assert crm.received.empty()


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "application/json"},
        {"Accept": "application/json, text/plain, */*"},
        {"Content-Type": "application/json"},
        {"Content-Type": "Application/JSON; charset=utf-8"},
    ],
)
def test_an_api_client_gets_json_of_every_hook(
    buyer: httpx2.Client, crm: Recorder, marketplace: LocalMarketplace, headers: dict[str, str]
) -> None:
    crm.may_answer.set()

    def post(token: str) -> httpx2.Response:
        if "Accept" in headers:
            return buyer.post(LANDING, data=form(token), headers=headers)
        return buyer.post(LANDING, content=json.dumps({"RegistrationToken": token}), headers=headers)

    arrived = post(marketplace.issue_token("new-product"))
    assert arrived.json() == {"success": True, "data": {"redirect_url": "/signup"}}
    assert len(buyer.cookies) == 1
    assert post(marketplace.issue_token("expired")).json()["error"]["code"] == "EXPIRED_TOKEN"
    for _ in range(18):
        assert post("junk").status_code == 400
    refused = post("junk")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert refused.json()["error"]["code"] == "TOO_MANY_TRIES"


def test_too_many_tries_are_refused_with_a_page_and_aws_is_not_asked(
    buyer: httpx2.Client, hooks_app: ModuleType, marketplace: LocalMarketplace
) -> None:
    pages = [buyer.post(LANDING, data=form(f"junk-{number}")) for number in range(22)]
    assert [page.status_code for page in pages] == [400] * 20 + [429] * 2
    assert "<h1>Too many tries</h1>" in pages[-1].text
    assert pages[-1].headers["retry-after"] == "60"
    assert len(marketplace.resolve_calls) == 20
    assert hooks_app.failures == {"INVALID_TOKEN": 20, "TOO_MANY_TRIES": 2}


def test_a_mistake_of_the_seller_wakes_somebody_once_and_the_buyer_gets_the_page(
    hooks_app: ModuleType, pager: Recorder, marketplace: LocalMarketplace
) -> None:
    with TestClient(hooks_app.app, base_url=ORIGIN) as client:  # It waits for background tasks.
        for scenario in ("expired", "access-denied", "access-denied", "expired-credentials"):
            page = client.post(LANDING, data=form(marketplace.issue_token(scenario)))
            if scenario == "access-denied":
                assert "Setting up accounts is not possible right now" in page.text
    told = [pager.received.get_nowait()["text"] for _ in range(2)]
    assert pager.received.empty()
    assert ["aws-marketplace:ResolveCustomer" in text for text in told] == [True, False]
    assert re.search(r"\(reference [0-9A-F]{8}\)$", told[0])
    assert hooks_app.failures == {"EXPIRED_TOKEN": 1, "ACCESS_DENIED": 2, "CREDENTIALS": 1}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_has_not_finished_is_led_back_and_whoever_else_looks_gets_the_page(
    hooks_app: ModuleType, crm: Recorder, marketplace: LocalMarketplace, method: str
) -> None:
    crm.may_answer.set()
    with TestClient(hooks_app.app, base_url=ORIGIN, root_path="/eu", follow_redirects=False) as client:
        assert client.request(method, "/eu" + LANDING).status_code == 200
        client.post("/eu" + LANDING, data=form(marketplace.issue_token("new-product")))
        visit = client.request(method, "/eu" + LANDING)
    assert (visit.status_code, visit.headers["location"]) == (303, "/eu/signup")
    assert visit.headers["cache-control"] == "no-store"


def test_a_service_that_is_down_takes_nothing_from_the_buyer(
    hooks_app: ModuleType, marketplace: LocalMarketplace, caplog: pytest.LogCaptureFixture
) -> None:
    vars(hooks_app)["CRM_URL"] = "http://127.0.0.1:9"
    with TestClient(hooks_app.app, base_url=ORIGIN, follow_redirects=False) as client:
        assert client.post(LANDING, data=form(marketplace.issue_token("new-product"))).status_code == 303
    assert "A message did not get through: ConnectError" in caplog.text


def test_the_responses_of_the_hooks_keep_the_root_path(
    hooks_app: ModuleType, crm: Recorder, marketplace: LocalMarketplace
) -> None:
    crm.may_answer.set()
    with serve(hooks_app.app, root_path="/eu") as url:
        arrived = httpx2.post(url + LANDING, data=form(marketplace.issue_token("new-product")))
        assert arrived.headers["location"] == "/eu/signup"


# What the page on hooks says of each


async def post(app: Any, token: str = "good", **arguments: Any) -> httpx2.Response:
    async with browser(app, **arguments) as client:
        response: httpx2.Response = await client.post(arguments.get("root_path", "") + LANDING, data=form(token))
        return response


@pytest.mark.anyio
@each_way
async def test_each_hook_is_called_when_the_page_says(host: Host, settings: MarketplaceSettings) -> None:
    called: list[str] = []
    options: dict[str, Any] = {
        "on_request": lambda _: called.append("on_request"),
        "on_resolved": lambda _: called.append("on_resolved"),
        "on_error": lambda event: called.append(f"on_error {event.error.code}"),
        "on_visit": lambda event: called.append(f"on_visit {event.request.method}"),
    }
    foreign = dataclasses.replace(CUSTOMER, product_code="foreign")
    resolver = FakeResolver({"good": CUSTOMER, "foreign": foreign})
    async with browser(host(settings=settings, resolver=resolver, **options)) as client:
        for _ in range(2):  # Also when it is known already who comes with this token.
            await client.post(LANDING, data=form("good"))
            assert called == ["on_request", "on_resolved"]
            called.clear()
        await client.post(LANDING, data=form("foreign"))
        assert called == ["on_request", "on_error PRODUCT_MISMATCH"]
        called.clear()
        await client.post(LANDING, data=form("junk"))
        assert called == ["on_request", "on_error INVALID_TOKEN"]
        called.clear()
        await client.post(LANDING, data={"x-amzn-marketplace-offer-type": "free-trial"})
        assert called == ["on_error MISSING_TOKEN"]
        called.clear()
        await client.options(LANDING)
        await client.put(LANDING)
        assert called == []
        await client.get(LANDING)
        await client.head(LANDING)
        assert called == ["on_visit GET", "on_visit HEAD"]
    assert resolver.calls["good"] == 1


@pytest.mark.anyio
@each_way
@pytest.mark.parametrize("hook", ["on_request", "on_resolved"])
@pytest.mark.parametrize("way", ["response", "our error", "http exception", "another exception"])
async def test_on_error_is_called_for_our_errors_and_for_nothing_else_that_a_hook_does(
    host: Host, settings: MarketplaceSettings, hook: str, way: str
) -> None:
    seen: list[str] = []

    async def refuse(_: object) -> Response:
        match way:
            case "response":
                return PlainTextResponse("no", 403)
            case "our error":
                raise ThrottledError("no")
            case "http exception":
                raise HTTPException(403, "no")
            case _:
                raise ZeroDivisionError

    options: dict[str, Any] = {hook: refuse, "on_error": lambda event: seen.append(event.error.code)}
    app = host(settings=settings, resolver=FakeResolver(), **options)
    response = await post(app, raise_app_exceptions=False)
    expected = {"response": 403, "our error": 503, "http exception": 403, "another exception": 500}
    assert response.status_code == expected[way]
    assert seen == (["THROTTLED"] if way == "our error" else [])
    assert "set-cookie" not in response.headers


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "heading"), [(503, "Try again"), (429, "How to get a fresh link")])
async def test_an_error_of_ones_own_offers_to_try_again_by_its_status(
    settings: MarketplaceSettings, status: int, heading: str
) -> None:
    class OwnError(MarketplaceError):
        pass

    OwnError.status = status

    async def refuse(_: hooks.RegistrationRequested) -> None:
        raise OwnError("no")

    response = await post(starlette_mount(settings=settings, on_request=refuse))
    assert response.status_code == status
    assert heading in response.text


@pytest.mark.anyio
async def test_on_error_can_tell_by_the_response_that_json_is_wanted(settings: MarketplaceSettings) -> None:
    seen: list[bool] = []
    app = starlette_middleware(
        settings=settings,
        resolver=FakeResolver(),
        on_error=lambda event: seen.append(isinstance(event.response, JSONResponse)),
    )
    async with browser(app) as client:
        await client.post(LANDING, data=form("junk"))
        await client.post(LANDING, json={"RegistrationToken": "junk"})
    assert seen == [False, True]


def test_the_time_of_on_request_counts_for_the_deadline_and_that_of_the_others_does_not(
    settings: MarketplaceSettings,
) -> None:
    host: Host = starlette_middleware
    clock = MockClock()
    statuses: list[int] = []

    async def take_a_minute(_: object) -> None:
        clock.jump(60)

    async def main() -> None:
        for hook, token in (("on_request", "good"), ("on_resolved", "good"), ("on_error", "junk")):
            resolver = FakeResolver()
            app = host(settings=settings, resolver=resolver, **{hook: take_a_minute})
            with resolver.held() if hook == "on_request" else contextlib.nullcontext():
                statuses.append((await post(app, token)).status_code)

    anyio.run(main, backend="trio", backend_options={"clock": clock})
    assert statuses == [503, 303, 400]


@pytest.mark.anyio
@pytest.mark.parametrize("host", [starlette_middleware, starlette_mount])
@pytest.mark.parametrize(
    ("answer", "location"),
    [
        (None, "/eu/signup"),
        ("/login", "/eu/login"),
        ("https://login.example/start", "https://login.example/start"),
        (RedirectResponse("/login", 303), "/login"),
    ],
)
async def test_a_path_of_on_resolved_gets_the_root_path_and_a_response_is_left_as_it_is(
    host: Host, settings: MarketplaceSettings, answer: Response | str | None, location: str
) -> None:
    app = host(settings=settings, resolver=FakeResolver(), on_resolved=lambda _: answer)
    assert (await post(app, root_path="/eu")).headers["location"] == location


@pytest.mark.anyio
@each_way
async def test_the_body_is_gone_when_a_hook_is_called(host: Host, settings: MarketplaceSettings) -> None:
    async def read(event: hooks.RegistrationRequested) -> Response:
        with anyio.move_on_after(0.01) as scope:
            await event.request.body()
        return PlainTextResponse("waited in vain" if scope.cancelled_caught else "found it")

    assert (await post(host(settings=settings, on_request=read))).text == "waited in vain"


@pytest.mark.anyio
@pytest.mark.parametrize("host", [starlette_middleware, starlette_mount])
@pytest.mark.parametrize("writes", [True, False])
async def test_a_hook_that_writes_into_the_session_logs_its_user_out(
    host: Host, settings: MarketplaceSettings, writes: bool
) -> None:
    def on_resolved(event: hooks.RegistrationResolved) -> None:
        if writes:
            event.request.session["registration"] = event.registration.id

    async def who(request: Request) -> Response:
        request.session.update(request.query_params)
        return PlainTextResponse(",".join(request.session))

    app: Any = host(settings=settings, resolver=FakeResolver(), on_resolved=on_resolved)
    app.add_middleware(SessionMiddleware, secret_key="s" * 32)
    app.router.routes.append(Route("/who", who))
    async with browser(app) as client:
        assert (await client.get("/who", params={"user": "ada"})).text == "user"
        crossing = await post(app)  # from another site, where the browser sends no cookie of the host along
        client.cookies.extract_cookies(crossing)
        assert ("session" in crossing.cookies) is writes
        kept = await client.get("/who")
    assert kept.text == ("registration" if writes else "user")


def test_the_page_on_hooks_has_every_event_with_its_attributes() -> None:
    rows = re.findall(r"^\| ([A-Z]\w+) \| (\w+) \| [^|]+ \|$", HOOKS_PAGE, re.MULTILINE)
    events = [kind for kind in vars(hooks).values() if dataclasses.is_dataclass(kind) and isinstance(kind, type)]
    assert len(events) >= 3
    assert rows == [(kind.__name__, field.name) for kind in events for field in dataclasses.fields(kind)]


def test_the_page_on_hooks_has_every_hook() -> None:
    options = [name for name in MarketplaceOptions.__annotations__ if name.startswith("on_")]
    assert sorted(re.findall(r"^## `(on_\w+)`", HOOKS_PAGE, re.MULTILINE)) == sorted(options)
