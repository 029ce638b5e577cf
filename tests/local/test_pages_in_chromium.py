"""The pages in a real browser: what happens is seen without a reload, and what is open stays open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, expect
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.types import Message, Receive, Scope, Send

from starlette_marketplace.local import SCENARIOS, LocalMarketplace
from tests.local.clients import Aws
from tests.local.readers import Reader
from tests.support.chromium import open_chromium
from tests.support.servers import serve


# Playwright keeps an event loop in this thread for as long as it runs, and the tests elsewhere start their own.
@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with open_chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def page(chromium: Chromium) -> Iterator[Page]:
    """A browser with JavaScript on, whose complaints, such as of the Content-Security-Policy, fail the test."""
    complaints: list[str] = []
    with closing(chromium.new_context()) as context:
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
    assert complaints == []


@pytest.fixture
def paper(chromium: Chromium) -> Iterator[Page]:
    """A browser with JavaScript off."""
    with closing(chromium.new_context(java_script_enabled=False)) as context:
        yield context.new_page()


def test_calls_appear_while_the_page_is_open_and_what_is_open_stays_open(
    marketplace: LocalMarketplace, url: str, aws: Aws, page: Page
) -> None:
    page.goto(f"{url}/activity")
    page.evaluate("window.isStillHere = true")
    expect(page.get_by_text("No call yet.")).to_be_visible()
    expect(page.locator("#status")).to_have_text("Watching, 0 calls so far")
    first, second = marketplace.issue_token("new-product"), marketplace.issue_token("free-trial")

    aws.resolve(first)
    expect(page.locator(".registrations > li")).to_have_count(1)
    expect(page.locator("#status")).to_have_text("Watching, 1 call so far")
    expect(page.get_by_text("No call yet.")).to_be_hidden()
    summary = page.locator(".calls summary")
    summary.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text(f'"{first[:6]}…{first[-4:]}"')).to_be_visible()

    # Another registration comes above, and leaves this one alone.
    kept = page.locator(".registrations > li").element_handle()
    aws.resolve(second)
    expect(page.locator("h2").nth(1)).to_have_text("Free trial")
    assert kept.evaluate("item => item.isConnected")
    expect(page.locator(".calls summary").nth(1)).to_be_focused()

    # This one changes, and moves to the top.
    aws.resolve(first)
    expect(page.locator("h2").nth(1)).to_have_text("New product")
    calls = page.locator(".registrations > li").first.locator("details")
    expect(calls).to_have_count(2)
    expect(calls.first).to_have_attribute("open", "")
    expect(calls.first.locator("summary")).to_be_focused()
    expect(calls.nth(1)).not_to_have_attribute("open", "")

    marketplace.reset()
    expect(page.locator(".registrations > li")).to_have_count(0)
    expect(page.get_by_text("No call yet.")).to_be_visible()
    assert page.evaluate("window.isStillHere") is True


def test_a_page_that_pauses_shows_nothing_new_until_it_goes_on(
    marketplace: LocalMarketplace, url: str, aws: Aws, page: Page
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.install()
    page.goto(f"{url}/activity")
    expect(page.locator("#status")).to_have_text("Watching, 0 calls so far")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#status")).to_have_text("Paused")
    aws.resolve(marketplace.issue_token("new-product"))
    del asked[:]

    page.clock.run_for(60_000)
    assert asked == []
    expect(page.locator(".registrations > li")).to_have_count(0)

    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(1_000)
    expect(page.locator(".registrations > li")).to_have_count(1)


def test_a_marketplace_that_went_away_is_said_and_waited_for(chromium: Chromium) -> None:
    with closing(chromium.new_context()) as context:
        page = context.new_page()
        with serve(LocalMarketplace()) as url:
            page.goto(f"{url}/activity")
            expect(page.locator("#status")).to_have_text("Watching, 0 calls so far")
        expect(page.locator("#status")).to_have_text("The marketplace does not answer; trying again")
        page.route("**/activity/registrations", lambda route: route.fulfill(status=500))
        expect(page.locator("#status")).to_have_text("The marketplace does not answer; trying again")
        page.unroute("**/activity/registrations")
        page.route("**/activity/registrations", lambda route: route.fulfill(status=304))
        expect(page.locator("#status")).to_have_text("Watching, 0 calls so far")


def test_everything_can_be_done_by_keyboard_and_without_script(
    marketplace: LocalMarketplace, url: str, aws: Aws, paper: Page
) -> None:
    address = url.replace("127.0.0.1", "localhost")
    company = marketplace.buyer.company

    paper.goto(address)
    for name in ("Buy again", "Shop as another buyer"):
        paper.get_by_role("button", name=name).first.focus()
        paper.keyboard.press("Enter")
        paper.wait_for_load_state()
    expect(paper.get_by_text("Go back to a buyer of before")).to_be_visible()
    paper.get_by_text("Go back to a buyer of before").click()
    paper.get_by_role("button", name=company).click()
    expect(paper.locator("#new-product").get_by_role("button", name="Set up your account")).to_have_count(2)

    paper.get_by_role("link", name="Activity").click()
    paper.locator("#conditions summary").focus()
    paper.keyboard.press("Enter")
    paper.get_by_label("Latency in milliseconds").fill("5")
    paper.keyboard.press("Enter")
    expect(paper.get_by_label("Latency in milliseconds")).to_have_value("5")
    expect(paper.get_by_text("5 ms latency")).to_be_visible()
    assert marketplace.delay == 0.005
    expect(paper.get_by_role("button", name="Pause")).to_be_hidden()
    aws.resolve(marketplace.issue_token("new-product"))
    paper.get_by_role("link", name="Look again").click()
    expect(paper.get_by_role("heading", name="New product")).to_be_visible()


@pytest.mark.parametrize("values", [(1e-9, 1 / 3, 0.5), (120, 1e-8, 1e6)], ids=str)
def test_whatever_a_control_shows_the_browser_sends(
    marketplace: LocalMarketplace, url: str, paper: Page, values: tuple[float, float, float]
) -> None:
    marketplace.delay, marketplace.error_rate, marketplace.token_life = values
    paper.goto(f"{url}/activity")
    paper.get_by_text("AWS today").click()

    with paper.expect_response("**/conditions") as response:
        paper.get_by_role("button", name="Set").click()

    assert response.value.status == 303
    assert (marketplace.delay, marketplace.error_rate, marketplace.token_life) == values


def test_another_site_can_lead_to_the_storefront_and_not_load_it_by_itself(
    marketplace: LocalMarketplace, paper: Page
) -> None:
    statuses: dict[bytes, int] = {}

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def look(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["path"] == "/":
                statuses[scope["query_string"]] = message["status"]
            await send(message)

        await marketplace(scope, receive, look)

    with serve(watched) as url:
        address = url.replace("127.0.0.1", "localhost")
        page = f'<a href="{address}/">Shop</a><img src="{address}/?image"><iframe src="{address}/?frame"></iframe>'
        with serve(HTMLResponse(page)) as site:
            paper.goto(site)
            paper.get_by_role("link", name="Shop").click()
            expect(paper.get_by_role("heading", name="Your subscriptions")).to_be_visible()

    assert statuses == {b"image": 403, b"frame": 403, b"": 200}


def test_the_focus_is_seen(url: str, paper: Page) -> None:
    for path in ("", "activity", "connect"):
        paper.goto(f"{url}/{path}")
        paper.keyboard.press("Tab")
        skip = paper.get_by_role("link", name="Skip to the content")
        expect(skip).to_be_focused()
        expect(skip).to_have_css("outline-style", "solid")
        expect(skip).to_be_in_viewport()


def address_of(marketplace: LocalMarketplace, url: str, path: str) -> str:
    """The address of a page; Manage is that of an agreement which has replaced another, with an advisory."""
    if path != "manage":
        return f"{url}/{path}"
    agreement = marketplace.buyer.agreements(SCENARIOS["new-product"])[0]
    marketplace.suspend(agreement.id)
    newest = marketplace.replace(agreement.id, "Team", new_license=True)
    return f"{url}/manage?agreement={newest.id}&done=replace"


@pytest.mark.parametrize("path", ["", "activity", "connect", "manage"])
def test_no_page_is_wider_than_a_phone(
    marketplace: LocalMarketplace, url: str, aws: Aws, page: Page, path: str
) -> None:
    marketplace.buy_again("new-product")
    aws.refusal(marketplace.issue_token("internal-error"))
    page.set_viewport_size({"width": 360, "height": 800})

    page.goto(address_of(marketplace, url, path))
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")

    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_link_to_the_conditions_opens_them(url: str, paper: Page) -> None:
    paper.goto(url)
    paper.get_by_role("link", name="Change").click()

    expect(paper.get_by_label("Latency in milliseconds")).to_be_visible()


@pytest.mark.parametrize("path", ["", "activity"])
def test_a_phone_shows_what_a_page_is_for_in_its_upper_half(
    marketplace: LocalMarketplace, url: str, aws: Aws, paper: Page, path: str
) -> None:
    marketplace.shop_as_another_buyer()
    aws.resolve(marketplace.issue_token("new-product"))
    paper.set_viewport_size({"width": 390, "height": 844})

    paper.goto(f"{url}/{path}")

    first = paper.locator("article").first.bounding_box()
    assert first
    assert first["y"] < 500
    if path == "":
        button = paper.get_by_role("button", name="Set up your account").first.bounding_box()
        assert button
        assert button["y"] + button["height"] <= 730


@pytest.mark.parametrize("width", [1280, 800])
def test_buttons_of_cards_side_by_side_stand_at_one_height(
    marketplace: LocalMarketplace, url: str, paper: Page, width: int
) -> None:
    marketplace.buy_again("new-product")
    paper.set_viewport_size({"width": width, "height": 900})
    paper.goto(url)
    tops: dict[float, set[float]] = {}

    for card in paper.locator(".cards article:visible").all():
        whole, button = card.bounding_box(), card.get_by_role("button").first.bounding_box()
        assert whole
        assert button
        tops.setdefault(whole["y"], set()).add(button["y"])

    assert len(tops) >= 5
    assert {len(heights) for heights in tops.values()} == {1}


def test_what_is_to_be_typed_can_be_copied(chromium: Chromium, url: str) -> None:
    with closing(chromium.new_context(permissions=["clipboard-read", "clipboard-write"])) as context:
        page = context.new_page()
        page.goto(f"{url}/connect")
        button = page.get_by_role("button", name="Copy").first
        button.click()

        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        expect(page.get_by_role("button", name="Copied")).to_have_count(0)
        assert page.evaluate("navigator.clipboard.readText()") == "starlette-marketplace local -- uvicorn acme:app"


def test_what_may_not_be_copied_is_selected(url: str, page: Page) -> None:
    page.add_init_script("navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed'))")
    page.goto(f"{url}/connect")
    page.get_by_role("button", name="Copy").first.click()

    expect(page.get_by_role("button", name="Selected")).to_be_visible()
    assert page.evaluate("String(getSelection())") == "starlette-marketplace local -- uvicorn acme:app"


def test_without_script_there_is_nothing_to_press_in_vain(url: str, paper: Page) -> None:
    paper.goto(f"{url}/connect")

    expect(paper.get_by_text("starlette-marketplace local -- uvicorn acme:app", exact=True)).to_be_visible()
    expect(paper.get_by_role("button")).to_have_count(0)


def test_a_subscription_is_bought_set_up_changed_and_cancelled_by_clicks_alone(
    marketplace: LocalMarketplace, url: str, aws: Aws, reader: Reader, paper: Page
) -> None:
    tokens: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        form = await Request(scope, receive).form()
        tokens.append(str(form["x-amzn-marketplace-token"]))
        await HTMLResponse("<h1>Welcome</h1>")(scope, receive, send)

    with serve(app) as app_url:
        marketplace.registration_url = f"{app_url}/register"
        paper.goto(url.replace("127.0.0.1", "localhost"))
        card = paper.locator("#new-product")
        card.get_by_role("button", name="Buy again").click()
        card.get_by_role("link", name="Manage").nth(1).click()
        paper.get_by_role("button", name="Set up your account").click()
        expect(paper.get_by_role("heading", name="Welcome")).to_be_visible()
        paper.go_back()

    agreement = marketplace.buyer.agreements(SCENARIOS["new-product"])[1]
    assert aws.resolve(tokens[0])["Metadata"]["AgreementId"] == agreement.id
    change = paper.get_by_role("form", name="Change the plan")
    change.get_by_label("Enterprise").check()
    change.get_by_role("button", name="Change the plan").click()
    expect(paper.get_by_role("status")).to_have_text("The plan was changed.")
    assert reader.entitled(agreement)["users"] == 500

    paper.get_by_role("button", name="Cancel").click()
    expect(paper.get_by_role("status")).to_have_text("The subscription was cancelled.")
    expect(paper.get_by_role("button", name="Cancel")).to_have_count(0)
    assert reader.describe(agreement.id)["status"] == "CANCELLED"
    paper.get_by_role("link", name="Subscribe anew on the storefront").click()
    expect(card.get_by_text("This subscription is over.")).to_have_count(1)


def test_a_plan_has_to_be_chosen_before_it_is_changed(marketplace: LocalMarketplace, url: str, paper: Page) -> None:
    agreement = marketplace.buyer.agreements(SCENARIOS["new-product"])[0]
    paper.goto(f"{url}/manage?agreement={agreement.id}")

    paper.get_by_role("button", name="Change the plan").click()

    assert paper.locator(":invalid").count() > 0
    assert paper.url.endswith(agreement.id)
    assert marketplace.agreement(agreement.id) == agreement


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_wrong_with_any_page(
    marketplace: LocalMarketplace,
    url: str,
    aws: Aws,
    chromium: Chromium,
    scheme: Literal["light", "dark"],
    width: int,
) -> None:
    aws.resolve(marketplace.issue_token("new-product"))
    aws.refusal(marketplace.issue_token("internal-error"))
    marketplace.cancel(marketplace.buyer.agreements(SCENARIOS["second-agreement"])[0].id)
    marketplace.issue_token("new-product")
    found: list[str] = []
    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True)
    with closing(context):
        page = context.new_page()
        for path in ("", "activity", "connect", "manage"):
            page.goto(address_of(marketplace, url, path))
            answer = Axe().run(page, options={"resultTypes": ["violations"]}).response
            found += [f"{path} {rule['id']}: {node['html']}" for rule in answer["violations"] for node in rule["nodes"]]
    assert found == []
