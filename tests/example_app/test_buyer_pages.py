"""The package's own pages, and the app's around them, on a phone and a screen, light and dark, to people and to axe."""

from collections.abc import Iterator
from contextlib import closing
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, Route, expect

from starlette_marketplace.local import LocalMarketplace
from tests.example_app.steps import agreement, link_to, set_up_account, sign_up

LANDING = "/marketplace/register"
# One of each kind: with steps to a fresh link, with Try again, and for another product.
FAILURES = {
    "expired": "This link has expired",
    "throttled": "AWS Marketplace did not answer in time",
    "wrong-product": "This subscription is for another product",
}


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> Literal["light", "dark"]:
    scheme: Literal["light", "dark"] = request.param
    return scheme


@pytest.fixture(params=[320, 1280])
def any_page(chromium: Chromium, scheme: Literal["light", "dark"], request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of one of the widths and colour schemes; axe is a script."""
    context = chromium.new_context(
        color_scheme=scheme, viewport={"width": request.param, "height": 800}, is_mobile=request.param < 600
    )
    with closing(context):
        context.set_default_timeout(30_000)
        yield context.new_page()


def problems(page: Page) -> list[str]:
    """What axe-core complains of, or cannot decide."""
    found = Axe().run(page, options={"resultTypes": ["violations", "incomplete"]}).response
    return [
        f"{rule['id']}: {node['html']}"
        for rule in (*found["violations"], *found["incomplete"])
        for node in rule["nodes"]
    ]


def expect_it_fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def expect_the_logo(page: Page) -> None:
    """It has come through the page's own policy."""
    assert page.locator("img.logo").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


@pytest.mark.parametrize(("scenario", "heading"), FAILURES.items())
def test_a_failure_can_be_read_everywhere(any_page: Page, storefront: str, scenario: str, heading: str) -> None:
    set_up_account(any_page, storefront, scenario)
    expect(any_page.get_by_role("heading", level=1)).to_have_text(heading)
    expect(any_page).to_have_title(f"{heading} - Acme Analytics")
    expect_the_logo(any_page)
    expect_it_fits(any_page)
    assert problems(any_page) == []


def test_the_page_for_visitors_can_be_read_everywhere(any_page: Page, app_url: str) -> None:
    any_page.goto(app_url + LANDING)
    expect(any_page.get_by_text("subscriptions to Acme Analytics")).to_be_visible()
    expect_the_logo(any_page)
    expect_it_fits(any_page)
    assert problems(any_page) == []


def test_the_signup_page_of_the_example_app_can_be_read_everywhere(any_page: Page, storefront: str) -> None:
    set_up_account(any_page, storefront, "new-product")
    expect(any_page.get_by_label("Work e-mail")).to_be_visible()
    expect_it_fits(any_page)
    assert problems(any_page) == []


@pytest.fixture
def asks_anew(settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKETPLACE_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("MARKETPLACE_CACHE_TTL", "0")


def without_refresh(route: Route) -> None:
    response = route.fetch()
    assert response.headers["refresh"] == "5"
    headers = {name: value for name, value in response.headers.items() if name != "refresh"}
    route.fulfill(response=response, headers=headers)


def test_the_dashboard_of_the_example_app_can_be_read_everywhere(
    asks_anew: None, any_page: Page, storefront: str, app_url: str, marketplace: LocalMarketplace
) -> None:
    set_up_account(any_page, storefront, "new-product")
    sign_up(any_page, "Globex", "hank@globex.example")
    for scenario in ("free-trial", "not-yet-entitled", "entitlements-throttled", "pay-as-you-go"):
        set_up_account(any_page, storefront, scenario)
        link_to(any_page, "Globex")
        expect(any_page).to_have_url(f"{app_url}/dashboard")
    marketplace.cancel(agreement(marketplace, "pay-as-you-go"))
    # It would load itself again while axe looks at it.
    any_page.route("**/dashboard", without_refresh)
    any_page.goto(f"{app_url}/dashboard")
    for tag in ("Active", "Being prepared", "Ended", "Not known right now"):
        expect(any_page.locator(".rows .tag").get_by_text(tag).first).to_be_visible()
    expect_it_fits(any_page)
    assert problems(any_page) == []


def test_try_again_and_support_are_reached_by_keyboard_in_the_order_of_the_page(
    scripted_page: Page, storefront: str
) -> None:
    set_up_account(scripted_page, storefront, "throttled")
    expect(scripted_page.get_by_role("heading", level=1)).to_have_text(FAILURES["throttled"])
    for role, name in (("button", "Try again"), ("link", "support@acme.example")):
        scripted_page.keyboard.press("Tab")
        expect(scripted_page.locator(":focus")).to_have_accessible_name(name)
        expect(scripted_page.locator(":focus")).to_have_role(role)  # type: ignore[arg-type]


def test_axe_finds_what_is_wrong(scripted_page: Page) -> None:
    scripted_page.set_content("<html><body><h1></h1><img src='x'><p style='color: #aaa; background: #bbb'>faint</p>")
    found = "\n".join(problems(scripted_page))
    for rule in ("html-has-lang", "image-alt", "color-contrast"):
        assert f"{rule}: " in found
