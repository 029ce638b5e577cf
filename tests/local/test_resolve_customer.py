import re
from collections.abc import Callable

import pytest

from starlette_marketplace.local import PRODUCT_CODES, LocalMarketplace, ResolveCall
from tests.local.clients import Aws


@pytest.mark.parametrize("scenario", ["new-product", "free-trial"])
def test_a_buyer_of_a_new_product_has_a_license_and_no_customer_identifier(
    marketplace: LocalMarketplace, aws: Aws, scenario: str
) -> None:
    answer = aws.resolve(marketplace.issue_token(scenario))

    license_arn = answer.pop("LicenseArn")
    agreement_id = answer.pop("Metadata")["AgreementId"]
    assert answer == {"CustomerAWSAccountId": marketplace.buyer.account_id, "ProductCode": "acmeanalytics"}
    issuer = re.fullmatch(r"arn:aws:license-manager::(\d{12}):license:l-[0-9a-f]{32}", license_arn)
    assert issuer
    assert issuer[1] != marketplace.buyer.account_id
    assert re.fullmatch(r"agmt-[a-z0-9]{24}", agreement_id)


def test_a_buyer_of_a_legacy_product_has_a_customer_identifier_and_no_license(
    marketplace: LocalMarketplace, aws: Aws
) -> None:
    answer = aws.resolve(marketplace.issue_token("legacy-product"))

    assert re.fullmatch(r"[A-Za-z0-9]{11}", answer.pop("CustomerIdentifier"))
    assert answer == {"CustomerAWSAccountId": marketplace.buyer.account_id, "ProductCode": "acmelegacy"}


def test_the_product_of_another_seller_resolves_to_a_product_code_that_is_not_the_sellers(
    marketplace: LocalMarketplace, aws: Aws
) -> None:
    answer = aws.resolve(marketplace.issue_token("wrong-product"))

    assert answer["ProductCode"] == "someoneelse"
    assert PRODUCT_CODES == ("acmeanalytics", "acmelegacy")


@pytest.mark.parametrize(
    ("scenario", "refusal"),
    [
        ("expired", ("ExpiredTokenException", 400, "The submitted registration token has expired")),
        ("invalid", ("InvalidTokenException", 400, "Registration token is invalid")),
        ("throttled", ("ThrottlingException", 400, "Rate exceeded")),
        (
            "expired-credentials",
            ("ExpiredTokenException", 403, "The security token included in the request is expired"),
        ),
    ],
)
def test_a_scenario_that_fails_is_refused_as_aws_refuses_it(
    marketplace: LocalMarketplace, aws: Aws, scenario: str, refusal: tuple[str, int, str]
) -> None:
    assert aws.refusal(marketplace.issue_token(scenario)) == refusal


@pytest.mark.parametrize("damage", [lambda token: token[:-1], lambda token: token.replace("+", " ")])
def test_a_token_that_was_never_issued_is_invalid(
    marketplace: LocalMarketplace, aws: Aws, damage: Callable[[str], str]
) -> None:
    token = damage(marketplace.issue_token("new-product"))

    assert aws.refusal(token) == ("InvalidTokenException", 400, "Registration token is invalid")


def test_a_token_resolves_to_the_same_identity_again_and_again(marketplace: LocalMarketplace, aws: Aws) -> None:
    token = marketplace.issue_token("new-product")

    assert aws.resolve(token) == aws.resolve(token)


def test_setting_the_same_product_up_again_gives_a_fresh_token_for_the_same_agreement(
    marketplace: LocalMarketplace, aws: Aws
) -> None:
    first, second = marketplace.issue_token("new-product"), marketplace.issue_token("new-product")

    assert first != second
    assert aws.resolve(first) == aws.resolve(second)


def test_another_buyer_is_another_account_with_another_agreement(marketplace: LocalMarketplace, aws: Aws) -> None:
    company = marketplace.buyer.company
    token = marketplace.issue_token("new-product")
    before = aws.resolve(token)

    marketplace.shop_as_another_buyer()

    after = aws.resolve(marketplace.issue_token("new-product"))
    assert marketplace.buyer.company != company
    assert after["CustomerAWSAccountId"] == marketplace.buyer.account_id != before["CustomerAWSAccountId"]
    assert after["LicenseArn"] != before["LicenseArn"]
    assert aws.resolve(token) == before


def test_every_call_is_recorded_without_its_token(marketplace: LocalMarketplace, aws: Aws) -> None:
    aws.resolve(marketplace.issue_token("new-product"))
    aws.refusal(marketplace.issue_token("expired-credentials"))
    aws.refusal("never issued")

    assert marketplace.resolve_calls == [
        ResolveCall("new-product", 200),
        ResolveCall("expired-credentials", 403),
        ResolveCall(None, 400),
    ]
