"""The programs of the pages on single-page apps, on the host's own session and on the registration session.

Sites in the browser tests: the marketplace on localhost, a seller on acme.localhost with its subdomains, others on
127.0.0.1. The same name with another port is another origin of the same site.
"""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi import FastAPI
from itsdangerous import TimestampSigner
from playwright.sync_api import BrowserContext, Page, Route, expect
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, WebSocketRoute
from starlette.routing import Route as HttpRoute
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from starlette_marketplace import MarketplaceMiddleware, MarketplaceSettings, Registration, get_registration
from starlette_marketplace.hooks import RegistrationResolved
from starlette_marketplace.local import LocalMarketplace
from starlette_marketplace.registration.session import RegistrationSession
from starlette_marketplace.testing import add_registration, make_customer
from tests.docs.programs import ROOT, program, stored
from tests.example_app import steps
from tests.example_app.browser import forget, hidden_fields
from tests.example_app.wiretap import Wiretap
from tests.support.hosts import LANDING, form
from tests.support.servers import serve

pytestmark = pytest.mark.slow

PAGES = {name: (ROOT / f"docs/{name}.md").read_text() for name in ("registration-session", "recipes/own-session")}
FRONT_END = ROOT / "docs/src/recipes/single_page_app"
HOME = {"Origin": "http://testserver"}
# What browsers say of the forms of a sister site: as older ones and plain http have it, and as others do.
FOREIGN = [{"Origin": "http://evil.testserver"}, {"Origin": "null"}, HOME | {"Sec-Fetch-Site": "same-site"}]
SESSION_SECRET = "s" * 32


@pytest.fixture(autouse=True)
def folder(environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the databases of the programs, and what else they are set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_SECRET", SESSION_SECRET)
    monkeypatch.setenv("SESSION_HTTPS_ONLY", "false")
    return tmp_path


def rows(columns: str = "email, customer_key") -> list[tuple[str | None, ...]]:
    [file] = Path().glob("*.db")
    return stored(file, columns)


def registration_cookies(client: TestClient) -> set[str]:
    return {cookie.name for cookie in client.cookies.jar if cookie.name.startswith("marketplace-")}


# A real browser


def set_up_account(page: Page, storefront: str, marketplace: LocalMarketplace, app_url: str) -> None:
    marketplace.registration_url = f"{app_url}{LANDING}"
    steps.set_up_account(page, storefront, "new-product")


def cookies_of(context: BrowserContext) -> dict[str, str]:
    """The domains of the cookies, by name; registrations without their id."""
    named = ((str(cookie["name"]), str(cookie["domain"])) for cookie in context.cookies())
    return {re.sub("[0-9a-f]{24}$", "<id>", name): domain for name, domain in named}


# The single-page app, on the host of its API


@pytest.fixture
def spa_url() -> Iterator[str]:
    with serve(program("recipes/single_page_app").app) as url:
        yield url


def expect_account(page: Page, marketplace: LocalMarketplace) -> None:
    expect(page.locator("#aws")).to_contain_text(f"AWS account ending in {marketplace.buyer.account_id[-4:]}")


def create_account(page: Page, email: str) -> None:
    page.get_by_label("Work e-mail").fill(email)
    page.get_by_role("button", name="Create account").click()


def expect_message(page: Page, text: str) -> None:
    expect(page.get_by_role("status")).to_contain_text(text)


def test_a_buyer_signs_up_in_a_single_page_app(
    page: Page, context: BrowserContext, storefront: str, spa_url: str, marketplace: LocalMarketplace
) -> None:
    answers: list[str] = []
    context.on("response", lambda response: answers.append(response.url))
    with page.expect_response("**/api/registration") as asked:
        set_up_account(page, storefront, marketplace, spa_url)
    expect(page).to_have_url(f"{spa_url}/signup")
    expect_account(page, marketplace)
    answer = asked.value
    assert set(answer.json()) == {"id", "account_ending", "product_code"}
    assert marketplace.buyer.account_id not in answer.text()
    assert answer.header_value("Cache-Control") == "no-store"

    create_account(page, "a@b.example")
    expect_message(page, "Welcome, a@b.example!")
    expect(page.locator("#aws, #signup").first).to_be_hidden()
    [(email, key)] = rows()
    assert email == "a@b.example"
    assert key
    assert cookies_of(context) == {}
    assert {f"{spa_url}/signup", f"{spa_url}/assets/signup.js", f"{spa_url}/api/signup"} <= set(answers)

    set_up_account(page, storefront, marketplace, spa_url)
    create_account(page, "c@d.example")
    expect_message(page, "has an account already")
    assert len(rows()) == 1


def test_who_does_not_come_from_aws_signs_up_in_the_single_page_app_too(page: Page, spa_url: str) -> None:
    page.goto(f"{spa_url}/signup")
    create_account(page, "a@b.example")
    expect_message(page, "Welcome, a@b.example!")
    assert rows() == [("a@b.example", None)]


def test_the_single_page_app_can_decline_a_registration(
    page: Page, context: BrowserContext, storefront: str, spa_url: str, marketplace: LocalMarketplace
) -> None:
    set_up_account(page, storefront, marketplace, spa_url)
    page.get_by_role("button", name="Not mine").click()
    expect_message(page, "You can sign up without it.")
    expect(page.locator("#aws")).to_be_hidden()
    assert cookies_of(context) == {}
    create_account(page, "a@b.example")
    expect_message(page, "Welcome, a@b.example!")
    assert rows() == [("a@b.example", None)]


def test_the_single_page_app_says_when_the_registration_is_over_and_signs_nobody_up_without_it(
    page: Page, context: BrowserContext, storefront: str, spa_url: str, marketplace: LocalMarketplace
) -> None:
    set_up_account(page, storefront, marketplace, spa_url)
    expect_account(page, marketplace)
    context.clear_cookies()
    for _ in range(2):
        create_account(page, "a@b.example")
        expect_message(page, "This took too long.")
    assert rows() == []


def test_the_form_of_the_single_page_app_waits_for_the_registration(page: Page, spa_url: str) -> None:
    held: list[Route] = []
    page.route("**/api/registration", lambda route: held.append(route))
    with page.expect_request("**/api/registration"):
        page.goto(f"{spa_url}/signup")
    button = page.get_by_role("button", name="Create account")
    expect(button).to_be_disabled()
    held.pop().fulfill(status=503)
    expect_message(page, "We could not reach our server.")
    expect(button).to_be_disabled()
    page.unroute("**/api/registration")
    page.reload()
    expect(button).to_be_enabled()


# The API of the single-page app


@pytest.fixture
def spa() -> Iterator[TestClient]:
    with TestClient(program("recipes/single_page_app").app, headers=HOME) as client:
        yield client


def test_the_api_links_what_the_page_showed_and_not_what_came_last(spa: TestClient) -> None:
    shown = add_registration(spa)
    assert spa.get("/api/registration").json()["id"] == shown.id
    newer = add_registration(spa)
    assert spa.get("/api/registration").json()["id"] == newer.id
    assert spa.post("/api/signup", json={"email": "a@b.example", "registration_id": shown.id}).status_code == 201
    assert rows() == [("a@b.example", shown.customer.key)]
    assert registration_cookies(spa) == {f"marketplace-{newer.id}"}


def test_the_api_says_whether_a_registration_is_over_or_taken(spa: TestClient) -> None:
    gone = spa.post("/api/signup", json={"email": "a@b.example", "registration_id": "gone"})
    assert gone.status_code == 401
    registration = add_registration(spa)
    for number, status in enumerate((201, 409)):
        add_registration(spa, customer=registration.customer)
        signup = {"email": f"{number}@b.example", "registration_id": registration.id}
        assert spa.post("/api/signup", json=signup).status_code == status
    assert registration_cookies(spa), "the registration that was not linked can still be linked otherwise"
    assert len(rows()) == 1


@pytest.mark.parametrize("headers", [*FOREIGN, {"Origin": "http://testserver:8080"}, {"Origin": ""}])
def test_the_api_takes_orders_from_its_own_front_end_only(spa: TestClient, headers: dict[str, str]) -> None:
    registration = add_registration(spa)
    signup = {"email": "a@b.example", "registration_id": registration.id}
    assert spa.post("/api/signup", json=signup, headers=headers).status_code == 403
    assert spa.delete(f"/api/registrations/{registration.id}", headers=headers).status_code == 403
    assert rows() == []
    assert registration_cookies(spa)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_the_api_takes_no_json_that_a_form_can_send(spa: TestClient, content_type: str) -> None:
    body = json.dumps({"email": "a@b.example"})
    refused = spa.post("/api/signup", content=body, headers={"Content-Type": content_type})
    assert refused.status_code == 422
    assert rows() == []


def test_the_landing_url_answers_json_to_a_server_that_took_the_post(
    spa: TestClient, marketplace: LocalMarketplace
) -> None:
    answer = spa.post(LANDING, json={"RegistrationToken": marketplace.issue_token("new-product")})
    data = answer.json()["data"]
    assert data["redirect_url"] == "/signup"
    assert data["customer"]["aws_account_id"] == marketplace.buyer.account_id
    assert spa.get("/api/registration").json()["id"] == data["id"]

    by_form = spa.post(
        LANDING, data=form(marketplace.issue_token("legacy-product")), headers={"Accept": "application/json"}
    )
    assert by_form.json()["success"] is True


# Front end and API on two hosts


class Sites:
    """A front end and an API on any names of this machine."""

    def __init__(self, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self._stack = stack
        self._monkeypatch = monkeypatch
        self._api_port = ""

    def open(self, front_end: str, api: str, **settings: str) -> tuple[str, str]:
        """Start both, and give the origins that a browser knows them by."""
        assets = Mount("/assets", StaticFiles(directory=FRONT_END / "assets"))
        served = self._stack.enter_context(serve(Starlette(routes=[HttpRoute("/signup", self._index), assets])))
        front_end = f"http://{front_end}:{served.rpartition(':')[2]}"
        self._monkeypatch.setenv("SPA_ORIGIN", front_end)
        self._monkeypatch.setenv("MARKETPLACE_SIGNUP_URL", f"{front_end}/signup")
        for name, value in settings.items():
            self._monkeypatch.setenv(name, value)
        self.wiretap = Wiretap(program("recipes/single_page_app").app)
        self._api_port = self._stack.enter_context(serve(self.wiretap)).rpartition(":")[2]
        self._api = self.at(api)
        return front_end, self._api

    def at(self, host: str) -> str:
        """Another name of the API."""
        return f"http://{host}:{self._api_port}"

    def _index(self, _: Request) -> Response:
        page = (FRONT_END / "index.html").read_text()
        return HTMLResponse(page.replace('name="api" content=""', f'name="api" content="{escape(self._api)}"'))


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sites]:
    with ExitStack() as stack:
        yield Sites(stack, monkeypatch)


def test_two_subdomains_need_cors_and_no_session_domain(
    page: Page, context: BrowserContext, storefront: str, sites: Sites, marketplace: LocalMarketplace
) -> None:
    front_end, api = sites.open("app.acme.localhost", "api.acme.localhost", MARKETPLACE_HTTPS_ONLY="true")
    set_up_account(page, storefront, marketplace, api)
    expect(page).to_have_url(f"{front_end}/signup")
    expect_account(page, marketplace)
    assert cookies_of(context) == {"__Host-marketplace-<id>": "api.acme.localhost"}
    create_account(page, "a@b.example")
    expect_message(page, "Welcome, a@b.example!")
    assert cookies_of(context) == {}
    set_up_account(page, storefront, marketplace, api)
    page.get_by_role("button", name="Not mine").click()
    expect_message(page, "You can sign up without it.")
    assert cookies_of(context) == {}
    assert len(rows()) == 1


@pytest.mark.parametrize("session_domain", ["", "acme.localhost"])
def test_session_domain_is_for_a_landing_url_on_another_subdomain(
    page: Page,
    context: BrowserContext,
    storefront: str,
    sites: Sites,
    marketplace: LocalMarketplace,
    session_domain: str,
) -> None:
    front_end, _ = sites.open("app.acme.localhost", "api.acme.localhost", MARKETPLACE_SESSION_DOMAIN=session_domain)
    set_up_account(page, storefront, marketplace, sites.at("www.acme.localhost"))
    expect(page).to_have_url(f"{front_end}/signup")
    expect(page.get_by_role("button", name="Create account")).to_be_enabled()
    expect(page.locator("#aws")).to_be_visible(visible=bool(session_domain))
    assert cookies_of(context) == {"marketplace-<id>": f".{session_domain}" if session_domain else "www.acme.localhost"}
    [asked] = sites.wiretap.requests("GET", "/api/registration")
    assert asked.site == "same-site"
    # What it costs: every other host of the domain gets the cookie too.
    page.goto(sites.at("blog.acme.localhost") + "/docs")
    assert bool(sites.wiretap.wait_for("GET", "/docs").cookies) == bool(session_domain)


def test_a_front_end_on_another_site_gets_no_registration(
    page: Page, context: BrowserContext, storefront: str, sites: Sites, marketplace: LocalMarketplace
) -> None:
    front_end, api = sites.open("127.0.0.1", "api.acme.localhost")
    set_up_account(page, storefront, marketplace, api)
    expect(page).to_have_url(f"{front_end}/signup")
    # CORS lets the page read the answer, but the browser keeps the cookie at home.
    expect(page.get_by_role("button", name="Create account")).to_be_enabled()
    expect(page.locator("#aws")).to_be_hidden()
    assert cookies_of(context) == {"marketplace-<id>": "api.acme.localhost"}
    [asked] = sites.wiretap.requests("GET", "/api/registration")
    assert (asked.site, asked.cookies) == ("cross-site", set())


FETCH = """([url, options]) => fetch(url, {credentials: "include", ...options}).then(
    (response) => response.status, (error) => error.name)"""


def test_a_sister_site_has_the_cookies_and_can_neither_read_nor_act(
    page: Page, context: BrowserContext, storefront: str, sites: Sites, marketplace: LocalMarketplace
) -> None:
    front_end, api = sites.open("app.acme.localhost", "api.acme.localhost")
    set_up_account(page, storefront, marketplace, api)
    expect_account(page, marketplace)
    sites.wiretap.forget()

    page.goto(front_end.replace("app.", "blog.") + "/assets/signup.js")
    signup = json.dumps({"email": "mallory@evil.example"})
    in_json = {"method": "POST", "body": signup, "headers": {"Content-Type": "application/json"}}
    as_text = {"method": "POST", "body": signup}
    assert page.evaluate(FETCH, [f"{api}/api/registration", {}]) == "TypeError"
    assert page.evaluate(FETCH, [f"{api}/api/signup", in_json]) == "TypeError"
    assert page.evaluate(FETCH, [f"{api}/api/signup", as_text]) == "TypeError"
    assert len(sites.wiretap.wait_for("GET", "/api/registration").cookies) == 1
    # Without a preflight, and with the cookie: only the origin is wrong with it, and the type of its body.
    [posted] = sites.wiretap.requests("POST", "/api/signup")
    assert (posted.site, len(posted.cookies)) == ("same-site", 1)
    assert rows() == []


def test_a_script_of_another_site_cannot_do_the_landing_post(
    page: Page, context: BrowserContext, sites: Sites, marketplace: LocalMarketplace
) -> None:
    front_end, api = sites.open("127.0.0.1", "api.acme.localhost")
    page.goto(f"{front_end}/assets/signup.js")
    script = """([url, token]) => fetch(url, {method: "POST", credentials: "include", mode: "no-cors",
        body: new URLSearchParams({"x-amzn-marketplace-token": token})}).then((response) => response.type)"""
    page.evaluate(script, [f"{api}{LANDING}", marketplace.issue_token("new-product")])
    [posted] = sites.wiretap.requests("POST", LANDING)
    assert len(posted.cookies_set) == 1
    assert len(marketplace.resolve_calls) == 1
    assert cookies_of(context) == {}


# The host's own session


@pytest.fixture
def own() -> Iterator[TestClient]:
    with TestClient(program("recipes/own_session").app, headers=HOME) as client:
        yield client


def session_cookie(registration: Registration, **changes: object) -> str:
    """A session cookie as the program writes it, its copy of the registration with `changes`."""
    entry = {"registration": registration.to_dict() | changes, "answers": {}}
    data = json.dumps({f"registration:{registration.id}": entry}).encode()
    return TimestampSigner(SESSION_SECRET).sign(b64encode(data)).decode()


def test_a_signup_over_several_pages_outlives_the_cookie(own: TestClient) -> None:
    registration = add_registration(own)
    first = own.get("/signup")
    assert f"AWS account ending in {registration.customer.aws_account_id[-4:]}" in first.text
    forget(own.cookies, "marketplace-")
    second = own.post("/signup/company", data={"company": "A & B"} | hidden_fields(first))
    assert 'value="A &amp; B"' in own.get("/signup").text, "who comes back finds the answers"
    done = own.post("/signup/finish", data={"email": "a@b.example"} | hidden_fields(second))
    assert "Logged in as a@b.example" in done.text
    assert rows("email, company, customer_key") == [("a@b.example", "A & B", registration.customer.key)]
    assert "To begin" in own.get("/signup").text, "neither the copy nor the cookie is left"


def test_when_signup_is_done_the_cookie_is_gone_as_well_as_the_copy(own: TestClient) -> None:
    done = add_registration(own)
    own.get("/signup")
    other = add_registration(own)
    own.get("/signup")
    for path, answer in {"company": {"company": "Acme"}, "finish": {"email": "a@b.example"}}.items():
        own.post(f"/signup/{path}", data=answer | {"registration_id": done.id})
    assert registration_cookies(own) == {f"marketplace-{other.id}"}
    assert [key for _, key in rows()] == [done.customer.key]
    assert hidden_fields(own.get("/signup"))["registration_id"] == other.id, "the other one is still in its own cookie"


def test_a_signup_over_several_pages_keeps_to_what_each_form_showed(own: TestClient) -> None:
    shown = [add_registration(own) for _ in range(2) if own.get("/signup")]
    own.get("/signup")
    for number, registration in enumerate(shown):
        company = {"company": f"Company {number}", "registration_id": registration.id}
        assert own.post("/signup/company", data=company).status_code == 200
    own.post("/signup/finish", data={"email": "a@b.example", "registration_id": shown[0].id})
    assert rows("company, customer_key") == [("Company 0", shown[0].customer.key)]


def test_a_signup_over_several_pages_makes_one_account_for_each_customer(own: TestClient) -> None:
    registration = add_registration(own)
    fields = {"company": "Acme", "registration_id": registration.id}
    for number, status in enumerate((200, 409)):
        add_registration(own, customer=registration.customer)
        own.get("/signup")
        email = fields | {"email": f"{number}@b.example"}
        assert own.post("/signup/finish", data=email).url.path == "/signup", "the first page is still to be filled in"
        own.post("/signup/company", data=fields)
        assert own.post("/signup/finish", data=email).status_code == status
    assert len(rows()) == 1
    assert registration_cookies(own)


def test_nothing_of_the_session_survives_the_end_of_signup(own: TestClient) -> None:
    for _ in range(2):
        registration = add_registration(own)
        own.get("/signup")
    assert len(session_of(own)) == 2
    for path, answer in {"company": {"company": "Acme"}, "finish": {"email": "a@b.example"}}.items():
        own.post(f"/signup/{path}", data=answer | {"registration_id": registration.id})
    assert session_of(own) == {"email": "a@b.example"}


def test_arriving_again_keeps_the_answers_and_counts_from_now(own: TestClient) -> None:
    registration = add_registration(own)
    own.get("/signup")
    own.post("/signup/company", data={"company": "Acme", "registration_id": registration.id})
    again = add_registration(own, customer=registration.customer, free_trial=True)
    assert 'value="Acme"' in own.get("/signup").text
    [copy] = session_of(own).values()
    assert Registration.from_dict(copy["registration"]) == again


def session_of(client: TestClient) -> dict[str, Any]:
    async def show(request: Request) -> Response:
        return PlainTextResponse(json.dumps(request.session))

    reader = Starlette(routes=[HttpRoute("/", show)])
    reader.add_middleware(SessionMiddleware, secret_key=SESSION_SECRET)
    told = TestClient(reader, cookies={"session": client.cookies["session"]}).get("/").json()
    assert isinstance(told, dict)
    return told


def test_not_mine_leaves_neither_the_copy_nor_the_cookie(own: TestClient) -> None:
    registration = add_registration(own)
    own.get("/signup")
    page = own.post("/decline", data={"registration_id": registration.id})
    assert "To begin" in page.text
    assert registration_cookies(own) == set()
    # A form from before a logout, whose session is gone.
    registration = add_registration(own)
    own.post("/decline", data={"registration_id": registration.id})
    assert registration_cookies(own) == set()


def test_a_copy_ends_by_the_hosts_own_rule_and_not_with_its_session(own: TestClient) -> None:
    def use(**changes: object) -> int:
        registration = Registration(customer=make_customer(), resolved_at=datetime.now(UTC))
        own.cookies.clear()
        own.cookies.set("session", session_cookie(registration, **changes))
        answer = {"company": "Acme", "registration_id": registration.id}
        return own.post("/signup/company", data=answer).status_code

    now = datetime.now(UTC)
    assert use() == 200
    assert use(resolved_at=(now - timedelta(hours=23)).timestamp()) == 200
    assert use(resolved_at=(now - timedelta(hours=25)).timestamp()) == 400
    assert use(hints=None) == 400, "written by a version that says it differently"


def test_a_copy_ends_with_the_secret_of_the_session_and_not_with_what_ends_the_cookie(
    own: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    registration = add_registration(own)
    own.get("/signup")
    answer = {"company": "Acme", "registration_id": registration.id}
    for name, value, status in (
        ("MARKETPLACE_SECRET_KEY", NEW, 200),
        ("MARKETPLACE_PRODUCT_CODES", "another", 200),
        ("SESSION_SECRET", NEW, 400),
    ):
        monkeypatch.setenv(name, value)
        with TestClient(program("recipes/own_session").app, headers=HOME) as restarted:
            restarted.cookies.set("session", own.cookies["session"])
            assert restarted.post("/signup/company", data=answer).status_code == status


def test_the_forms_of_the_own_session_are_no_sister_sites(own: TestClient) -> None:
    registration = add_registration(own)
    own.get("/signup")
    for path in ("/signup/company", "/signup/finish", "/decline"):
        fields = {"company": "Evil", "email": "mallory@evil.example", "registration_id": registration.id}
        for headers in FOREIGN:
            assert own.post(path, data=fields, headers=headers).status_code == 403
    assert registration_cookies(own)


def test_starlette_does_not_see_a_change_inside_of_a_value_of_the_session() -> None:
    async def change(request: Request) -> Response:
        request.session.setdefault("outer", {})["inner"] = request.query_params["to"]
        return PlainTextResponse(request.session["outer"]["inner"])

    async def show(request: Request) -> Response:
        return PlainTextResponse(request.session["outer"]["inner"])

    app = Starlette(routes=[HttpRoute("/change", change), HttpRoute("/", show)])
    app.add_middleware(SessionMiddleware, secret_key=SESSION_SECRET)
    client = TestClient(app)
    client.get("/change?to=first")
    assert client.get("/change?to=second").text == "second"
    assert client.get("/").text == "first"


def test_the_page_says_how_much_of_the_session_cookie_a_registration_takes() -> None:
    sizes = []
    for hints in ({}, {"x-amzn-marketplace-a": "b" * 357}):
        registration = Registration(customer=make_customer(), resolved_at=datetime.now(UTC), hints=hints)
        sizes.append(len(session_cookie(registration)))
    small, large = (f"{round(size, -2)} bytes" for size in sizes)
    page = " ".join(PAGES["recipes/own-session"].split())
    assert f"about {small} of it" in page
    assert f"about {large} with the longest hints" in page


def write_session(event: RegistrationResolved) -> None:
    """What the page warns of."""
    event.request.session["registration"] = event.registration.to_dict()


def wrong_program() -> FastAPI:
    app: FastAPI = program("recipes/own_session").app
    # Stands where the right one does; the session middleware comes around it once more, so that hooks have a session.
    app.add_middleware(MarketplaceMiddleware, on_resolved=write_session)
    app.add_middleware(SessionMiddleware, secret_key=SESSION_SECRET)
    return app


def right_program() -> FastAPI:
    app: FastAPI = program("recipes/own_session").app
    return app


@pytest.mark.parametrize(
    ("make", "user"), [(right_program, "a@b.example"), (wrong_program, "nobody")], ids=["on the GET", "in the POST"]
)
def test_who_is_logged_in_stays_so_unless_the_landing_post_writes_the_session(
    page: Page,
    context: BrowserContext,
    storefront: str,
    marketplace: LocalMarketplace,
    make: Callable[[], FastAPI],
    user: str,
) -> None:
    with serve(make()) as url:
        context.add_cookies([{"name": "session", "value": logged_in("a@b.example"), "url": url, "sameSite": "Lax"}])
        page.goto(url)
        expect(page.locator("body")).to_have_text("Logged in as a@b.example")
        set_up_account(page, storefront, marketplace, url)
        expect(page).to_have_url(f"{url}/signup")
        expect(page.locator("body")).to_contain_text(f"ending in {marketplace.buyer.account_id[-4:]}")
        page.goto(url)
        expect(page.locator("body")).to_have_text(f"Logged in as {user}")


def logged_in(email: str) -> str:
    return TimestampSigner(SESSION_SECRET).sign(b64encode(json.dumps({"email": email}).encode())).decode()


def test_a_browser_drops_a_session_cookie_that_is_too_large_and_keeps_the_old_one(
    page: Page, context: BrowserContext
) -> None:
    async def write(request: Request) -> Response:
        request.session["filler"] = "x" * int(request.query_params["length"])
        return PlainTextResponse("written")

    async def show(request: Request) -> Response:
        return PlainTextResponse(str(len(request.session["filler"])))

    app = Starlette(routes=[HttpRoute("/write", write), HttpRoute("/", show)])
    app.add_middleware(SessionMiddleware, secret_key=SESSION_SECRET)
    with serve(app) as url:
        for length in ("10", "4000"):
            page.goto(f"{url}/write?length={length}")
        page.goto(url)
        expect(page.locator("body")).to_have_text("10")


# The registration session


@contextmanager
def registration_session() -> Iterator[tuple[TestClient, ModuleType]]:
    module = program("registration_session")
    with TestClient(module.app, headers=HOME) as client:
        yield client, module


@pytest.fixture
def several() -> Iterator[TestClient]:
    with registration_session() as (client, _):
        yield client


def test_the_registrations_of_a_browser_are_listed_signed_up_and_discarded_one_by_one(
    several: TestClient, marketplace: LocalMarketplace
) -> None:
    for scenario in ("new-product", "legacy-product"):
        page = several.post(LANDING, data=form(marketplace.issue_token(scenario))).text
    ids = re.findall('name="registration_id" value="([0-9a-f]{24})"', page)
    codes = re.findall(r"<p>(\w+), AWS account ending in (\d{4})", page)
    assert codes == [(code, marketplace.buyer.account_id[-4:]) for code in ("acmelegacy", "acmeanalytics")]

    welcome = several.post("/signup", data={"email": "a@b.example", "registration_id": ids[1]})
    assert welcome.text == "Welcome, a@b.example!"
    assert registration_cookies(several) == {f"marketplace-{ids[0]}"}
    again = several.post("/signup", data={"email": "a@b.example", "registration_id": ids[1]})
    assert again.status_code == 400
    assert "waiting" in several.post("/not-mine", data={"registration_id": ids[0]}).text
    assert registration_cookies(several) == set()
    assert len(rows()) == 1


def test_a_customer_who_has_an_account_is_sent_to_the_login(several: TestClient) -> None:
    registration = add_registration(several)
    for status in (200, 409):
        add_registration(several, customer=registration.customer)
        fields = {"email": "a@b.example", "registration_id": registration.id}
        assert several.post("/signup", data=fields).status_code == status
    assert len(rows()) == 1


def test_the_forms_of_the_list_are_no_sister_sites(several: TestClient) -> None:
    fields = {"email": "mallory@evil.example", "registration_id": add_registration(several).id}
    for path in ("/signup", "/not-mine"):
        for headers in FOREIGN:
            assert several.post(path, data=fields, headers=headers).status_code == 403
    assert rows() == []
    assert registration_cookies(several)


def test_the_page_shows_the_cookie_as_it_is() -> None:
    settings = MarketplaceSettings(secret_key="k" * 32, product_codes="*")
    registration = Registration(customer=make_customer(), resolved_at=datetime.now(UTC))
    cookie = RegistrationSession(settings).cookie(registration)
    shown = re.sub("-[0-9a-f]{24}=[^;]+", "-<id>=<registration>.<signature>", cookie)
    assert f"\nSet-Cookie: {shown}\n" in PAGES["registration-session"]


OLD, NEW = "o" * 32, "n" * 32


@pytest.mark.parametrize(
    ("signs", "verifies", "reads"),
    [
        (OLD, {"secret_key": OLD, "fallbacks": NEW}, True),
        (NEW, {"secret_key": OLD, "fallbacks": NEW}, True),
        (OLD, {"secret_key": NEW, "fallbacks": OLD}, True),
        (NEW, {"secret_key": OLD, "fallbacks": ""}, False),
        (OLD, {"secret_key": NEW, "fallbacks": ""}, False),
    ],
    ids=["step 1", "step 1 beside step 2", "step 2", "step 2 without step 1", "step 3 too early"],
)
def test_a_key_is_known_everywhere_before_it_signs_anywhere(
    signs: str, verifies: dict[str, str], reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKETPLACE_SECRET_KEY", verifies["secret_key"])
    monkeypatch.setenv("MARKETPLACE_SECRET_KEY_FALLBACKS", verifies["fallbacks"])
    with registration_session() as (client, module):
        registration = add_registration(
            client, MarketplaceSettings(secret_key=signs, product_codes="*", https_only=False)
        )
        [found] = module.marketplace.get_registrations(connection_of(client)) or [None]
    assert (found == registration) is reads


def without_referrer(app: ASGIApp) -> ASGIApp:
    """The header that many a proxy adds to all pages."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Referrer-Policy"] = "no-referrer"
            await send(message)

        await app(scope, receive, send_with_policy)

    return wrapped


@pytest.mark.parametrize("name", ["recipes/own_session", "registration_session"])
def test_forms_of_our_own_pages_are_taken_where_browsers_say_no_origin(
    name: str, page: Page, storefront: str, marketplace: LocalMarketplace
) -> None:
    wiretap = Wiretap(without_referrer(program(name).app))
    with serve(wiretap) as url:
        set_up_account(page, storefront, marketplace, url)
        page.get_by_role("button", name="Not mine").click()
        expect(page.get_by_role("button", name="Not mine")).to_have_count(0)
        expect(page).to_have_url(f"{url}/signup")
    [declined] = [each for each in wiretap.requests() if each.method == "POST" and each.target != LANDING]
    assert (declined.site, declined.headers["origin"]) == ("same-origin", "null")


def connection_of(client: TestClient) -> HTTPConnection:
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies.jar)
    return HTTPConnection({"type": "http", "headers": [(b"cookie", cookies.encode())]})


class Greeting:
    """Middleware of a host that reads the registration."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["greeted"] = get_registration(HTTPConnection(scope))
        await self._app(scope, receive, send)


def test_the_registration_can_be_read_in_websockets_and_in_middleware_inside_of_ours() -> None:
    async def greeted(request: Request) -> Response:
        return PlainTextResponse(request.scope["greeted"].id)

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        registration = get_registration(websocket)
        await websocket.send_text(registration.id if registration else "none")
        await websocket.close()

    def host() -> Starlette:
        return Starlette(routes=[HttpRoute("/", greeted), WebSocketRoute("/socket", socket)])

    inside = host()
    inside.add_middleware(Greeting)
    inside.add_middleware(MarketplaceMiddleware)
    with TestClient(inside) as client:
        registration = add_registration(client)
        assert client.get("/").text == registration.id
        with client.websocket_connect("/socket") as websocket:
            assert websocket.receive_text() == registration.id

    outside = host()
    outside.add_middleware(MarketplaceMiddleware)
    outside.add_middleware(Greeting)
    with TestClient(outside) as client, pytest.raises(RuntimeError, match="MarketplaceMiddleware is not installed"):
        client.get("/")
