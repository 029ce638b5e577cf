import re

import httpx2
import pytest

from starlette_marketplace.local import SCENARIOS, LocalMarketplace, Scenario
from tests.local.clients import Aws, ask_patiently
from tests.local.pages import TOKEN, Page, open_page
from tests.support.servers import serve

SUBSCRIPTIONS = [
    "new-product",
    "free-trial",
    "legacy-product",
    "second-agreement",
    "contract-with-consumption",
    "pay-as-you-go",
]
TROUBLES = [
    "wrong-product",
    "expired",
    "invalid",
    "no-license-yet",
    "slow",
    "throttled",
    "internal-error",
    "disabled-api",
    "expired-credentials",
]
RARE_TROUBLES = [
    "access-denied",
    "invalid-signature",
    "unrecognized-client",
    "namespaced-error",
    "html-503",
    "not-json",
    "empty-answer",
    "hanging-headers",
    "hanging-body",
    "no-account-id",
    "no-product-code",
    "nulls",
    "empty-strings",
]
READING_TROUBLES = [
    "not-yet-entitled",
    "entitlements-throttled",
    "entitlements-internal-error",
    "entitlements-access-denied",
    "entitlements-invalid-parameter",
    "entitlements-html-503",
    "entitlements-not-json",
    "entitlements-empty-answer",
    "entitlements-hanging-headers",
    "entitlements-hanging-body",
    "entitlements-other-license",
    "entitlements-other-account",
    "entitlements-other-product",
    "entitlements-several-pages",
    "entitlements-empty-pages",
    "entitlements-no-value",
    "entitlements-nulls",
    "entitlements-unknown-type",
    "agreement-access-denied",
    "agreement-not-found",
    "agreement-throttled",
    "agreement-internal-error",
    "agreement-invalid",
    "agreement-html-503",
    "agreement-hanging-headers",
    "agreement-unknown-status",
    "agreement-nulls",
    "agreement-no-members",
]


def test_subscriptions_come_first_and_then_everything_that_goes_wrong_the_rarer_failures_folded(url: str) -> None:
    page = open_page(url)

    shown = [(form.scenario, form.folded) for form in page.forms if TOKEN in form.fields]
    assert shown == [
        *((slug, False) for slug in SUBSCRIPTIONS + TROUBLES),
        *((slug, True) for slug in RARE_TROUBLES + READING_TROUBLES),
    ]
    assert [slug for slug, _ in shown] == list(SCENARIOS)
    sections = ("Your subscriptions", "When things go wrong", "Rarer failures", "Failures after the registration")
    headings = [page.text.index(text) for text in sections]
    assert headings == sorted(headings)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_card_says_what_is_for_sale_by_whom_and_what_will_happen(url: str, scenario: Scenario) -> None:
    text = open_page(url).text

    assert scenario.summary.count(". ") == 0
    assert scenario.summary.endswith(".")
    for shown in (scenario.title, scenario.summary, scenario.product.name, scenario.product.vendor):
        assert shown in text


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_button_posts_a_fresh_token_of_its_scenario(marketplace: LocalMarketplace, url: str, scenario: str) -> None:
    first, second = (open_page(url).form(scenario) for _ in range(2))

    for form in (first, second):
        assert form.method == "post"
        assert form.action == "http://127.0.0.1:8000/marketplace/register"
        ask_patiently(marketplace, form.token)
    assert first.fields[TOKEN] != second.fields[TOKEN]
    assert [call.scenario for call in marketplace.resolve_calls] == [scenario, scenario]


def test_only_the_free_trial_says_so_in_its_form(url: str) -> None:
    page = open_page(url)

    for scenario in SCENARIOS:
        names = [TOKEN, "x-amzn-marketplace-offer-type"] if scenario == "free-trial" else [TOKEN]
        assert list(page.form(scenario).fields) == names
    assert page.form("free-trial").fields["x-amzn-marketplace-offer-type"] == "free-trial"


def test_every_view_has_fresh_tokens_of_the_same_agreement(url: str, aws: Aws) -> None:
    first, second = (open_page(url).form("new-product").token for _ in range(2))

    assert first != second
    assert aws.resolve(first) == aws.resolve(second)


def test_the_page_shows_who_is_shopping(marketplace: LocalMarketplace, url: str) -> None:
    text = open_page(url).text

    assert marketplace.buyer.company in text
    assert re.findall(r"\b\d{12}\b", text) == [marketplace.buyer.account_id]


def test_the_registration_url_is_the_target_and_cannot_break_out_of_the_page() -> None:
    registration_url = 'https://seller.example/register?a=1&b="><script>'

    with serve(LocalMarketplace(registration_url)) as url:
        page = open_page(url)

    assert {form.action for form in page.forms if TOKEN in form.fields} == {registration_url}
    assert "script" not in page.tags


def test_the_page_says_what_it_is_and_takes_nothing_from_elsewhere(url: str) -> None:
    response = httpx2.get(url)
    page = Page(response.text)

    assert "This is the local marketplace, a stand-in for AWS Marketplace on this machine." in page.text
    assert page.tags.isdisjoint({"script", "iframe", "img"})
    icon, stylesheet = page.loads
    assert icon.startswith("data:")
    assert stylesheet == "static/storefront.css"
    assert httpx2.get(f"{url}/{stylesheet}").headers["content-type"] == "text/css; charset=utf-8"


def test_the_page_is_not_kept_and_not_framed_because_it_holds_tokens(url: str) -> None:
    headers = httpx2.get(url).headers

    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_the_form_that_is_posted_is_shown_with_its_token_shortened(marketplace: LocalMarketplace, url: str) -> None:
    page = open_page(url)

    for scenario, shown in zip(SCENARIOS, page.preformatted, strict=True):
        token = page.form(scenario).token
        trial = "x-amzn-marketplace-offer-type = free-trial\n" if scenario == "free-trial" else ""
        assert shown == (
            f"POST {marketplace.registration_url}\n"
            "Content-Type: application/x-www-form-urlencoded\n"
            "\n"
            f"{TOKEN} = {token[:6]}…{token[-4:]}\n"
            f"{trial}"
        )
        assert token not in page.text


def test_there_is_one_headline_and_a_headline_over_each_card(url: str) -> None:
    headings = open_page(url).headings

    assert headings == ["h1"] + ["h2"] * 6 + ["h2"] + ["h3"] * 9 + ["h2"] + ["h3"] * 13 + ["h2"] + ["h3"] * 28


def test_the_page_says_how_aws_behaves_today(marketplace: LocalMarketplace, url: str) -> None:
    assert "no latency\n" in open_page(url).text
    assert "no errors by chance\n" in open_page(url).text
    assert "tokens do not expire\n" in open_page(url).text

    marketplace.delay, marketplace.error_rate, marketplace.token_life = 0.25, 0.07, 60

    assert "250 ms latency\n" in open_page(url).text
    assert "7 % errors\n" in open_page(url).text
    assert "tokens live 60 s\n" in open_page(url).text


def test_a_card_shows_plan_and_status_at_a_glance(marketplace: LocalMarketplace, url: str) -> None:
    marketplace.change_plan(marketplace.buyer.agreements(SCENARIOS["new-product"])[0].id, "Team")

    text = " ".join(open_page(url).text.split())

    assert "Team plan ACTIVE Agreement" in text
    assert "Basic plan ACTIVE Customer identifier" in text
    assert "Standard plan ACTIVE" in text
    assert "Billed by use ACTIVE" in text
