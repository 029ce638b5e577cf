"""The whole way of a buyer in a real browser, between two sites: the marketplace on localhost, the app on 127.0.0.1."""

import re
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from starlette_marketplace.local import LocalMarketplace

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not on PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        quiet = ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *quiet])
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(java_script_enabled=False)
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture
def storefront(running_marketplace: tuple[LocalMarketplace, str], marketplace: LocalMarketplace, app_url: str) -> str:
    """The storefront's address, on another site than the app's."""
    _, url = running_marketplace
    marketplace.registration_url = f"{app_url}/marketplace/register"
    address = url.replace("127.0.0.1", "localhost")
    assert urlsplit(address).hostname != urlsplit(app_url).hostname
    return address


def set_up_account(page: Page, storefront: str, scenario: str) -> None:
    page.goto(storefront)
    page.locator(f"#{scenario}").get_by_role("button", name="Set up your account").click()


def sign_up(page: Page, company: str, email: str) -> None:
    page.get_by_label("Company").fill(company)
    page.get_by_label("Work e-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name=re.compile("^Create")).click()


def test_a_buyer_clicks_signs_up_and_sees_the_dashboard(
    page: Page, context: BrowserContext, storefront: str, app_url: str, marketplace: LocalMarketplace
) -> None:
    set_up_account(page, storefront, "new-product")
    expect(page).to_have_url(f"{app_url}/signup")
    expect(page.locator("body")).to_contain_text(f"•••• •••• {marketplace.buyer.account_id[-4:]}")
    [cookie] = context.cookies(app_url)
    assert re.fullmatch("marketplace-[0-9a-f]{24}", cookie["name"])
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")

    sign_up(page, "Globex", "hank@globex.example")
    expect(page).to_have_url(f"{app_url}/dashboard")
    expect(page.locator("body")).to_contain_text("Globex")
    expect(page.locator("body")).to_contain_text(f"•••• •••• {marketplace.buyer.account_id[-4:]}")
    assert [cookie["name"] for cookie in context.cookies(app_url)] == ["session"]


@pytest.fixture
def https_only(settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETPLACE_HTTPS_ONLY", "true")


def test_the_cookie_for_https_only_comes_back_after_the_cross_site_post(
    https_only: None, page: Page, context: BrowserContext, storefront: str, app_url: str, marketplace: LocalMarketplace
) -> None:
    """Chromium takes 127.0.0.1 for as safe as HTTPS."""
    set_up_account(page, storefront, "new-product")
    expect(page.locator("body")).to_contain_text(f"•••• •••• {marketplace.buyer.account_id[-4:]}")
    [cookie] = context.cookies(app_url)
    assert cookie["name"].startswith("__Host-marketplace-")
    assert cookie["secure"] is True


def test_a_user_who_is_logged_in_still_is_after_arriving_and_is_asked_before_anything_is_linked(
    page: Page, storefront: str, app_url: str, marketplace: LocalMarketplace
) -> None:
    page.goto(f"{app_url}/signup")
    sign_up(page, "Initech", "bill@initech.example")
    expect(page).to_have_url(f"{app_url}/dashboard")
    masked = f"•••• •••• {marketplace.buyer.account_id[-4:]}"

    set_up_account(page, storefront, "new-product")
    expect(page).to_have_url(f"{app_url}/link")
    expect(page.locator("body")).to_contain_text(masked)

    page.goto(f"{app_url}/dashboard")
    expect(page.locator("body")).to_contain_text("Initech")
    expect(page.locator("body")).not_to_contain_text("agmt-")

    page.goto(f"{app_url}/link")
    page.get_by_role("button", name="Link this AWS account to Initech").click()
    expect(page).to_have_url(f"{app_url}/dashboard")
    expect(page.locator("body")).to_contain_text("agmt-")


def test_a_second_arrival_of_the_same_customer_goes_to_login(page: Page, storefront: str, app_url: str) -> None:
    set_up_account(page, storefront, "legacy-product")
    sign_up(page, "Umbrella", "alice@umbrella.example")
    page.get_by_role("button", name="Log out").click()

    set_up_account(page, storefront, "legacy-product")
    expect(page).to_have_url(f"{app_url}/login")
    page.get_by_label("E-mail").fill("alice@umbrella.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{app_url}/dashboard")


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
def test_each_failure_has_its_page(page: Page, storefront: str, scenario: str, heading: str) -> None:
    set_up_account(page, storefront, scenario)
    expect(page.get_by_role("heading", level=1)).to_have_text(heading)
    # The style sheet is let through by the page's own policy.
    assert page.locator("main").evaluate("element => getComputedStyle(element).borderRadius") == "16px"


def test_try_again_sends_the_token_once_more(page: Page, storefront: str, marketplace: LocalMarketplace) -> None:
    set_up_account(page, storefront, "throttled")
    calls = len(marketplace.resolve_calls)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert {call.scenario for call in marketplace.resolve_calls} == {"throttled"}
    assert len(marketplace.resolve_calls) == 2 * calls
