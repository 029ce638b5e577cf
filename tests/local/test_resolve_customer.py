import re
from collections.abc import Callable

import pytest

from starlette_marketplace.local import PRODUCT_CODES, SCENARIOS, LocalMarketplace, ResolveCall, Scenario
from starlette_marketplace.local.clocks import wall_clock
from starlette_marketplace.local.ledger import Ledger
from starlette_marketplace.local.metering import Metering
from starlette_marketplace.local.reading_troubles import READING_TROUBLES
from starlette_marketplace.local.tokens import TokenStore
from starlette_marketplace.local.wire import AwsRequest
from tests.local.clients import Aws, ask_patiently, body_of
from tests.local.timers import Timer
from tests.support.sockets import answer_on, connect


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


def test_a_second_agreement_is_the_same_account_and_product_with_another_license(
    marketplace: LocalMarketplace, aws: Aws
) -> None:
    first, second = (aws.resolve(marketplace.issue_token(name)) for name in ("new-product", "second-agreement"))

    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == {"LicenseArn", "Metadata"}


def test_the_product_of_another_seller_resolves_to_a_product_code_that_is_not_the_sellers(
    marketplace: LocalMarketplace, aws: Aws
) -> None:
    answer = aws.resolve(marketplace.issue_token("wrong-product"))

    assert answer["ProductCode"] == "someoneelse"
    assert PRODUCT_CODES == ("acmeanalytics", "acmelegacy", "acmepipelines", "acmegateway")


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
        ("internal-error", ("InternalServiceErrorException", 500, "An internal error has occurred")),
        ("disabled-api", ("DisabledApiException", 400, "The API is disabled in the Region")),
        (
            "access-denied",
            (
                "AccessDeniedException",
                400,
                "User: arn:aws:iam::444455556666:user/acme is not authorized to perform: "
                "aws-marketplace:ResolveCustomer because no identity-based policy allows the "
                "aws-marketplace:ResolveCustomer action",
            ),
        ),
        (
            "invalid-signature",
            (
                "InvalidSignatureException",
                400,
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method. Consult the service documentation for details.",
            ),
        ),
        (
            "unrecognized-client",
            ("UnrecognizedClientException", 400, "The security token included in the request is invalid."),
        ),
        ("namespaced-error", ("ExpiredTokenException", 400, "The submitted registration token has expired")),
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


def test_a_new_license_is_missing_from_the_first_answer_for_each_token_and_from_no_other(
    marketplace: LocalMarketplace, aws: Aws
) -> None:
    for _ in range(2):
        token = marketplace.issue_token("no-license-yet")
        first, second, third = (aws.resolve(token) for _ in range(3))

        assert second == third
        assert second["LicenseArn"].startswith("arn:aws:license-manager::")
        assert first == {name: value for name, value in second.items() if name != "LicenseArn"}
        assert first["Metadata"]["AgreementId"].startswith("agmt-")


def test_a_refused_call_is_no_first_answer(marketplace: LocalMarketplace, url: str, aws: Aws) -> None:
    token = marketplace.issue_token("no-license-yet")
    with Aws(url, signed=False) as anonymous:
        anonymous.refusal(token)

    assert "LicenseArn" not in aws.resolve(token)


def test_a_slow_answer_is_a_good_one_after_three_seconds_and_the_delay_of_every_call(
    marketplace: LocalMarketplace,
) -> None:
    marketplace.delay = 2

    answer, seconds = ask_patiently(marketplace, marketplace.issue_token("slow"))

    assert answer is not None
    assert answer.json()["LicenseArn"]
    assert seconds == pytest.approx(5)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_scenario_resolves_if_aws_ends_up_naming_the_account_the_product_and_an_agreement(
    marketplace: LocalMarketplace, scenario: Scenario
) -> None:
    token = marketplace.issue_token(scenario.slug)
    _, (answer, _) = ask_patiently(marketplace, token), ask_patiently(marketplace, token)

    try:
        members = {name for name, value in answer.json().items() if value} if answer else set()
    except ValueError:
        members = set()
    named = members >= {"CustomerAWSAccountId", "ProductCode"} and not members.isdisjoint(
        {"LicenseArn", "CustomerIdentifier"}
    )
    assert named == scenario.resolves


def test_the_scenarios_that_resolve_are_known(marketplace: LocalMarketplace) -> None:
    assert {slug for slug, scenario in SCENARIOS.items() if scenario.resolves} == {
        "new-product",
        "free-trial",
        "legacy-product",
        "second-agreement",
        "contract-with-consumption",
        "pay-as-you-go",
        "wrong-product",
        "no-license-yet",
        "slow",
        *(scenario.slug for scenario in READING_TROUBLES),
    }


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


@pytest.mark.parametrize("size", [1_000_000, 10**12])
def test_a_call_that_is_too_long_is_refused_unread(url: str, marketplace: LocalMarketplace, size: int) -> None:
    with connect(url) as connection:
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
        connection.sendall(head.encode())
        assert answer_on(connection).startswith("HTTP/1.1 413 ")
    assert marketplace.resolve_calls == []


def test_a_call_that_does_not_say_how_long_it_is_is_refused(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert answer_on(connection).startswith("HTTP/1.1 413 ")


def test_a_token_that_is_forgotten_while_its_call_is_answered_is_invalid() -> None:
    timer = Timer()
    ledger, tokens = Ledger(1, wall_clock, timer), TokenStore(1, timer)
    token = tokens.issue(SCENARIOS["new-product"], ledger.buy("123456789012", SCENARIOS["new-product"]))
    conditions = LocalMarketplace().conditions
    (operation,) = Metering(tokens, ledger, conditions, timer).operations
    question = operation.read(AwsRequest.read({}, body_of(token)))

    tokens.clear()

    response, remark = question.answer()
    assert response.status_code == 400
    assert remark == "This marketplace has not issued the token, or has forgotten it."
