"""The way of a buyer in a real browser, between two sites: the marketplace on localhost, the app on 127.0.0.1.

JavaScript is off unless a test asks for the scripted browser.
"""

import json
import re
from base64 import b64decode
from urllib.parse import quote, quote_plus

import pytest
from itsdangerous import base64_decode
from playwright.sync_api import BrowserContext, Page, Request, expect
from sqlalchemy import select
from sqlalchemy.orm import Session

from example_app.models import Subscription
from starlette_marketplace.local import LocalMarketplace
from tests.example_app.steps import (
    PASSWORD,
    agreement,
    cookie_names,
    expect_question,
    link_to,
    linked,
    log_in,
    masked,
    number_of_users,
    session_cookie,
    set_up_account,
    sign_up,
)
from tests.example_app.wiretap import MoodyAws, Wiretap

LANDING = "/marketplace/register"
HANK = ("Globex", "hank@globex.example")
BILL = ("Initech", "bill@initech.example")


def test_a_buyer_clicks_signs_up_and_sees_the_dashboard(
    page: Page,
    context: BrowserContext,
    storefront: str,
    app_url: str,
    marketplace: LocalMarketplace,
    database: Session,
) -> None:
    set_up_account(page, storefront, "new-product")
    expect(page).to_have_url(f"{app_url}/signup")
    expect(page.locator("body")).to_contain_text(masked(marketplace))
    [cookie] = context.cookies(app_url)
    assert re.fullmatch("marketplace-[0-9a-f]{24}", cookie["name"])
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")

    sign_up(page, *HANK)
    expect(page).to_have_url(f"{app_url}/dashboard")
    expect(page.locator("body")).to_contain_text("Globex")
    expect(page.locator("body")).to_contain_text(masked(marketplace))
    assert cookie_names(context, app_url) == ["session"]
    assert linked(database) == [agreement(marketplace, "new-product")]
    assert len(marketplace.resolve_calls) == 1


@pytest.fixture
def keeps_no_answer(settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETPLACE_CACHE_TTL", "0")


def test_a_buyer_sees_the_plan_and_its_end_and_what_becomes_of_them(
    keeps_no_answer: None, page: Page, storefront: str, app_url: str, marketplace: LocalMarketplace
) -> None:
    set_up_account(page, storefront, "new-product")
    bought = agreement(marketplace, "new-product")
    ends_at = marketplace.agreement(bought).ends_at
    assert ends_at is not None
    end = f"{ends_at:%b} {ends_at.day}, {ends_at.year}"
    expect_facts(page, Status="Active", Plan="Starter", Users="5", Renews_on=end)

    sign_up(page, *HANK)
    expect(page).to_have_url(f"{app_url}/dashboard")
    expect(page.locator(".rows h3")).to_have_text("Acme Analytics Active")
    expect_facts(page, Plan="Starter", Users="5", Renews_on=end)

    marketplace.change_plan(bought, "Team")
    page.reload()
    expect_facts(page, Plan="Team", Users="25", Renews_on=end)

    marketplace.cancel(bought)
    page.reload()
    expect(page.locator(".rows h3")).to_have_text("Acme Analytics Ended")
    expect(page.locator(".rows")).to_contain_text("Your data is kept.")
    expect(page.locator(".rows")).not_to_contain_text("Team")


def test_the_page_looks_by_itself_whether_aws_has_prepared_the_subscription(
    keeps_no_answer: None, page: Page, storefront: str, marketplace: LocalMarketplace
) -> None:
    set_up_account(page, storefront, "not-yet-entitled")
    expect_facts(page, Status="Being prepared")
    sign_up(page, *HANK)
    expect(page.locator(".rows h3")).to_have_text("Acme Analytics Being prepared")
    marketplace.prepare(agreement(marketplace, "not-yet-entitled"))
    expect(page.locator(".rows h3")).to_have_text("Acme Analytics Active")
    expect_facts(page, Plan="Starter")


def expect_facts(page: Page, **facts: str) -> None:
    """What the lists of the page say, by their terms."""
    for name, words in facts.items():
        term = page.locator(".aws, .rows").get_by_role("term").get_by_text(name.replace("_", " "), exact=True)
        expect(term.locator("xpath=following-sibling::dd")).to_have_text(words)


@pytest.fixture
def https_only(settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETPLACE_HTTPS_ONLY", "true")


def test_the_cookie_for_https_only_comes_back_after_the_cross_site_post(
    https_only: None, page: Page, context: BrowserContext, storefront: str, app_url: str, marketplace: LocalMarketplace
) -> None:
    """Chromium takes 127.0.0.1 for as safe as HTTPS."""
    set_up_account(page, storefront, "new-product")
    expect(page.locator("body")).to_contain_text(masked(marketplace))
    [cookie] = context.cookies(app_url)
    assert cookie["name"].startswith("__Host-marketplace-")
    assert cookie["secure"] is True


# Impatience


def test_a_double_click_is_one_registration(
    page: Page, context: BrowserContext, storefront: str, app_url: str, marketplace: LocalMarketplace
) -> None:
    page.goto(storefront)
    page.locator("#new-product").get_by_role("button", name="Set up your account").dblclick()
    expect(page).to_have_url(f"{app_url}/signup")
    expect(page.locator("body")).to_contain_text(masked(marketplace))
    assert cookie_names(context, app_url) == ["marketplace-<id>"]
    assert len(marketplace.resolve_calls) == 1


def test_a_second_click_while_aws_is_being_asked_asks_it_no_second_time(
    aws: MoodyAws,
    page: Page,
    context: BrowserContext,
    storefront: str,
    app_url: str,
    wiretap: Wiretap,
    marketplace: LocalMarketplace,
    database: Session,
) -> None:
    page.goto(storefront)
    button = page.locator("#new-product").get_by_role("button", name="Set up your account").bounding_box()
    assert button is not None
    with aws.held():
        # By the mouse: playwright's own click would wait until the first one has led somewhere.
        page.mouse.click(button["x"] + 10, button["y"] + 10)
        aws.wait_for_caller()
        page.mouse.click(button["x"] + 10, button["y"] + 10)
        wiretap.wait_for("POST", LANDING, 2)
    expect(page).to_have_url(f"{app_url}/signup")
    assert cookie_names(context, app_url) == ["marketplace-<id>"]
    assert len(marketplace.resolve_calls) == 1

    sign_up(page, *HANK)
    expect(page).to_have_url(f"{app_url}/dashboard")
    assert number_of_users(database) == 1
    assert linked(database) == [agreement(marketplace, "new-product")]


def test_a_double_click_on_the_button_of_the_signup_form_makes_one_account(
    page: Page,
    storefront: str,
    wiretap: Wiretap,
    marketplace: LocalMarketplace,
    database: Session,
) -> None:
    set_up_account(page, storefront, "new-product")
    page.get_by_label("Company").fill(HANK[0])
    page.get_by_label("Work e-mail").fill(HANK[1])
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account and link subscription").dblclick()
    # The second answer is for a user, or for a browser that was too quick to take the first one's session cookie.
    expect(page).to_have_url(re.compile("/(dashboard|login)$"))
    assert len(wiretap.requests("POST", "/signup")) in (1, 2)
    assert number_of_users(database) == 1
    assert linked(database) == [agreement(marketplace, "new-product")]


def test_reloading_the_signup_page_posts_nothing_again(
    page: Page,
    context: BrowserContext,
    storefront: str,
    app_url: str,
    wiretap: Wiretap,
    marketplace: LocalMarketplace,
) -> None:
    set_up_account(page, storefront, "new-product")
    expect(page).to_have_url(f"{app_url}/signup")
    cookies = context.cookies(app_url)

    page.reload()
    expect(page).to_have_url(f"{app_url}/signup")
    expect(page.locator("body")).to_contain_text(masked(marketplace))
    assert context.cookies(app_url) == cookies
    assert len(wiretap.requests("GET", "/signup")) == 2
    assert len(wiretap.requests("POST", LANDING)) == 1
    assert len(marketplace.resolve_calls) == 1


def test_going_back_to_the_storefront_and_forward_again_keeps_the_registration(
    page: Page,
    context: BrowserContext,
    storefront: str,
    app_url: str,
    wiretap: Wiretap,
    marketplace: LocalMarketplace,
    database: Session,
) -> None:
    set_up_account(page, storefront, "new-product")
    expect(page).to_have_url(f"{app_url}/signup")
    page.go_back()
    expect(page).to_have_url(f"{storefront}/")
    page.go_forward()
    expect(page).to_have_url(f"{app_url}/signup")
    expect(page.locator("body")).to_contain_text(masked(marketplace))
    assert cookie_names(context, app_url) == ["marketplace-<id>"]
    assert len(wiretap.requests("POST", LANDING)) == 1
    assert len(marketplace.resolve_calls) == 1

    sign_up(page, *HANK)
    expect(page).to_have_url(f"{app_url}/dashboard")
    assert linked(database) == [agreement(marketplace, "new-product")]


def test_going_back_after_signing_up_finds_the_registration_over_and_links_nothing_twice(
    page: Page,
    context: BrowserContext,
    storefront: str,
    app_url: str,
    marketplace: LocalMarketplace,
    database: Session,
) -> None:
    set_up_account(page, storefront, "new-product")
    sign_up(page, *HANK)
    expect(page).to_have_url(f"{app_url}/dashboard")

    # The signup page, which knows by now that there is nothing left to do.
    page.go_back()
    expect(page).to_have_url(f"{app_url}/dashboard")
    page.goto(f"{app_url}/link")
    expect(page).to_have_url(f"{app_url}/dashboard")
    expect(page.locator("body")).not_to_contain_text("is waiting to be linked")
    assert cookie_names(context, app_url) == ["session"]
    assert linked(database) == [agreement(marketplace, "new-product")]
    assert number_of_users(database) == 1
    assert len(marketplace.resolve_calls) == 1


# Days on which it does not go well


@pytest.mark.parametrize(
    ("scenario", "heading"),
    [
        ("wrong-product", "This subscription is for another product"),
        ("expired", "This link has expired"),
        ("invalid", "This link cannot be used"),
        ("throttled", "AWS Marketplace did not answer in time"),
        ("expired-credentials", "Setting up accounts is not possible right now"),
    ],
)
def test_each_failure_has_its_page(
    page: Page, context: BrowserContext, storefront: str, app_url: str, scenario: str, heading: str
) -> None:
    set_up_account(page, storefront, scenario)
    expect(page.get_by_role("heading", level=1)).to_have_text(heading)
    # The style sheet is let through by the page's own policy.
    assert page.locator("main").evaluate("element => getComputedStyle(element).borderRadius") == "16px"
    assert cookie_names(context, app_url) == []


@pytest.mark.parametrize(
    ("scenario", "heading"), [("expired", "This link has expired"), ("invalid", "This link cannot be used")]
)
def test_reloading_an_error_page_sends_the_form_again_and_asks_aws_no_second_time(
    page: Page,
    context: BrowserContext,
    storefront: str,
    app_url: str,
    wiretap: Wiretap,
    marketplace: LocalMarketplace,
    scenario: str,
    heading: str,
) -> None:
    set_up_account(page, storefront, scenario)
    expect(page.get_by_role("heading", level=1)).to_have_text(heading)
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text(heading)
    expect(page).to_have_url(f"{app_url}{LANDING}")
    assert len(wiretap.requests("POST", LANDING)) == 2
    assert len(marketplace.resolve_calls) == 1
    assert cookie_names(context, app_url) == []


def test_try_again_leads_on_once_aws_has_recovered_and_keeps_what_the_form_said(
    aws: MoodyAws,
    page: Page,
    context: BrowserContext,
    storefront: str,
    app_url: str,
    marketplace: LocalMarketplace,
    database: Session,
) -> None:
    aws.throttles = True
    set_up_account(page, storefront, "free-trial")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("AWS Marketplace did not answer in time")
    reference = page.locator("code").inner_text()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("code")).not_to_have_text(reference)
    expect(heading).to_have_text("AWS Marketplace did not answer in time")
    assert cookie_names(context, app_url) == []
    assert marketplace.resolve_calls == []

    aws.throttles = False
    page.get_by_role("button", name="Try again").click()
    expect(page).to_have_url(f"{app_url}/signup")
    expect(page.locator(".aws")).to_contain_text("Free trial")
    assert cookie_names(context, app_url) == ["marketplace-<id>"]
    assert len(marketplace.resolve_calls) == 1

    sign_up(page, *HANK)
    expect(page.locator("body")).to_contain_text("Free trial")
    assert linked(database) == [agreement(marketplace, "free-trial")]


def test_try_again_leads_on_once_the_license_is_there(
    page: Page,
    context: BrowserContext,
    storefront: str,
    app_url: str,
    marketplace: LocalMarketplace,
    database: Session,
) -> None:
    set_up_account(page, storefront, "no-license-yet")
    expect(page.get_by_role("heading", level=1)).to_have_text("Your subscription is still being prepared")
    assert cookie_names(context, app_url) == []

    page.get_by_role("button", name="Try again").click()
    expect(page).to_have_url(f"{app_url}/signup")
    assert cookie_names(context, app_url) == ["marketplace-<id>"]
    sign_up(page, *HANK)
    expect(page).to_have_url(f"{app_url}/dashboard")
    subscription = database.scalars(select(Subscription)).one()
    assert subscription.license_arn
    assert subscription.agreement_id == agreement(marketplace, "no-license-yet")
    assert len(marketplace.resolve_calls) == 2


# Two tabs

# A second product, and a second agreement of the same account about the same product.
SECOND_TABS = ["legacy-product", "second-agreement"]


@pytest.mark.parametrize("second", SECOND_TABS)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["older-first", "newer-first"])
def test_each_of_two_tabs_signs_up_or_links_what_it_showed(
    page: Page,
    context: BrowserContext,
    storefront: str,
    app_url: str,
    marketplace: LocalMarketplace,
    database: Session,
    second: str,
    order: tuple[int, int],
) -> None:
    tabs = [page, context.new_page()]
    shown = []
    for tab, scenario in zip(tabs, ["new-product", second], strict=True):
        set_up_account(tab, storefront, scenario)
        expect(tab).to_have_url(f"{app_url}/signup")
        shown.append(subscription_shown_by(tab))
    assert shown[0] != shown[1]
    assert cookie_names(context, app_url) == ["marketplace-<id>", "marketplace-<id>"]

    one, other = order
    sign_up(tabs[one], *HANK)
    expect(tabs[one]).to_have_url(f"{app_url}/dashboard")
    expect(tabs[one].locator("body")).to_contain_text("is waiting to be linked")
    assert subscriptions_of(database) == [shown[one]]
    assert cookie_names(context, app_url) == ["marketplace-<id>", "session"]

    # The other tab's form makes no second workspace: its buyer is known by now, and is asked.
    sign_up(tabs[other], *BILL)
    expect_question(tabs[other], app_url, "Globex")
    assert subscription_shown_by(tabs[other]) == shown[other]
    assert subscriptions_of(database) == [shown[one]]
    link_to(tabs[other], "Globex")
    expect(tabs[other]).to_have_url(f"{app_url}/dashboard")
    assert subscriptions_of(database) == [shown[one], shown[other]]
    assert number_of_users(database) == 1
    assert cookie_names(context, app_url) == ["session"]
    assert len(marketplace.resolve_calls) == 2


@pytest.mark.parametrize("second", SECOND_TABS)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["older-first", "newer-first"])
def test_each_of_two_tabs_of_a_user_links_what_it_showed(
    page: Page,
    context: BrowserContext,
    storefront: str,
    app_url: str,
    database: Session,
    second: str,
    order: tuple[int, int],
) -> None:
    page.goto(f"{app_url}/signup")
    sign_up(page, *HANK)
    tabs = [page, context.new_page()]
    shown = []
    for tab, scenario in zip(tabs, ["new-product", second], strict=True):
        set_up_account(tab, storefront, scenario)
        expect_question(tab, app_url, "Globex")
        shown.append(subscription_shown_by(tab))
    assert shown[0] != shown[1]

    for done, turn in enumerate(order, start=1):
        link_to(tabs[turn], "Globex")
        expect(tabs[turn]).to_have_url(f"{app_url}/dashboard")
        assert subscriptions_of(database) == [shown[each] for each in order[:done]]
    assert cookie_names(context, app_url) == ["session"]


def subscription_shown_by(page: Page) -> tuple[str, str | None]:
    """The product, and the agreement if it has one, as they stand on the page."""
    agreements = page.locator(".aws code").all_inner_texts()
    return page.locator(".aws dd").first.inner_text(), agreements[0] if agreements else None


def subscriptions_of(database: Session) -> list[tuple[str, str | None]]:
    names = {"acmeanalytics": "Acme Analytics", "acmelegacy": "Acme Reports"}
    rows = database.scalars(select(Subscription).order_by(Subscription.id))
    return [(names[row.product_code], row.agreement_id) for row in rows]


# People who have an account


def test_a_user_who_is_logged_in_still_is_after_arriving_and_is_asked_before_anything_is_linked(
    page: Page,
    context: BrowserContext,
    storefront: str,
    app_url: str,
    wiretap: Wiretap,
    marketplace: LocalMarketplace,
    database: Session,
) -> None:
    page.goto(f"{app_url}/signup")
    sign_up(page, *BILL)
    expect(page).to_have_url(f"{app_url}/dashboard")
    session = session_cookie(context, app_url)

    set_up_account(page, storefront, "new-product")
    expect_question(page, app_url, "Initech")
    expect(page.locator("body")).to_contain_text(masked(marketplace))
    [arrival] = wiretap.requests("POST", LANDING)
    assert (arrival.site, arrival.cookies) == ("cross-site", set())
    assert [name.startswith("marketplace-") for name in arrival.cookies_set] == [True]
    assert session_cookie(context, app_url) == session

    page.get_by_role("link", name="Not now").click()
    expect(page).to_have_url(f"{app_url}/dashboard")
    expect(page.locator("body")).to_contain_text("Initech")
    expect(page.locator("body")).to_contain_text("is waiting to be linked")
    assert linked(database) == []

    page.get_by_role("link", name="Review it").click()
    link_to(page, "Initech")
    expect(page).to_have_url(f"{app_url}/dashboard")
    expect(page.locator("body")).to_contain_text(agreement(marketplace, "new-product"))
    assert linked(database) == [agreement(marketplace, "new-product")]
    assert cookie_names(context, app_url) == ["session"]
    assert session_cookie(context, app_url) == session


def test_a_second_arrival_of_the_same_customer_goes_to_login(
    page: Page, context: BrowserContext, storefront: str, app_url: str, database: Session
) -> None:
    set_up_account(page, storefront, "legacy-product")
    sign_up(page, *HANK)
    page.get_by_role("button", name="Log out").click()

    set_up_account(page, storefront, "legacy-product")
    expect(page).to_have_url(f"{app_url}/login")
    log_in(page, HANK[1])
    expect(page).to_have_url(f"{app_url}/dashboard")
    assert cookie_names(context, app_url) == ["session"]
    assert len(linked(database)) == 1


# Secrets


def test_the_token_is_in_no_address_referrer_cookie_or_later_page(
    scripted_page: Page, scripted_context: BrowserContext, storefront: str, app_url: str, wiretap: Wiretap
) -> None:
    page, context = scripted_page, scripted_context
    sent: list[Request] = []
    context.on("request", lambda request: sent.append(request))

    page.goto(storefront)
    card = page.locator("#free-trial")
    token = card.locator("[name=x-amzn-marketplace-token]").get_attribute("value") or ""
    spellings = {token, quote(token, safe=""), quote(token), quote_plus(token), token.rstrip("=")}
    assert all(len(spelling) > 100 for spelling in spellings)

    def assert_absent(*texts: str) -> None:
        for text in texts:
            assert not [spelling for spelling in spellings if spelling in text]

    card.get_by_role("button").click()
    expect(page).to_have_url(f"{app_url}/signup")
    assert_absent(page.content(), page.evaluate("document.referrer"), *cookie_contents(context, app_url))
    page.reload()
    assert_absent(page.content())
    sign_up(page, *HANK)
    expect(page).to_have_url(f"{app_url}/dashboard")
    assert_absent(page.content(), *cookie_contents(context, app_url))

    history = context.new_cdp_session(page).send("Page.getNavigationHistory")
    assert f"{app_url}/signup" in [entry["url"] for entry in history["entries"]]
    assert_absent(json.dumps(history))
    assert_absent(*(request.url for request in sent))
    assert_absent(*(f"{request.target} {request.headers}" for request in wiretap.everything))
    assert {"POST " + LANDING, "GET /signup", "POST /signup", "GET /dashboard"} <= {
        f"{request.method} {request.target}" for request in wiretap.requests()
    }


def cookie_contents(context: BrowserContext, app_url: str) -> list[str]:
    """The values of the cookies, and what they say to whoever decodes them."""
    contents = []
    for cookie in context.cookies(app_url):
        if cookie["name"] == "session":
            decoded = b64decode(cookie["value"].partition(".")[0]).decode()
        else:
            decoded = base64_decode(cookie["value"].partition(".")[0]).decode()
            assert "x-amzn-marketplace-offer-type" in decoded
        contents += [str(cookie["value"]), decoded]
    assert contents
    return contents
