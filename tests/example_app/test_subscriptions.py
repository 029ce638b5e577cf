"""What the pages say of a subscription: the real boto3 asks the local marketplace on a socket."""

import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime

import anyio.to_thread
import httpx2
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.types import Receive, Scope, Send

from example_app.app import create_app
from example_app.models import Subscription
from starlette_marketplace.local import LocalMarketplace
from starlette_marketplace.local.reading_troubles import READING_TROUBLES
from tests.example_app.browser import Browser, facts
from tests.example_app.steps import agreement
from tests.support.servers import serve

pytestmark = pytest.mark.slow

GLOBEX = {"company": "Globex", "email": "hank@globex.example", "password": "correct horse"}
STARTER = {
    "Pricing": "Contract",
    "Plan": "Starter",
    "Users": "5",
    "Storage (TB)": "0.5",
    "Single sign-on": "Not included",
}
TEAM = STARTER | {"Plan": "Team", "Users": "25", "Storage (TB)": "2.5"}
ACTIVE, PENDING, ENDED, UNKNOWN = "Active", "Being prepared", "Ended", "Not known right now"


@pytest.fixture(autouse=True)
def settings(settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that keeps no answer of AWS, and asks once when AWS fails."""
    monkeypatch.setenv("MARKETPLACE_CACHE_TTL", "0")
    monkeypatch.setenv("MARKETPLACE_MAX_ATTEMPTS", "1")


def day(moment: datetime | None) -> str:
    assert moment is not None
    return f"{moment:%b} {moment.day}, {moment.year}"


def arrive_and_sign_up(browser: Browser, marketplace: LocalMarketplace, scenario: str) -> httpx2.Response:
    """Give the signup page."""
    browser.arrive(marketplace, scenario)
    page = browser.get("/signup")
    assert page.status_code == 200
    response = browser.submit(page, "/signup", **GLOBEX)
    assert (response.status_code, response.headers["location"]) == (303, "/dashboard")
    return page


def arrived(page: httpx2.Response) -> dict[str, str]:
    """What a page says of the subscription that the visitor has come with, apart from whose it is."""
    [found] = facts(page)
    return {term: words for term, words in found.items() if term not in ("Product", "AWS account", "Agreement")}


def linked(page: httpx2.Response) -> list[dict[str, str]]:
    """What the dashboard says of each subscription, newest first."""
    _, *found = facts(page)
    tags = re.findall('<span class="tag [a-z]*">([^<]*)</span>', page.text)
    return [{"Status": tag} | each for tag, each in zip(tags, found, strict=True)]


# What was bought


@pytest.mark.parametrize(
    ("scenario", "bought", "end"),
    [
        ("new-product", STARTER, "Renews on"),
        ("free-trial", STARTER, "Free trial until"),
        # There is no agreement of legacy products that could be asked whether it renews.
        ("legacy-product", {"Pricing": "Contract", "Reports": "10"}, "Paid until"),
        ("contract-with-consumption", {"Pricing": "Contract with consumption", "Pipelines": "3"}, "Renews on"),
        ("pay-as-you-go", {"Pricing": "Pay as you go"}, "Ends"),
        # A partner has sold it, and only the partner may read the agreement.
        ("agreement-access-denied", STARTER, "Paid until"),
        ("agreement-not-found", STARTER, "Paid until"),
        ("agreement-throttled", STARTER, "Paid until"),
        ("agreement-unknown-status", STARTER, "Renews on"),
        ("entitlements-several-pages", STARTER, "Renews on"),
    ],
)
def test_what_was_bought_and_until_when_is_shown_before_and_after_signing_up(
    browser: Browser, marketplace: LocalMarketplace, scenario: str, bought: dict[str, str], end: str
) -> None:
    page = arrive_and_sign_up(browser, marketplace, scenario)
    ends_at = marketplace.agreement().ends_at
    expected = {"Status": ACTIVE} | bought | {end: "When canceled" if ends_at is None else day(ends_at)}
    assert arrived(page) == expected
    assert linked(browser.get("/dashboard")) == [expected]


def test_the_form_of_the_browser_does_not_make_it_a_free_trial(browser: Browser, marketplace: LocalMarketplace) -> None:
    token = marketplace.issue_token("new-product")
    form = {"x-amzn-marketplace-token": token, "x-amzn-marketplace-offer-type": "free-trial"}
    browser.post("/marketplace/register", form)
    assert "Renews on" in arrived(browser.get("/signup"))
    assert "Free trial until" not in browser.get("/signup").text


def test_each_page_that_asks_what_to_do_with_a_subscription_shows_what_it_is(
    browser: Browser, marketplace: LocalMarketplace
) -> None:
    browser.arrive(marketplace, "new-product")
    expected = arrived(browser.get("/signup"))
    assert expected.items() >= STARTER.items()
    assert arrived(browser.submit(browser.get("/signup"), "/signup", **GLOBEX | {"email": "nobody"})) == expected
    assert arrived(browser.get("/login")) == expected
    assert arrived(browser.post("/login", {"email": "nobody", "password": "wrong"})) == expected

    browser.post("/signup", GLOBEX)
    link_page = browser.get("/link")
    assert arrived(link_page) == expected
    assert arrived(browser.submit(link_page, "/link", workspace_id="0")) == expected


def test_several_subscriptions_have_a_plan_each(browser: Browser, marketplace: LocalMarketplace) -> None:
    arrive_and_sign_up(browser, marketplace, "new-product")
    for scenario in ("second-agreement", "pay-as-you-go"):
        browser.arrive(marketplace, scenario)
        browser.submit(browser.get("/link"), "/link")
    marketplace.change_plan(agreement(marketplace, "second-agreement"), "Team")
    marketplace.cancel(agreement(marketplace, "pay-as-you-go"))
    usage, second, first = linked(browser.get("/dashboard"))
    assert usage == {"Status": ENDED, "Pricing": "Pay as you go"}
    assert second.items() >= ({"Status": ACTIVE} | TEAM).items()
    assert first.items() >= ({"Status": ACTIVE} | STARTER).items()


# What becomes of it


def test_another_plan_is_seen_at_the_next_reload(browser: Browser, marketplace: LocalMarketplace) -> None:
    arrive_and_sign_up(browser, marketplace, "new-product")
    ends_at = day(marketplace.agreement().ends_at)
    assert linked(browser.get("/dashboard")) == [{"Status": ACTIVE} | STARTER | {"Renews on": ends_at}]
    marketplace.change_plan(None, "Team")
    assert linked(browser.get("/dashboard")) == [{"Status": ACTIVE} | TEAM | {"Renews on": ends_at}]


@pytest.mark.parametrize(
    "scenario", ["new-product", "free-trial", "legacy-product", "contract-with-consumption", "pay-as-you-go"]
)
def test_what_is_canceled_has_ended_and_the_page_says_how_to_go_on(
    browser: Browser, marketplace: LocalMarketplace, scenario: str
) -> None:
    arrive_and_sign_up(browser, marketplace, scenario)
    assert linked(browser.get("/dashboard"))[0]["Status"] == ACTIVE
    marketplace.cancel()
    dashboard = browser.get("/dashboard")
    [plan] = linked(dashboard)
    assert plan.keys() == {"Status", "Pricing"}
    assert plan["Status"] == ENDED
    assert "Your data is kept." in dashboard.text
    assert "<strong>Manage subscriptions</strong>" in dashboard.text
    assert "Refresh" not in dashboard.headers


def test_what_was_canceled_before_the_buyer_came_has_ended(browser: Browser, marketplace: LocalMarketplace) -> None:
    browser.arrive(marketplace, "new-product")
    marketplace.cancel()
    page = browser.get("/signup")
    assert arrived(page) == {"Status": ENDED, "Pricing": "Contract"}
    assert "Your data is kept." not in page.text
    browser.submit(page, "/signup", **GLOBEX)
    assert linked(browser.get("/dashboard")) == [arrived(page)]


@pytest.mark.parametrize("scenario", ["new-product", "free-trial", "contract-with-consumption"])
def test_what_expires_has_ended_on_that_day(browser: Browser, marketplace: LocalMarketplace, scenario: str) -> None:
    arrive_and_sign_up(browser, marketplace, scenario)
    expired = marketplace.expire()
    [plan] = linked(browser.get("/dashboard"))
    assert (plan["Status"], plan["Ended on"]) == (ENDED, day(expired.ends_at))


def test_a_legacy_product_that_expires_may_still_renew_within_the_hour(
    browser: Browser, marketplace: LocalMarketplace
) -> None:
    arrive_and_sign_up(browser, marketplace, "legacy-product")
    marketplace.expire()
    assert linked(browser.get("/dashboard")) == [{"Status": ACTIVE, "Pricing": "Contract", "Reports": "10"}]


def test_a_renewal_goes_on_under_the_agreement_that_was_linked(browser: Browser, marketplace: LocalMarketplace) -> None:
    arrive_and_sign_up(browser, marketplace, "new-product")
    renewed = marketplace.renew()
    assert renewed.id != renewed.previous_id
    expected = {"Status": ACTIVE} | STARTER | {"Paid until": day(renewed.ends_at)}
    assert linked(browser.get("/dashboard")) == [expected]


def test_a_renewal_that_has_another_license_ends_nothing(browser: Browser, marketplace: LocalMarketplace) -> None:
    arrive_and_sign_up(browser, marketplace, "new-product")
    assert linked(browser.get("/dashboard"))[0]["Status"] == ACTIVE
    marketplace.renew(new_license=True)
    assert linked(browser.get("/dashboard")) == [{"Status": ACTIVE, "Pricing": "Contract"}]

    # The new license comes with the buyer.
    browser.arrive(marketplace, "new-product")
    browser.submit(browser.get("/link"), "/link")
    newest, _ = linked(browser.get("/dashboard"))
    assert newest.items() >= ({"Status": ACTIVE} | STARTER).items()


def test_an_offer_that_is_accepted_instead_is_what_is_shown(browser: Browser, marketplace: LocalMarketplace) -> None:
    arrive_and_sign_up(browser, marketplace, "new-product")
    replaced = marketplace.replace(None, "Team")
    assert linked(browser.get("/dashboard")) == [{"Status": ACTIVE} | TEAM | {"Paid until": day(replaced.ends_at)}]


def test_a_subscription_that_aws_prepares_is_looked_at_again_until_it_is_active(
    browser: Browser, marketplace: LocalMarketplace, database: Session
) -> None:
    page = arrive_and_sign_up(browser, marketplace, "not-yet-entitled")
    assert arrived(page) == {"Status": PENDING, "Pricing": "Contract"}
    # It would take along what has been typed.
    assert "Refresh" not in page.headers
    dashboard = browser.get("/dashboard")
    assert linked(dashboard) == [{"Status": PENDING, "Pricing": "Contract"}]
    assert "AWS is still preparing your subscription." in dashboard.text
    assert dashboard.headers["Refresh"] == "5"
    assert database.scalars(select(Subscription)).one().was_active is False

    marketplace.prepare()
    dashboard = browser.get("/dashboard")
    [plan] = linked(dashboard)
    assert plan.items() >= ({"Status": ACTIVE} | STARTER).items()
    assert "Refresh" not in dashboard.headers
    database.expire_all()
    assert database.scalars(select(Subscription)).one().was_active is True


# Days on which AWS cannot be asked


@pytest.mark.parametrize(
    "scenario", ["entitlements-throttled", "entitlements-internal-error", "entitlements-access-denied"]
)
def test_what_aws_does_not_tell_is_unknown_and_keeps_nobody_out(
    browser: Browser, marketplace: LocalMarketplace, scenario: str
) -> None:
    page = arrive_and_sign_up(browser, marketplace, scenario)
    assert arrived(page) == {"Status": UNKNOWN, "Pricing": "Contract"}
    dashboard = browser.get("/dashboard")
    assert dashboard.status_code == 200
    assert linked(dashboard) == [{"Status": UNKNOWN, "Pricing": "Contract"}]
    assert "We cannot ask AWS right now" in dashboard.text
    assert "Refresh" not in dashboard.headers


def test_no_trouble_keeps_a_page_from_being_shown(browser: Browser, marketplace: LocalMarketplace) -> None:
    for scenario in READING_TROUBLES:
        if "hanging" in scenario.slug:
            continue
        browser.arrive(marketplace, scenario.slug)
        page = browser.get("/signup")
        assert (scenario.slug, page.status_code) == (scenario.slug, 200)
        assert arrived(page)["Status"] in (ACTIVE, PENDING, UNKNOWN)
        browser.submit(page, "/decline")


@pytest.fixture
def nobody_listens(settings: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS is not there, except for the registration token."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MARKETPLACE_ENTITLEMENT_ENDPOINT_URL", url)
        monkeypatch.setenv("MARKETPLACE_AGREEMENT_ENDPOINT_URL", url)
        yield


@pytest.mark.parametrize("scenario", ["new-product", "legacy-product", "pay-as-you-go"])
def test_a_buyer_signs_up_while_aws_is_down(
    nobody_listens: None, browser: Browser, marketplace: LocalMarketplace, scenario: str
) -> None:
    assert arrived(arrive_and_sign_up(browser, marketplace, scenario))["Status"] == UNKNOWN
    assert linked(browser.get("/dashboard"))[0]["Status"] == UNKNOWN


@pytest.fixture
def impatience(settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAN_PATIENCE", "0.2")


def test_a_page_does_not_wait_for_aws_for_long(
    impatience: None, browser: Browser, marketplace: LocalMarketplace
) -> None:
    page = arrive_and_sign_up(browser, marketplace, "entitlements-hanging-headers")
    assert arrived(page)["Status"] == UNKNOWN
    assert linked(browser.get("/dashboard"))[0]["Status"] == UNKNOWN


class HeldAws:
    """Entitlements that come when a test says so."""

    def __init__(self, marketplace: LocalMarketplace) -> None:
        self._marketplace = marketplace
        self.called = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.called.set()
            await anyio.to_thread.run_sync(self.gate.wait, 60)
        await self._marketplace(scope, receive, send)


def test_no_connection_of_the_database_is_kept_while_aws_is_asked(
    marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = HeldAws(marketplace)
    with serve(aws) as aws_url:
        monkeypatch.setenv("MARKETPLACE_ENTITLEMENT_ENDPOINT_URL", aws_url)
        app = create_app()
        with serve(app) as app_url, closing(Browser(app_url)) as browser, ThreadPoolExecutor() as threads:
            arrive_and_sign_up(browser, marketplace, "new-product")
            browser.arrive(marketplace, "second-agreement")
            pool = app.state.sessions.kw["bind"].pool
            for path in ("/dashboard", "/link"):
                aws.called.clear()
                aws.gate.clear()
                page = threads.submit(browser.get, path)
                assert aws.called.wait(60)
                assert pool.checkedout() == 0
                aws.gate.set()
                assert page.result().status_code == 200
