"""What pages of a third site can do to a buyer in a real browser, and what the fields of the form can do to our pages.

The third site is on 127.0.0.2, so it is foreign to the app on 127.0.0.1 and to the marketplace on localhost. JavaScript
is on in every test: the attacker needs it.
"""

import re
from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from sqlalchemy.orm import Session

from starlette_marketplace.local import LocalMarketplace
from tests.example_app.browser import Browser
from tests.example_app.steps import (
    PASSWORD,
    agreement,
    cookie_names,
    decline,
    expect_question,
    link_to,
    linked,
    masked,
    number_of_users,
    session_cookie,
    set_up_account,
    sign_up,
)
from tests.example_app.third_site import ThirdSite, self_submitting_form, serve_third_site
from tests.example_app.wiretap import MoodyAws, SeenRequest, Wiretap

LANDING = "/marketplace/register"
TOKEN = "x-amzn-marketplace-token"
VICTIM = ("Initech", "bill@initech.example")
ATTACKER = {"company": "Evil Corp", "email": "mallory@evil.example", "password": PASSWORD}


@pytest.fixture
def page(scripted_page: Page) -> Page:
    return scripted_page


@pytest.fixture
def context(scripted_context: BrowserContext) -> BrowserContext:
    return scripted_context


@pytest.fixture
def third_site() -> Iterator[ThirdSite]:
    """On macOS, 127.0.0.2 is there after `sudo ifconfig lo0 alias 127.0.0.2`."""
    with serve_third_site("127.0.0.2") as site:
        yield site


@pytest.fixture
def victim(page: Page, context: BrowserContext, app_url: str) -> str:
    """Somebody is logged in to the app; gives the session cookie."""
    page.goto(f"{app_url}/signup")
    sign_up(page, *VICTIM)
    expect(page).to_have_url(f"{app_url}/dashboard")
    return session_cookie(context, app_url)


@pytest.fixture
def trap(third_site: ThirdSite, marketplace: LocalMarketplace, app_url: str) -> str:
    """The address of a page that posts a good token of the attacker's own AWS account."""
    token = marketplace.issue_token("new-product")
    return third_site.publish(self_submitting_form(f"{app_url}{LANDING}", {TOKEN: token}))


def registration_id(context: BrowserContext, app_url: str) -> str:
    """The attacker knows it as well: it follows from the agreement, which is the attacker's."""
    names = [str(cookie["name"]) for cookie in context.cookies(app_url)]
    [found] = [name.removeprefix("marketplace-") for name in names if name.startswith("marketplace-")]
    return found


# The attacker's own token in the victim's browser


def test_a_user_who_was_sent_here_with_somebody_elses_account_sees_whose_it_is_and_can_decline(
    victim: str,
    trap: str,
    page: Page,
    context: BrowserContext,
    app_url: str,
    wiretap: Wiretap,
    marketplace: LocalMarketplace,
    database: Session,
) -> None:
    page.goto(trap)
    expect_question(page, app_url, "Initech")
    expect(page.locator(".aws")).to_contain_text(masked(marketplace))
    expect(page.locator("body")).to_contain_text("We ask because any page on the web can send you here")
    [arrival] = wiretap.requests("POST", LANDING)
    assert (arrival.site, arrival.cookies) == ("cross-site", set())
    assert cookie_names(context, app_url) == ["marketplace-<id>", "session"]
    assert session_cookie(context, app_url) == victim

    for path in ("/signup", "/login", "/link", "/", "/dashboard"):
        page.goto(app_url + path)
    expect(page.locator("body")).to_contain_text("is waiting to be linked")
    assert linked(database) == []

    page.get_by_role("link", name="Review it").click()
    decline(page)
    expect(page).to_have_url(f"{app_url}/dashboard")
    expect(page.locator("body")).not_to_contain_text("is waiting to be linked")
    assert cookie_names(context, app_url) == ["session"]
    assert session_cookie(context, app_url) == victim
    assert linked(database) == []
    assert len(marketplace.resolve_calls) == 1


def test_a_visitor_who_was_sent_here_with_somebody_elses_account_can_sign_up_without_it(
    trap: str, page: Page, context: BrowserContext, app_url: str, marketplace: LocalMarketplace, database: Session
) -> None:
    page.goto(trap)
    expect(page).to_have_url(f"{app_url}/signup")
    expect(page.locator(".aws")).to_contain_text(masked(marketplace))

    decline(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Create your workspace")
    expect(page.locator("body")).not_to_contain_text(masked(marketplace))
    assert cookie_names(context, app_url) == []

    sign_up(page, *VICTIM)
    expect(page).to_have_url(f"{app_url}/dashboard")
    assert number_of_users(database) == 1
    assert linked(database) == []


def test_a_buyer_who_was_trapped_on_the_way_still_links_the_own_agreement_and_no_other(
    trap: str,
    page: Page,
    context: BrowserContext,
    storefront: str,
    app_url: str,
    marketplace: LocalMarketplace,
    database: Session,
) -> None:
    marketplace.shop_as_another_buyer()
    set_up_account(page, storefront, "new-product")
    expect(page.locator(".aws")).to_contain_text(masked(marketplace))
    page.get_by_label("Company").fill("Initech")

    # The attacker's registration is now the newest one, but not the one on the page.
    other_tab = context.new_page()
    other_tab.goto(trap)
    expect(other_tab).to_have_url(f"{app_url}/signup")
    sign_up(page, *VICTIM)
    expect(page).to_have_url(f"{app_url}/dashboard")
    assert linked(database) == [agreement(marketplace, "new-product")]

    other_tab.reload()
    expect_question(other_tab, app_url, "Initech")
    decline(other_tab)
    expect(other_tab).to_have_url(f"{app_url}/dashboard")
    assert linked(database) == [agreement(marketplace, "new-product")]
    assert cookie_names(context, app_url) == ["session"]


# Requests that the victim does not see


@pytest.fixture
def unguarded_cookie(context: BrowserContext) -> None:
    """A cookie that does come along with these requests: without it, nobody knows why the others do not."""
    context.add_cookies(
        [{"name": "unguarded", "value": "1", "domain": "127.0.0.1", "path": "/", "sameSite": "None", "secure": True}]
    )


def test_a_token_posted_into_a_frame_leaves_no_cookie_and_shows_nothing(
    victim: str,
    unguarded_cookie: None,
    third_site: ThirdSite,
    page: Page,
    context: BrowserContext,
    app_url: str,
    wiretap: Wiretap,
    marketplace: LocalMarketplace,
    database: Session,
) -> None:
    fields = {TOKEN: marketplace.issue_token("new-product")}
    trap = third_site.publish(self_submitting_form(f"{app_url}{LANDING}", fields, in_frame=True))
    wiretap.forget()
    open_and_expect_refused_frame(page, trap)

    arrival, landed = wiretap.requests()
    assert (arrival.method, arrival.target, arrival.site) == ("POST", LANDING, "cross-site")
    assert (landed.method, landed.target, landed.site) == ("GET", "/signup", "cross-site")
    assert arrival.cookies == landed.cookies == {"unguarded"}
    assert len(arrival.cookies_set) == 1, "we set it, and Chromium does not take it"
    assert cookie_names(context, app_url) == ["session", "unguarded"]
    assert session_cookie(context, app_url) == victim
    assert linked(database) == []
    assert len(marketplace.resolve_calls) == 1


def test_a_token_posted_by_a_script_leaves_no_cookie(
    victim: str,
    unguarded_cookie: None,
    third_site: ThirdSite,
    page: Page,
    context: BrowserContext,
    app_url: str,
    wiretap: Wiretap,
    marketplace: LocalMarketplace,
    database: Session,
) -> None:
    page.goto(third_site.publish(""))
    wiretap.forget()
    fetch(page, f"{app_url}{LANDING}", "POST", {TOKEN: marketplace.issue_token("new-product")})

    arrival, landed = wiretap.requests()
    assert (arrival.method, arrival.target, arrival.site) == ("POST", LANDING, "cross-site")
    assert (landed.method, landed.target, landed.site) == ("GET", "/signup", "cross-site")
    assert arrival.cookies == landed.cookies == {"unguarded"}
    assert len(arrival.cookies_set) == 1, "we set it, and Chromium does not take it"
    assert cookie_names(context, app_url) == ["session", "unguarded"]
    assert session_cookie(context, app_url) == victim
    assert linked(database) == []


def test_a_script_of_another_site_reaches_nothing_as_the_victim(
    victim: str,
    unguarded_cookie: None,
    trap: str,
    third_site: ThirdSite,
    page: Page,
    context: BrowserContext,
    app_url: str,
    wiretap: Wiretap,
    database: Session,
) -> None:
    page.goto(trap)
    expect_question(page, app_url, "Initech")
    fields = {"registration_id": registration_id(context, app_url), "workspace_id": "1"}
    page.goto(third_site.publish(""))
    wiretap.forget()
    for path in ("/link", "/dashboard", "/signup"):
        fetch(page, app_url + path, "GET")
    for path in ("/link", "/decline", "/logout"):
        fetch(page, app_url + path, "POST", fields)
    assert len(wiretap.requests()) >= 6
    for request in wiretap.requests():
        assert (request.site, request.cookies, request.cookies_set) == ("cross-site", {"unguarded"}, [])
    assert cookie_names(context, app_url) == ["marketplace-<id>", "session", "unguarded"]
    assert session_cookie(context, app_url) == victim
    assert linked(database) == []


def fetch(page: Page, url: str, method: str, fields: dict[str, str] | None = None) -> None:
    """Send a request as scripts may send it to any site: with its cookies, and without seeing the answer."""
    send = """async ([url, method, fields]) => {
      const body = fields && new URLSearchParams(fields);
      const response = await fetch(url, {method, body, mode: "no-cors", credentials: "include"});
      return response.type;
    }"""
    assert page.evaluate(send, [url, method, fields]) == "opaque"


# Forms of other sites to the pages that change something


def send_form(page: Page, site: ThirdSite, url: str, fields: dict[str, str], wiretap: Wiretap) -> SeenRequest:
    """Send a form from a page of another site, and check that it is refused; gives what arrived."""
    path = url[url.index("/", 8) :]
    before = len(wiretap.requests("POST", path))
    page.goto(site.publish(self_submitting_form(url, fields)))
    expect(page.get_by_role("heading", level=1)).to_have_text("That did not work")
    expect(page.locator("body")).to_contain_text("This form was sent from another site")
    [*_, arrival] = wiretap.requests("POST", path)
    assert len(wiretap.requests("POST", path)) == before + 1
    assert arrival.cookies_set == []
    return arrival


@pytest.mark.parametrize("path", ["/link", "/decline", "/logout", "/signup", "/login"])
def test_a_form_of_another_site_is_refused_and_carries_no_cookie(
    victim: str,
    trap: str,
    third_site: ThirdSite,
    page: Page,
    context: BrowserContext,
    app_url: str,
    wiretap: Wiretap,
    database: Session,
    path: str,
) -> None:
    page.goto(trap)
    expect_question(page, app_url, "Initech")
    fields = {**ATTACKER, "registration_id": registration_id(context, app_url), "workspace_id": "1"}
    arrival = send_form(page, third_site, app_url + path, fields, wiretap)
    assert (arrival.site, arrival.cookies) == ("cross-site", set())
    assert cookie_names(context, app_url) == ["marketplace-<id>", "session"]
    assert session_cookie(context, app_url) == victim
    assert linked(database) == []
    assert number_of_users(database) == 1


@pytest.mark.parametrize("path", ["/link", "/decline", "/logout"])
def test_a_form_of_a_sister_site_is_refused_though_its_cookies_come_along(
    victim: str,
    trap: str,
    page: Page,
    context: BrowserContext,
    app_url: str,
    wiretap: Wiretap,
    database: Session,
    path: str,
) -> None:
    """Another port is another origin of the same site, and so is another subdomain."""
    page.goto(trap)
    expect_question(page, app_url, "Initech")
    fields = {"registration_id": registration_id(context, app_url), "workspace_id": "1"}
    with serve_third_site("127.0.0.1") as sister_site:
        arrival = send_form(page, sister_site, app_url + path, fields, wiretap)
    assert arrival.site == "same-site"
    assert arrival.cookies == {"session", "marketplace-" + fields["registration_id"]}
    assert cookie_names(context, app_url) == ["marketplace-<id>", "session"]
    assert session_cookie(context, app_url) == victim
    assert linked(database) == []


@pytest.mark.parametrize("path", ["/login", "/signup"])
def test_a_form_of_another_site_cannot_log_a_visitor_in_as_somebody_else(
    open_browser: Callable[[], Browser],
    third_site: ThirdSite,
    page: Page,
    context: BrowserContext,
    app_url: str,
    wiretap: Wiretap,
    path: str,
) -> None:
    if path == "/login":
        assert open_browser().post("/signup", ATTACKER).status_code == 303
    send_form(page, third_site, app_url + path, ATTACKER, wiretap)
    assert context.cookies(app_url) == []
    page.goto(f"{app_url}/dashboard")
    expect(page).to_have_url(f"{app_url}/login")


def test_a_link_on_another_site_can_open_the_question_but_not_answer_it(
    victim: str,
    trap: str,
    third_site: ThirdSite,
    page: Page,
    context: BrowserContext,
    app_url: str,
    wiretap: Wiretap,
    database: Session,
) -> None:
    page.goto(trap)
    expect_question(page, app_url, "Initech")
    address = f"{app_url}/link?registration_id={registration_id(context, app_url)}&workspace_id=1"
    page.goto(third_site.publish(f'<a href="{address.replace("&", "&amp;")}">More kittens</a>'))
    wiretap.forget()
    page.get_by_role("link").click()
    expect(page).to_have_url(address)
    [arrival] = wiretap.requests("GET", "/link")
    assert "session" in arrival.cookies
    expect(page.get_by_role("heading", level=1)).to_have_text("Link this AWS account to Initech?")
    assert linked(database) == []

    # Only the buyer can.
    link_to(page, "Initech")
    expect(page).to_have_url(f"{app_url}/dashboard")
    assert len(linked(database)) == 1


# Frames


def open_and_expect_refused_frame(page: Page, url: str) -> None:
    with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
        page.goto(url)
    [_, frame] = page.frames
    frame.wait_for_url("chrome-error://chromewebdata/")
    assert not re.search("Acme|AWS Marketplace", frame.locator("body").inner_text())


@pytest.mark.parametrize("path", [LANDING, "/", "/signup", "/login", "/nowhere"])
def test_no_page_can_be_framed(
    storefront: str, third_site: ThirdSite, page: Page, app_url: str, wiretap: Wiretap, path: str
) -> None:
    open_and_expect_refused_frame(page, third_site.publish(f'<iframe src="{app_url}{path}"></iframe>'))
    assert len(wiretap.requests("GET", path)) == 1


@pytest.mark.parametrize("scenario", ["invalid", "throttled", "wrong-product"])
def test_no_error_page_can_be_framed(
    third_site: ThirdSite, page: Page, app_url: str, wiretap: Wiretap, marketplace: LocalMarketplace, scenario: str
) -> None:
    fields = {TOKEN: marketplace.issue_token(scenario)}
    form = self_submitting_form(f"{app_url}{LANDING}", fields, in_frame=True)
    open_and_expect_refused_frame(page, third_site.publish(form))
    assert len(wiretap.requests("POST", LANDING)) == 1


# HTML in the fields


HTML = """'"><script>document.title='owned'</script><b/id=x><img/src=x/onerror=document.title='owned'></form></style>"""


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """What the content security policies of the pages forbade, and what else was wrong with them."""
    found: list[str] = []
    page.expose_function("complain", lambda complaint: found.append(complaint))
    page.add_init_script(
        "addEventListener('securitypolicyviolation', event => complain(event.violatedDirective + ' ' + event.sample))"
    )
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("dialog", lambda dialog: found.append(dialog.message))
    return found


def expect_untouched(page: Page, title: str) -> None:
    expect(page).to_have_title(title)
    assert page.locator("script, #x, #y, img:not(.brand img, .logo)").count() == 0


def test_html_in_the_fields_is_text_on_the_error_page_and_comes_back_unchanged(
    aws: MoodyAws,
    third_site: ThirdSite,
    page: Page,
    complaints: list[str],
    app_url: str,
    marketplace: LocalMarketplace,
) -> None:
    aws.throttles = True
    fields = {
        TOKEN: HTML,
        "x-amzn-marketplace-offer-type": f"free-trial {HTML}",
        "x-amzn-marketplace-agreement-id": 'one two\'s &amp; &quot; "three"',
    }
    dropped = {f'x-amzn-marketplace-"><b id={name}>': HTML for name in "xy"}
    page.goto(third_site.publish(self_submitting_form(f"{app_url}{LANDING}", fields | dropped)))
    expect_untouched(page, "AWS Marketplace did not answer in time - Acme Analytics")
    assert page.locator("main").evaluate("element => getComputedStyle(element).borderRadius") == "16px"
    inputs = page.locator("input").evaluate_all("inputs => inputs.map(input => [input.name, input.type, input.value])")
    assert inputs == [[name, "hidden", value] for name, value in fields.items()]

    with page.expect_request(lambda request: request.method == "POST") as resent:
        page.get_by_role("button", name="Try again").click()
    expect_untouched(page, "AWS Marketplace did not answer in time - Acme Analytics")
    assert parse_qsl(resent.value.post_data or "", strict_parsing=True) == list(fields.items())

    aws.throttles = False
    page.get_by_role("button", name="Try again").click()
    expect_untouched(page, "This link cannot be used - Acme Analytics")
    assert page.locator("input").count() == 0
    assert complaints == []
    assert len(marketplace.resolve_calls) == 1


@pytest.mark.parametrize(
    ("scenario", "title"),
    [
        ("wrong-product", "This subscription is for another product - Acme Analytics"),
        ("expired", "This link has expired - Acme Analytics"),
        ("new-product", "Sign up · Acme Analytics"),
    ],
)
def test_html_in_the_hints_is_on_no_other_page(
    third_site: ThirdSite,
    page: Page,
    complaints: list[str],
    app_url: str,
    marketplace: LocalMarketplace,
    scenario: str,
    title: str,
) -> None:
    fields = {TOKEN: marketplace.issue_token(scenario), "x-amzn-marketplace-product-id": HTML}
    page.goto(third_site.publish(self_submitting_form(f"{app_url}{LANDING}", fields)))
    expect_untouched(page, title)
    assert "owned" not in page.content()
    assert complaints == []


def test_html_in_the_name_of_a_company_is_text_on_every_page(
    page: Page, complaints: list[str], storefront: str, app_url: str, database: Session
) -> None:
    page.goto(f"{app_url}/signup")
    sign_up(page, HTML[:100], "not an address")
    expect_untouched(page, "Sign up · Acme Analytics")
    sign_up(page, HTML[:100], VICTIM[1])
    expect(page.get_by_role("heading", level=1)).to_have_text(HTML[:100])
    expect_untouched(page, "Dashboard · Acme Analytics")

    set_up_account(page, storefront, "new-product")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Link this AWS account to {HTML[:100]}?")
    expect_untouched(page, "Link your AWS account · Acme Analytics")
    assert complaints == []
    assert linked(database) == []
