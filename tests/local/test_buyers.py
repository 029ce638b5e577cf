import re

import httpx2
import pytest

from starlette_marketplace.local import SCENARIOS, LocalMarketplace
from tests.local.clients import Aws
from tests.local.pages import open_page


def test_buying_again_gives_a_second_license_and_agreement_of_the_same_account_and_product(
    marketplace: LocalMarketplace, url: str, aws: Aws
) -> None:
    (button,) = [form for form in open_page(url).forms_to("agreements") if form.scenario == "new-product"]

    response = button.submit(f"{url}/")

    assert [redirect.status_code for redirect in response.history] == [303]
    assert response.url == f"{url}/#new-product"
    first, second = (aws.resolve(form.token) for form in open_page(url).setup_forms("new-product"))
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == {"LicenseArn", "Metadata"}
    assert first == marketplace.buyer.identify(SCENARIOS["new-product"])


def test_every_agreement_is_listed_with_its_id_and_its_license_shortened(
    marketplace: LocalMarketplace, url: str
) -> None:
    marketplace.buy_again("new-product")

    text = open_page(url).text

    agreements = marketplace.buyer.agreements(SCENARIOS["new-product"])
    assert len(agreements) == 2
    for agreement in agreements:
        assert agreement.license_arn
        license_id = agreement.license_arn.rpartition(":")[2]
        assert agreement.id in text
        assert f"{license_id[:6]}…{license_id[-4:]}" in text
        assert license_id not in text


def test_a_legacy_product_has_a_customer_identifier_in_the_place_of_agreement_and_license(
    marketplace: LocalMarketplace, url: str, aws: Aws
) -> None:
    (agreement,) = marketplace.buyer.agreements(SCENARIOS["legacy-product"])

    assert f"Customer identifier{agreement.customer_identifier}" in open_page(url).text
    assert aws.resolve(marketplace.issue_token("legacy-product"))["CustomerIdentifier"] == agreement.customer_identifier
    assert (agreement.license_arn, agreement.short_license) == (None, None)


def test_setting_an_agreement_up_again_is_a_fresh_token_for_that_agreement(url: str, aws: Aws) -> None:
    (button,) = [form for form in open_page(url).forms_to("agreements") if form.scenario == "new-product"]
    button.submit(f"{url}/")

    first, again = (open_page(url).setup_forms("new-product") for _ in range(2))

    assert [form.token for form in first] != [form.token for form in again]
    assert [aws.resolve(form.token) for form in first] == [aws.resolve(form.token) for form in again]


def test_a_token_can_be_issued_for_each_agreement(marketplace: LocalMarketplace, aws: Aws) -> None:
    first = marketplace.issue_token("new-product")
    agreement = marketplace.buy_again("new-product")

    assert aws.resolve(marketplace.issue_token("new-product", agreement=agreement)) == agreement.identity
    assert aws.resolve(marketplace.issue_token("new-product")) == aws.resolve(first) != agreement.identity


def test_only_subscriptions_to_products_with_licenses_that_are_no_trial_can_be_bought_again(url: str) -> None:
    forms = open_page(url).forms_to("agreements")

    assert [form.fields["scenario"] for form in forms] == [
        "new-product",
        "second-agreement",
        "contract-with-consumption",
        "pay-as-you-go",
    ]


@pytest.mark.parametrize("scenario", ["legacy-product", "free-trial", "slow", "old-product", ""])
def test_nothing_else_can_be_bought_again_by_a_form_of_somebodys_own(
    marketplace: LocalMarketplace, url: str, scenario: str
) -> None:
    response = httpx2.post(f"{url}/agreements", data={"scenario": scenario})

    assert response.status_code == 400
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert repr(scenario) in response.text
    if scenario in SCENARIOS:
        assert len(marketplace.buyer.agreements(SCENARIOS[scenario])) == 1


def test_ten_agreements_are_enough(marketplace: LocalMarketplace, url: str) -> None:
    for _ in range(9):
        marketplace.buy_again("new-product")

    assert [form.fields["scenario"] for form in open_page(url).forms_to("agreements")] == [
        "second-agreement",
        "contract-with-consumption",
        "pay-as-you-go",
    ]
    with pytest.raises(ValueError, match="'new-product' cannot be bought again"):
        marketplace.buy_again("new-product")
    assert len(marketplace.buyer.agreements(SCENARIOS["new-product"])) == 10


def test_shopping_as_another_buyer_leads_back_to_the_page_of_that_buyer(
    marketplace: LocalMarketplace, url: str, aws: Aws
) -> None:
    account_id = marketplace.buyer.account_id
    (button,) = open_page(url).forms_to("buyer")

    response = button.submit(f"{url}/")

    assert [redirect.status_code for redirect in response.history] == [303]
    assert response.url == f"{url}/"
    page = open_page(url)
    assert marketplace.buyer.account_id != account_id
    assert re.findall(r"\b\d{12}\b", page.text) == [marketplace.buyer.account_id]
    assert aws.resolve(page.form("new-product").token)["CustomerAWSAccountId"] == marketplace.buyer.account_id


def test_a_buyer_of_before_can_be_gone_back_to_and_still_has_every_agreement(
    marketplace: LocalMarketplace, url: str, aws: Aws
) -> None:
    buyer = marketplace.buyer
    marketplace.buy_again("new-product")
    before = [aws.resolve(form.token) for form in open_page(url).setup_forms("new-product")]
    marketplace.shop_as_another_buyer()
    marketplace.shop_as_another_buyer()
    *_, first_of_all = open_page(url).forms_to("buyer")
    assert f"{buyer.company} …{buyer.account_id[-4:]}" in first_of_all.text

    response = first_of_all.submit(f"{url}/")

    assert [redirect.status_code for redirect in response.history] == [303]
    assert marketplace.buyer is buyer
    page = open_page(url)
    assert [aws.resolve(form.token) for form in page.setup_forms("new-product")] == before
    assert len(page.forms_to("buyer")) == 3, "one is new, two were there before"


def test_eight_buyers_are_kept_and_no_two_have_the_same_name(marketplace: LocalMarketplace, url: str) -> None:
    forgotten = marketplace.buyer.account_id
    names = [marketplace.buyer.company]
    for _ in range(8):
        marketplace.shop_as_another_buyer()
        names.append(marketplace.buyer.company)

    _, *others = open_page(url).forms_to("buyer")
    response = httpx2.post(f"{url}/buyer", data={"account_id": forgotten})

    shown = [form.text.split("…")[0].strip() for form in others]
    assert shown == names[-2:-9:-1]
    assert len(set(names[1:])) == 8
    assert response.status_code == 404
    assert response.text == "This buyer is no longer kept: go back and reload the page.\n"
    assert marketplace.buyer.company == names[-1]


def test_a_file_in_the_place_of_an_account_is_no_account(marketplace: LocalMarketplace, url: str) -> None:
    account_id = marketplace.buyer.account_id

    assert httpx2.post(f"{url}/buyer", files={"account_id": b"1"}).status_code == 303
    assert marketplace.buyer.account_id != account_id


def test_reset_forgets_the_buyers_of_before(marketplace: LocalMarketplace, url: str) -> None:
    marketplace.shop_as_another_buyer()

    marketplace.reset()

    assert len(open_page(url).forms_to("buyer")) == 1
