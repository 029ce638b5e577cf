"""The recipes on logins, with real providers on sockets; hosted_login in a real browser too.

The app is on 127.0.0.1, the provider and the marketplace are on localhost: two sites.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from joserfc.jwk import RSAKey
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, Page, expect

from starlette_marketplace.local import SCENARIOS, LocalMarketplace
from tests.docs.oidc import CLIENT_ID, CLIENT_SECRET, Person, Provider, serve_provider
from tests.docs.programs import program, stored
from tests.example_app.browser import forget, hidden_fields
from tests.example_app.steps import cookie_names, set_up_account
from tests.example_app.wiretap import Wiretap
from tests.support.hosts import LANDING, form
from tests.support.servers import serve

pytestmark = pytest.mark.slow

PASSWORD = "correct horse"


@dataclass
class Site:
    """A program that runs.

    Attributes:
        requests: What browsers sent it.
    """

    url: str
    requests: Callable[[str, str], list[Any]]
    database: Path

    def rows(self, table: str, *columns: str) -> list[Any]:
        """What is in the database; a single column without tuples around it."""
        rows = stored(self.database, ", ".join(columns), table=table)
        return [row[0] if len(columns) == 1 else row for row in rows]

    @property
    def linked(self) -> list[str]:
        return self.rows("subscription", "customer_key")


def key(marketplace: LocalMarketplace, scenario: str) -> str:
    """The stable key of the customer of a scenario of a product that is not a legacy one."""
    return str(marketplace.buyer.identify(SCENARIOS[scenario])["LicenseArn"])


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serve_provider() as provider:
        provider.people = {"hank": Person("1", "hank@globex.example"), "bill": Person("2", "bill@initech.example")}
        yield provider


@contextmanager
def running_app(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, database_scheme: str) -> Iterator[Site]:
    database = folder / "product.db"
    monkeypatch.setenv("DATABASE_URL", f"{database_scheme}:///{database}")
    monkeypatch.setenv("SESSION_SECRET", "s" * 32)
    module = program(f"recipes/{name}")
    wiretap = Wiretap(module.app)
    with serve(wiretap) as url:
        yield Site(url, wiretap.requests, database)
    if database_scheme == "sqlite":
        module.engine.dispose()


@pytest.fixture
def hosted(environment: None, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("OIDC_METADATA_URL", f"{provider.url}/.well-known/openid-configuration")
    monkeypatch.setenv("OIDC_CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv("OIDC_CLIENT_SECRET", CLIENT_SECRET)
    with running_app("hosted_login", tmp_path, monkeypatch, "sqlite") as site:
        provider.redirect_uris = {f"{site.url}/callback", f"{site.url}/signup"}
        yield site


@pytest.fixture
def social(environment: None, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name, value in {
        "GOOGLE_SERVER_METADATA_URL": f"{provider.url}/.well-known/openid-configuration",
        "GOOGLE_CLIENT_ID": CLIENT_ID,
        "GOOGLE_CLIENT_SECRET": CLIENT_SECRET,
        "GITHUB_AUTHORIZE_URL": f"{provider.url}/authorize",
        "GITHUB_ACCESS_TOKEN_URL": f"{provider.url}/token",
        "GITHUB_API_BASE_URL": f"{provider.url}/api/",
        "GITHUB_CLIENT_ID": CLIENT_ID,
        "GITHUB_CLIENT_SECRET": CLIENT_SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    with running_app("authlib_login", tmp_path, monkeypatch, "sqlite") as site:
        provider.redirect_uris = {f"{site.url}/callback/google", f"{site.url}/callback/github"}
        yield site


@pytest.fixture
def with_users(environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with running_app("with_fastapi_users", tmp_path, monkeypatch, "sqlite+aiosqlite") as site:
        yield site


class Visitor:
    """A browser without a window, which goes where it is sent."""

    def __init__(self, site: Site) -> None:
        self.url = site.url
        # A connection for each request: uvicorn closes the one on which a program has raised, in its own time.
        limits = httpx2.Limits(max_keepalive_connections=0)
        self.client = httpx2.Client(base_url=site.url, timeout=60, follow_redirects=True, limits=limits)

    def arrive(self, marketplace: LocalMarketplace, scenario: str = "new-product") -> httpx2.Response:
        """Come from AWS Marketplace: a cross-site POST takes no SameSite=Lax cookie along, but may set some."""
        token = marketplace.issue_token(scenario)
        answer = httpx2.post(self.url + LANDING, data=form(token), headers={"Sec-Fetch-Site": "cross-site"})
        self.client.cookies.extract_cookies(answer)
        return self.client.get(answer.headers["location"])

    def get(self, path: str) -> httpx2.Response:
        return self.client.get(path)

    def post(self, path: str, page: httpx2.Response | None = None, **typed: str) -> httpx2.Response:
        """Send a form of this page, with what a person typed into it."""
        fields = hidden_fields(page) if page is not None else {}
        return self.client.post(path, data=fields | typed, headers={"Sec-Fetch-Site": "same-origin"})

    def log_in(self, page: httpx2.Response, name: str, at: str = "/login") -> httpx2.Response:
        """Begin a login on this page, and be `name` on the provider's."""
        theirs = self.post(at, page)
        assert theirs.url.host == "localhost"
        return self.client.post(theirs.url, data={"name": name})

    def forget(self, prefix: str) -> None:
        """What a browser does with cookies whose time is over."""
        forget(self.client.cookies, prefix)

    @property
    def has_registration(self) -> bool:
        return any(cookie.name.startswith("marketplace-") for cookie in self.client.cookies.jar)


@pytest.fixture
def visit() -> Iterator[Callable[[Site], Visitor]]:
    """Opens one visitor after the other."""
    with ExitStack() as stack:

        def open_visitor(site: Site) -> Visitor:
            visitor = Visitor(site)
            stack.enter_context(visitor.client)
            return visitor

        yield open_visitor


Visit = Callable[[Site], Visitor]


# A hosted login in a browser


@pytest.fixture
def context(chromium: Chromium) -> Iterator[BrowserContext]:
    """A buyer's browser with JavaScript off."""
    with closing(chromium.new_context(java_script_enabled=False)) as context:
        yield context


@pytest.fixture
def storefront(storefront: str, marketplace: LocalMarketplace, hosted: Site) -> str:
    marketplace.registration_url = hosted.url + LANDING
    return storefront


def begin_login(page: Page) -> None:
    page.get_by_role("button", name="Sign up or log in").click()
    expect(page).to_have_title("Provider")


def be(page: Page, name: str) -> None:
    """Log in on the page of the provider."""
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Continue").click()


def expect_question(page: Page, site: Site, email: str) -> None:
    expect(page).to_have_url(re.compile(f"^{re.escape(site.url)}/link"))
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(f"^Link AWS account .* to {re.escape(email)}"))


def link(page: Page, site: Site) -> None:
    page.get_by_role("button", name="Link it").click()
    expect(page).to_have_url(f"{site.url}/")


def shown_registration(page: Page) -> str | None:
    return page.locator("[name=registration_id]").first.get_attribute("value")


def test_in_a_browser_the_registration_survives_the_way_to_the_provider_and_back(
    page: Page, context: BrowserContext, storefront: str, hosted: Site, marketplace: LocalMarketplace
) -> None:
    set_up_account(page, storefront, "new-product")
    expect(page).to_have_url(f"{hosted.url}/signup")
    expect(page.locator("body")).to_contain_text(f"AWS account ending in {marketplace.buyer.account_id[-4:]}")
    begin_login(page)
    be(page, "hank")
    expect_question(page, hosted, "hank@globex.example")
    [callback] = [request for request in hosted.requests("GET", "/callback") if request.site == "cross-site"]
    assert len(callback.cookies) == 2, "the app's session and the registration"
    assert hosted.linked == []

    link(page, hosted)
    expect(page.locator("body")).to_contain_text(f"AWS account ending in {marketplace.buyer.account_id[-4:]}")
    assert hosted.linked == [key(marketplace, "new-product")]
    assert cookie_names(context, hosted.url) == ["session"]


def test_in_a_browser_a_provider_that_answers_by_post_leads_to_the_same(
    page: Page,
    context: BrowserContext,
    storefront: str,
    hosted: Site,
    provider: Provider,
    marketplace: LocalMarketplace,
) -> None:
    provider.answers_by_post = True
    set_up_account(page, storefront, "new-product")
    begin_login(page)
    be(page, "hank")
    page.get_by_role("button", name="Back").click()
    expect_question(page, hosted, "hank@globex.example")
    [posted] = hosted.requests("POST", "/callback")
    assert (posted.site, posted.cookies, posted.cookies_set) == ("cross-site", set(), [])
    link(page, hosted)
    assert hosted.linked == [key(marketplace, "new-product")]
    assert cookie_names(context, hosted.url) == ["session"]


def test_in_a_browser_a_login_is_for_the_registration_of_its_tab_and_not_for_the_newest(
    page: Page, context: BrowserContext, storefront: str, hosted: Site, marketplace: LocalMarketplace
) -> None:
    other = context.new_page()
    set_up_account(page, storefront, "new-product")
    set_up_account(other, storefront, "second-agreement")
    shown, newest = shown_registration(page), shown_registration(other)
    assert shown != newest
    begin_login(page)
    be(page, "hank")
    expect_question(page, hosted, "hank@globex.example")
    assert shown_registration(page) == shown
    link(page, hosted)
    assert hosted.linked == [key(marketplace, "new-product")]
    assert cookie_names(context, hosted.url) == ["marketplace-<id>", "session"]

    # The other tab is logged in by now, and asked.
    other.reload()
    expect_question(other, hosted, "hank@globex.example")
    assert shown_registration(other) == newest
    link(other, hosted)
    assert hosted.linked == [key(marketplace, "new-product"), key(marketplace, "second-agreement")]
    assert cookie_names(context, hosted.url) == ["session"]


def test_in_a_browser_of_two_logins_at_once_the_older_one_links_nothing(
    page: Page, context: BrowserContext, storefront: str, hosted: Site, marketplace: LocalMarketplace
) -> None:
    other = context.new_page()
    set_up_account(page, storefront, "new-product")
    set_up_account(other, storefront, "second-agreement")
    newest = shown_registration(other)
    begin_login(page)
    begin_login(other)

    be(page, "hank")
    expect(page.get_by_role("alert")).to_contain_text("another one was begun after it")
    assert hosted.linked == []
    be(other, "hank")
    expect_question(other, hosted, "hank@globex.example")
    assert shown_registration(other) == newest
    link(other, hosted)
    assert hosted.linked == [key(marketplace, "second-agreement")]

    # What is left is the registration of the older one, and the provider knows who it is.
    page.get_by_role("link", name="Go on").click()
    expect_question(page, hosted, "hank@globex.example")
    link(page, hosted)
    assert hosted.linked == [key(marketplace, "second-agreement"), key(marketplace, "new-product")]


def test_in_a_browser_a_registration_of_somebody_else_is_not_linked_silently_and_can_be_declined(
    page: Page, context: BrowserContext, storefront: str, hosted: Site
) -> None:
    page.goto(f"{hosted.url}/signup")
    begin_login(page)
    be(page, "bill")
    expect(page).to_have_url(f"{hosted.url}/")

    set_up_account(page, storefront, "new-product")  # as the form of any other site could
    expect_question(page, hosted, "bill@initech.example")
    assert hosted.linked == []
    page.get_by_role("button", name="Not mine").click()
    expect(page).to_have_url(f"{hosted.url}/")
    assert hosted.linked == []
    assert cookie_names(context, hosted.url) == ["session"]


def stolen_callback(visitor: Visitor, name: str) -> str:
    """The address that a login of `name` comes back to, before it does."""
    theirs = visitor.post("/login", visitor.get("/signup"))
    answer = visitor.client.post(theirs.url, data={"name": name}, follow_redirects=False)
    return str(answer.headers["location"])


def test_in_a_browser_the_callback_of_somebody_elses_login_does_nothing(
    page: Page, context: BrowserContext, storefront: str, hosted: Site, visit: Visit, marketplace: LocalMarketplace
) -> None:
    set_up_account(page, storefront, "new-product")
    begin_login(page)

    # While the buyer logs in, another page leads the browser to the callback of an attacker.
    trap = context.new_page()
    trap.goto(stolen_callback(visit(hosted), "bill"))
    expect(trap.get_by_role("alert")).to_be_visible()
    trap.goto(f"{hosted.url}/")
    expect(trap).to_have_url(f"{hosted.url}/signup")
    assert hosted.linked == []

    be(page, "hank")
    expect_question(page, hosted, "hank@globex.example")
    trap.goto(stolen_callback(visit(hosted), "bill"))
    expect(trap.get_by_role("alert")).to_be_visible()
    link(page, hosted)
    assert hosted.rows("subscription", "customer_key", "subject") == [(key(marketplace, "new-product"), "1")]


# A hosted login


@pytest.fixture
def hank(hosted: Site, visit: Visit) -> Visitor:
    return visit(hosted)


def test_the_provider_learns_nothing_of_the_registration(
    hank: Visitor, hosted: Site, provider: Provider, marketplace: LocalMarketplace
) -> None:
    page = hank.arrive(marketplace)
    hank.log_in(page, "hank")
    [asked] = provider.asked
    assert hidden_fields(page)["registration_id"] not in str(asked)
    assert {"state", "nonce", "code_challenge"} <= asked.keys()


FORGERIES: dict[str, dict[str, Any]] = {
    "another nonce": {"nonce": "seen before"},
    "another issuer": {"iss": "https://evil.example"},
    "for another client": {"aud": "another"},
    "too old": {"exp": 1_000_000_000},
}


@pytest.mark.parametrize("claims", [*FORGERIES.values(), None], ids=[*FORGERIES, "signed by another key"])
def test_an_id_token_that_does_not_hold_logs_nobody_in(
    hank: Visitor, hosted: Site, provider: Provider, marketplace: LocalMarketplace, claims: dict[str, Any] | None
) -> None:
    if claims is None:
        provider.signing_key = RSAKey.generate_key(2048, {"kid": "one"})
    else:
        provider.claims = claims
    page = hank.arrive(marketplace)
    assert hank.log_in(page, "hank").status_code == 500
    assert hank.get("/").url.path == "/signup"
    assert hank.post("/link", page).url.path == "/signup"
    assert hosted.linked == []


def test_a_login_that_was_given_up_can_be_begun_again(hank: Visitor, marketplace: LocalMarketplace) -> None:
    page = hank.arrive(marketplace)
    theirs = hank.post("/login", page)
    refused = hank.client.post(theirs.url, data={"refused": "1"})
    assert (refused.status_code, refused.url.path) == (400, "/callback")
    question = hank.log_in(hank.get("/signup"), "hank")
    assert "to hank@globex.example?" in question.text


def test_whoever_does_not_come_from_aws_logs_in_as_well(hank: Visitor, hosted: Site) -> None:
    home = hank.log_in(hank.get("/signup"), "hank")
    assert home.url.path == "/"
    assert "hank@globex.example" in home.text
    assert hosted.linked == []


def test_a_registration_that_is_over_is_not_linked(hank: Visitor, hosted: Site, marketplace: LocalMarketplace) -> None:
    question = hank.log_in(hank.arrive(marketplace), "hank")
    hank.forget("marketplace-")
    for answer in (hank.post("/link", question), hank.get(str(question.url))):
        assert answer.status_code == 400
        assert "This took too long" in answer.text
    assert hosted.linked == []


def test_what_a_page_showed_is_not_linked_to_whoever_logged_in_since(
    hank: Visitor, hosted: Site, marketplace: LocalMarketplace
) -> None:
    question = hank.log_in(hank.arrive(marketplace), "hank")
    assert hank.post("/logout", question).url.path == "/signup"
    assert "to bill@initech.example?" in hank.log_in(hank.get("/signup"), "bill").text
    answer = hank.post("/link", question)
    assert answer.status_code == 409
    assert hosted.linked == []
    assert hank.has_registration


def test_logging_out_logs_out_of_the_provider_too(hank: Visitor) -> None:
    home = hank.log_in(hank.get("/signup"), "hank")
    again = hank.post("/login", hank.get("/signup"))
    assert again.url.path == "/", "the provider knows who it is"
    assert hank.post("/logout", home).url.path == "/signup"
    assert hank.post("/login", hank.get("/signup")).url.host == "localhost", "it asks"


def test_a_subscription_belongs_to_one_user(
    hank: Visitor, hosted: Site, visit: Visit, marketplace: LocalMarketplace
) -> None:
    bill = visit(hosted)
    late = bill.log_in(bill.arrive(marketplace), "bill")
    hank.post("/link", hank.log_in(hank.arrive(marketplace), "hank"))
    for answer in (bill.post("/link", late), bill.get(str(late.url))):
        assert "This subscription has another account" in answer.text
    assert hosted.rows("subscription", "subject") == ["1"]

    assert hank.arrive(marketplace).url.path == "/", "it is linked to this one already"
    assert not hank.has_registration


def test_a_subject_of_another_issuer_is_somebody_else(
    hank: Visitor, hosted: Site, marketplace: LocalMarketplace
) -> None:
    question = hank.log_in(hank.arrive(marketplace), "hank")
    answer = hank.post("/link", question, issuer="https://other.example")
    assert (answer.status_code, hosted.linked) == (409, [])
    assert "Linked: " in hank.post("/link", question).text
    with closing(sqlite3.connect(hosted.database)) as database, database:
        database.execute("UPDATE subscription SET issuer = 'https://other.example'")
    assert "Linked: " not in hank.get("/").text
    assert "This subscription has another account" in hank.arrive(marketplace).text


def test_what_the_provider_says_of_a_user_is_text(
    hank: Visitor, provider: Provider, marketplace: LocalMarketplace
) -> None:
    provider.people["hank"] = Person('"><b>1', "<script>@globex.example")
    question = hank.log_in(hank.arrive(marketplace), "hank")
    assert "to &lt;script&gt;@globex.example?" in question.text
    assert "<script>" not in question.text
    assert hidden_fields(question)["subject"] == '"><b>1'


def test_forms_of_other_sites_and_of_sisters_are_refused(
    hank: Visitor, hosted: Site, marketplace: LocalMarketplace
) -> None:
    question = hank.log_in(hank.arrive(marketplace), "hank")
    for path in ("/login", "/link", "/decline", "/logout"):
        for headers in (
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "https://sister.acme.example"},
        ):
            assert hank.client.post(path, data=hidden_fields(question), headers=headers).status_code == 403
    assert hosted.linked == []
    assert hank.has_registration
    assert "hank@globex.example" in hank.get("/").text


# Authlib with several providers

PROVIDERS = ["google", "github"]


@pytest.mark.parametrize("at", PROVIDERS)
def test_a_new_person_gets_an_account_with_the_subscription_and_is_known_from_then_on(
    social: Site, visit: Visit, provider: Provider, marketplace: LocalMarketplace, at: str
) -> None:
    hank = visit(social)
    question = hank.log_in(hank.arrive(marketplace), "hank", f"/login/{at}")
    assert "A new account: hank@globex.example" in question.text
    assert f"ending in\n  {marketplace.buyer.account_id[-4:]}" in question.text
    assert social.rows("account", "email") == social.linked == []
    assert hank.post("/confirm", question).url.path == "/"
    assert social.rows("account", "email") == ["hank@globex.example"]
    assert social.rows("login", "provider", "subject") == [(at, "1")]
    assert social.linked == [key(marketplace, "new-product")]
    assert not hank.has_registration

    # By the subject, whatever has become of the address, and in another browser.
    provider.people["hank"].email = "henry@globex.example"
    again = visit(social)
    question = again.log_in(again.arrive(marketplace, "second-agreement"), "hank", f"/login/{at}")
    assert "Your account: hank@globex.example" in question.text
    assert len(social.linked) == 1
    assert again.post("/confirm", question).url.path == "/"
    assert social.rows("subscription", "account_id") == [1, 1]
    assert social.linked[1] == key(marketplace, "second-agreement")
    assert social.rows("account", "email") == ["hank@globex.example"]


def test_the_same_number_with_two_providers_is_two_people(social: Site, visit: Visit, provider: Provider) -> None:
    for at, name in (("google", "hank"), ("github", "bill")):
        provider.people[name].subject = "7"
        visitor = visit(social)
        home = visitor.post("/confirm", visitor.log_in(visitor.get("/signup"), name, f"/login/{at}"))
        assert home.url.path == "/"
        assert provider.people[name].email in home.text
    assert social.rows("login", "account_id", "provider", "subject") == [(1, "google", "7"), (2, "github", "7")]


def test_what_was_asked_of_one_provider_is_not_confirmed_for_the_same_number_with_another(
    social: Site, visit: Visit, provider: Provider, marketplace: LocalMarketplace
) -> None:
    for person in provider.people.values():
        person.subject = "7"
    hank = visit(social)
    question = hank.log_in(hank.arrive(marketplace), "hank", "/login/google")
    hank.forget("session")
    hank.forget("sso")
    assert "bill@initech.example" in hank.log_in(hank.get("/signup"), "bill", "/login/github").text
    answer = hank.post("/confirm", question)
    assert answer.status_code == 409
    assert "You have logged in as somebody else since" in answer.text
    assert social.rows("account", "email") == social.linked == []


def test_an_account_is_not_found_by_its_address(
    social: Site, visit: Visit, provider: Provider, marketplace: LocalMarketplace
) -> None:
    hank = visit(social)
    hank.post("/confirm", hank.log_in(hank.get("/signup"), "hank", "/login/google"))
    hank.post("/logout")
    provider.people["hank"].subject = "99"
    hank.forget("sso")
    question = hank.log_in(hank.arrive(marketplace), "hank", "/login/github")
    assert "A new account" in question.text
    answer = hank.post("/confirm", question)
    assert answer.status_code == 409
    assert "hank@globex.example has an account" in answer.text
    assert social.rows("login", "subject") == ["1"]
    assert social.linked == []
    assert hank.has_registration


@pytest.mark.parametrize("at", PROVIDERS)
def test_an_address_that_nobody_verified_makes_no_account(
    social: Site, visit: Visit, provider: Provider, marketplace: LocalMarketplace, at: str
) -> None:
    provider.people["hank"].email_verified = False
    hank = visit(social)
    page = hank.arrive(marketplace)
    answer = hank.log_in(page, "hank", f"/login/{at}")
    assert answer.status_code == 400
    assert "no verified e-mail address" in answer.text
    assert hank.post("/confirm", page).url.path == "/signup"
    assert social.rows("account", "email") == social.linked == []


def test_a_subscription_that_is_gone_leaves_no_account_behind(
    social: Site, visit: Visit, marketplace: LocalMarketplace
) -> None:
    hank, bill = visit(social), visit(social)
    late = bill.log_in(bill.arrive(marketplace), "bill", "/login/github")
    hank.post("/confirm", hank.log_in(hank.arrive(marketplace), "hank", "/login/google"))
    answer = bill.post("/confirm", late)
    assert answer.status_code == 409
    assert "This subscription has another account" in answer.text
    assert social.rows("account", "email") == ["hank@globex.example"]
    assert social.rows("login", "subject") == ["1"]

    # Without it, bill gets one.
    question = bill.post("/decline", answer)
    assert "A new account: bill@initech.example" in question.text
    assert bill.post("/confirm", question).url.path == "/"
    assert social.rows("subscription", "account_id") == [1]


def test_a_double_click_makes_one_account(social: Site, visit: Visit, marketplace: LocalMarketplace) -> None:
    hank = visit(social)
    question = hank.log_in(hank.arrive(marketplace), "hank", "/login/google")
    cookies = {cookie.name: cookie.value or "" for cookie in hank.client.cookies.jar}
    hank.post("/confirm", question)
    hank.client.cookies.update(cookies)  # the second click was before the answer to the first
    assert hank.post("/confirm", question).url.path == "/"
    assert len(social.rows("account", "email")) == len(social.linked) == 1


def test_a_login_is_for_the_registration_of_its_page(social: Site, visit: Visit, marketplace: LocalMarketplace) -> None:
    hank = visit(social)
    page = hank.arrive(marketplace)
    hank.arrive(marketplace, "second-agreement")
    hank.post("/confirm", hank.log_in(page, "hank", "/login/google"))
    assert social.linked == [key(marketplace, "new-product")]


def test_a_login_that_one_with_another_provider_overtook_is_for_no_registration(
    social: Site, visit: Visit, marketplace: LocalMarketplace
) -> None:
    hank = visit(social)
    theirs = hank.post("/login/google", hank.arrive(marketplace))
    hank.post("/login/github", hank.arrive(marketplace, "second-agreement"))
    question = hank.client.post(theirs.url, data={"name": "hank"})
    assert "A new account" in question.text
    home = hank.post("/confirm", question)
    assert social.linked == []
    assert "An AWS account waits to be linked" in home.text


def test_the_callback_of_somebody_elses_social_login_does_nothing(
    social: Site, visit: Visit, marketplace: LocalMarketplace
) -> None:
    attacker, hank = visit(social), visit(social)
    theirs = attacker.post("/login/github", attacker.get("/signup"))
    stolen = attacker.client.post(theirs.url, data={"name": "bill"}, follow_redirects=False).headers["location"]
    assert parse_qs(urlsplit(stolen).query).keys() == {"code", "state"}
    hank.arrive(marketplace)
    answer = hank.get(stolen)
    assert answer.status_code == 400
    assert hank.get("/").url.path == "/signup"
    assert hank.get("/confirm").url.path == "/signup"


def test_what_the_social_page_showed_is_not_linked_to_whoever_logged_in_since(
    social: Site, visit: Visit, marketplace: LocalMarketplace
) -> None:
    hank = visit(social)
    question = hank.log_in(hank.arrive(marketplace), "hank", "/login/google")
    hank.forget("session")
    hank.forget("sso")
    hank.log_in(hank.get("/signup"), "bill", "/login/google")
    assert hank.post("/confirm", question).status_code == 409
    hank.forget("marketplace-")
    over = hank.get(str(question.url))
    assert (over.status_code, "This took too long" in over.text) == (400, True)
    assert hank.post("/confirm", question, subject="2").status_code == 400
    assert social.rows("account", "email") == social.linked == []


def test_forms_of_sisters_are_refused_by_the_social_app(
    social: Site, visit: Visit, marketplace: LocalMarketplace
) -> None:
    hank = visit(social)
    question = hank.log_in(hank.arrive(marketplace), "hank", "/login/google")
    for path in ("/login/google", "/confirm", "/decline", "/logout"):
        answer = hank.client.post(path, data=hidden_fields(question), headers={"Sec-Fetch-Site": "same-site"})
        assert answer.status_code == 403
    assert social.rows("account", "email") == social.linked == []
    assert hank.has_registration
    assert "A new account" in hank.get("/signup").text


def test_a_provider_that_is_none_is_not_found(social: Site, visit: Visit) -> None:
    visitor = visit(social)
    assert visitor.post("/login/evil").status_code == 404
    assert visitor.get("/callback/evil").status_code == 404


# fastapi-users


def test_signing_up_with_fastapi_users_links_in_one_transaction(
    with_users: Site, visit: Visit, marketplace: LocalMarketplace
) -> None:
    hank, late = visit(with_users), visit(with_users)
    page = late.arrive(marketplace)
    home = hank.post("/signup", hank.arrive(marketplace), email=" Hank@Globex.example ", password=PASSWORD)
    assert home.url.path == "/"
    assert f"AWS account ending in {marketplace.buyer.account_id[-4:]}" in home.text
    assert with_users.rows("user", "email", "is_superuser") == [("hank@globex.example", 0)]
    assert with_users.linked == [key(marketplace, "new-product")]
    assert not hank.has_registration

    answer = late.post("/signup", page, email="late@globex.example", password=PASSWORD)
    assert answer.status_code == 409
    assert "This AWS Marketplace subscription has an account already" in answer.text
    assert "This AWS Marketplace subscription has an account already" in late.get("/signup").text
    assert with_users.rows("user", "email") == ["hank@globex.example"], "no user without what pays for it"
    assert late.get("/").url.path == "/signup"
    assert late.has_registration


def test_a_user_of_fastapi_users_logs_in_and_is_asked(
    with_users: Site, visit: Visit, marketplace: LocalMarketplace
) -> None:
    hank = visit(with_users)
    hank.post("/signup", hank.get("/signup"), email="hank@globex.example", password=PASSWORD)
    hank.post("/logout")
    hank.arrive(marketplace)
    page = hank.get("/login")
    assert f"AWS account ending in {marketplace.buyer.account_id[-4:]}" in page.text
    wrong = hank.post("/login", username="hank@globex.example", password="wrong")
    assert (wrong.status_code, "or the password is wrong" in wrong.text) == (400, True)
    question = hank.post("/login", username="hank@globex.example", password=PASSWORD)
    assert question.url.path == "/link"
    assert "to hank@globex.example?" in question.text
    assert with_users.linked == []
    assert hank.post("/link", question).url.path == "/"
    assert with_users.linked == [key(marketplace, "new-product")]
    assert not hank.has_registration
    assert hank.arrive(marketplace).url.path == "/", "it is linked to this one already"
    assert not hank.has_registration


def test_a_subscription_belongs_to_one_user_of_fastapi_users(
    with_users: Site, visit: Visit, marketplace: LocalMarketplace
) -> None:
    hank, bill = visit(with_users), visit(with_users)
    for visitor, email in ((hank, "hank@globex.example"), (bill, "bill@initech.example")):
        visitor.post("/signup", visitor.get("/signup"), email=email, password=PASSWORD)
    late = bill.arrive(marketplace)
    question = hank.arrive(marketplace)
    assert bill.post("/link", late, user_id=hidden_fields(question)["user_id"]).status_code == 409
    assert with_users.linked == []
    hank.post("/link", question)
    answer = bill.post("/link", late)
    assert "This subscription has another account" in answer.text
    assert len(with_users.linked) == 1
    assert bill.post("/decline", answer).url.path == "/"
    assert not bill.has_registration


def test_two_tabs_with_fastapi_users_link_what_they_showed(
    with_users: Site, visit: Visit, marketplace: LocalMarketplace
) -> None:
    hank = visit(with_users)
    page = hank.arrive(marketplace)
    hank.arrive(marketplace, "second-agreement")
    hank.post("/signup", page, email="hank@globex.example", password=PASSWORD)
    assert with_users.linked == [key(marketplace, "new-product")]
    question = hank.get("/link")
    hank.post("/link", question)
    assert with_users.linked == [key(marketplace, "new-product"), key(marketplace, "second-agreement")]


def test_fastapi_users_signs_up_others_too_and_says_what_is_wrong(with_users: Site, visit: Visit) -> None:
    hank = visit(with_users)
    page = hank.get("/signup")
    for email, password, status, complaint in (
        ("hank", PASSWORD, 400, "Enter an e-mail address"),
        ("hank@globex.example", "short", 400, "10 to 200 characters"),
        ("hank@globex.example", PASSWORD, 200, "<h1>hank@globex.example</h1>"),
        ("HANK@globex.example", PASSWORD, 409, "This e-mail address has an account"),
    ):
        answer = hank.post("/signup", page, email=email, password=password)
        assert (answer.status_code, complaint in answer.text) == (status, True)
    gone = hank.post("/signup", registration_id="gone", email="bill@initech.example", password=PASSWORD)
    assert (gone.status_code, "This took too long" in gone.text) == (400, True)
    gone = hank.post("/link", registration_id="gone")
    assert (gone.status_code, "This took too long" in gone.text) == (400, True)
    assert with_users.rows("user", "email") == ["hank@globex.example"]
    assert hank.get("/login").url.path == "/", "logged in, and nothing to link"
    assert hank.get("/signup").url.path == "/"


def test_the_cookie_of_fastapi_users_stays_at_home_and_is_worth_nothing_after_logging_out(
    with_users: Site, visit: Visit
) -> None:
    hank = visit(with_users)
    fields = {"email": "hank@globex.example", "password": PASSWORD}
    cookie = hank.client.post("/signup", data=fields, follow_redirects=False).headers["set-cookie"]
    assert cookie.startswith("session=")
    assert {"HttpOnly", "SameSite=lax"} <= set(cookie.split("; "))
    assert hank.get("/").url.path == "/"
    kept = hank.client.cookies["session"]
    hank.post("/logout")
    assert hank.post("/logout").url.path == "/login"
    hank.client.cookies.set("session", kept, domain="127.0.0.1")
    assert hank.get("/").url.path == "/signup"
    assert with_users.rows("accesstoken", "token") == []


def test_forms_of_sisters_are_refused_by_the_app_with_fastapi_users(
    with_users: Site, visit: Visit, marketplace: LocalMarketplace
) -> None:
    hank = visit(with_users)
    hank.post("/signup", hank.get("/signup"), email="hank@globex.example", password=PASSWORD)
    fields = hidden_fields(hank.arrive(marketplace))
    fields |= {"email": "x@y.example", "username": "hank@globex.example", "password": PASSWORD}
    for path in ("/signup", "/login", "/link", "/decline", "/logout"):
        assert hank.client.post(path, data=fields, headers={"Sec-Fetch-Site": "same-site"}).status_code == 403
    assert with_users.rows("user", "email") == ["hank@globex.example"]
    assert with_users.linked == []
    assert hank.has_registration
    assert hank.get("/").url.path == "/"
