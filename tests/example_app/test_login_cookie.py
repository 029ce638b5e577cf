import socket
from collections.abc import Callable
from html import unescape
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import Page, expect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from example_app.app import create_app
from example_app.cookies import PlainCookieNames
from starlette_marketplace.local import LocalMarketplace
from tests.example_app.browser import Browser
from tests.example_app.steps import sign_up
from tests.example_app.wiretap import Wiretap
from tests.support.servers import serve

pytestmark = pytest.mark.slow

MALLORY = {"company": "Mallory Ltd", "email": "mallory@evil.example", "password": "correct horse"}


def ask(base_url: str, path: str, cookies: bytes) -> tuple[int, bytes]:
    """GET a page with a Cookie header of exactly these bytes, which a client would not send."""
    address = urlsplit(base_url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: acme.example\r\nConnection: close\r\n".encode()
            + b"Cookie: %b\r\n\r\n" % cookies
        )
        with connection.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def dashboard_status(base_url: str, cookies: bytes) -> int:
    return ask(base_url, "/dashboard", cookies)[0]


@pytest.mark.parametrize(
    "name",
    [
        b"session",
        b"\xa0__Host-session",
        b"__Host-session\xa0",
        b"\x85__Host-session",
        b" \xa0 __Host-session",
        b"\x1f__Host-session",
    ],
)
def test_a_login_cookie_that_a_subdomain_has_planted_logs_nobody_in(
    monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    monkeypatch.setenv("SESSION_HTTPS_ONLY", "true")
    with serve(create_app()) as base_url:
        own, _, value = (
            httpx2.post(f"{base_url}/signup", data=MALLORY).headers["set-cookie"].partition(";")[0].partition("=")
        )
        assert own == "__Host-session"
        login = value.encode()
        assert dashboard_status(base_url, b"__Host-session=" + login) == 200
        assert dashboard_status(base_url, name + b"=" + login) == 303
        assert dashboard_status(base_url, b"a=b; " + name + b"=" + login + b"; c=d") == 303
        assert dashboard_status(base_url, b"__Host-session=" + login + b"; " + name + b"=junk") == 200


def test_in_a_real_browser_no_page_of_a_subdomain_logs_a_buyer_in(monkeypatch: pytest.MonkeyPatch, page: Page) -> None:
    monkeypatch.setenv("SESSION_HTTPS_ONLY", "true")
    app = Wiretap(create_app())

    async def plant(scope: Scope, receive: Receive, send: Send) -> None:
        response = Response()
        for name in (b"session", b"__Host-session", b"\xa0__Host-session", b"\x85__Host-session"):
            cookie = name + b"=" + login.encode() + b"; Domain=acme.localhost; Path=/; Secure"
            response.raw_headers.append((b"set-cookie", cookie))
        await response(scope, receive, send)

    with serve(app) as base_url, serve(plant, lifespan="off") as sister:
        login = httpx2.post(f"{base_url}/signup", data=MALLORY).cookies["__Host-session"]
        # Browsers look for these hosts on their own machine, and take Secure cookies from them without HTTPS.
        app_url = base_url.replace("127.0.0.1", "acme.localhost")
        sister_url = sister.replace("127.0.0.1", "blog.acme.localhost")
        page.goto(sister_url)
        page.goto(f"{app_url}/dashboard")
        expect(page).to_have_url(f"{app_url}/login")
        [asked] = app.requests("GET", "/dashboard")
        sent = [cookie.partition("=")[0] for cookie in asked.headers["cookie"].split("; ")]
        assert sent == ["session", "\xa0__Host-session", "\x85__Host-session"], "the browser keeps out only one of them"

        page.goto(f"{app_url}/signup")
        sign_up(page, "Initech", "bill@initech.example")
        page.goto(sister_url)
        page.goto(f"{app_url}/dashboard")
        expect(page.locator("main")).to_contain_text("bill@initech.example")


@pytest.mark.parametrize(
    ("https_only", "name", "secure"), [("true", "__Host-session", True), ("false", "session", False)]
)
def test_the_login_cookie_has_the_prefix_and_what_it_needs_where_it_is_for_https(
    monkeypatch: pytest.MonkeyPatch, https_only: str, name: str, secure: bool
) -> None:
    monkeypatch.setenv("SESSION_HTTPS_ONLY", https_only)
    with serve(create_app()) as base_url:
        pair, *attributes = httpx2.post(f"{base_url}/signup", data=MALLORY).headers["set-cookie"].lower().split("; ")
    assert pair.partition("=")[0] == name.lower()
    assert {"path=/", "httponly", "samesite=lax"} <= set(attributes)
    assert ("secure" in attributes) is secure
    assert not any(each.startswith("domain") for each in attributes)


def test_cookies_with_plain_names_reach_the_app_unchanged() -> None:
    async def show(scope: Scope, receive: Receive, send: Send) -> None:
        cookies = [value for name, value in scope["headers"] if name == b"cookie"]
        await Response(b"\n".join(cookies))(scope, receive, send)

    with serve(PlainCookieNames(show), lifespan="off") as base_url:
        sent = b'a="x y"; b=\xa0\xe4=; nameless; =c; $Version=1;; \xa0d=e\r\nCookie: __Host-session\t=f'
        _, body = ask(base_url, "/", sent)
    assert body == b'a="x y"; b=\xa0\xe4=; nameless; =c; $Version=1;\n__Host-session\t=f'


def test_the_question_says_first_who_is_logged_in_and_offers_to_log_out(
    open_browser: Callable[[], Browser], marketplace: LocalMarketplace
) -> None:
    browser = open_browser()
    browser.post("/signup", MALLORY)
    browser.arrive(marketplace, "new-product")
    page = unescape(browser.get("/link").text)
    facts = [
        "You are logged in as",
        '<p class="email">mallory@evil.example</p>',
        "Workspace: <strong>Mallory Ltd</strong>",
        "Not you?",
        ">Log out</button>",
        ">Link this AWS account to Mallory Ltd</button>",
    ]
    main = page.partition("<main")[2]
    places = [main.index(fact) for fact in facts]
    assert places == sorted(places)
    assert browser.post("/logout", {}).status_code == 303
    assert browser.get("/link").headers["location"] == "/login"
