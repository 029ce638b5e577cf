import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_marketplace.local import Agreement, LocalMarketplace
from starlette_marketplace.local.clocks import monotonic, wall_clock
from starlette_marketplace.local.entitlements import EntitlementService
from starlette_marketplace.local.ledger import Ledger
from starlette_marketplace.local.scenarios import SCENARIOS
from starlette_marketplace.local.wire import AwsRequest
from tests.local.clients import Aws
from tests.local.readers import GET_ENTITLEMENTS, Reader, check_shape, epoch, in_utc, post, quantity_of, refusal


def bought(marketplace: LocalMarketplace, *scenarios: str) -> list[Agreement]:
    for scenario in scenarios:
        marketplace.issue_token(scenario)
    return [marketplace.buyer.agreements(SCENARIOS[scenario])[0] for scenario in scenarios]


def test_a_contract_is_read_by_its_license_and_has_each_type_of_value(
    marketplace: LocalMarketplace, aws: Aws, reader: Reader
) -> None:
    customer = aws.resolve(marketplace.issue_token("new-product"))

    rows = reader.rows(customer["ProductCode"], LICENSE_ARN=[customer["LicenseArn"]])

    (agreement,) = bought(marketplace, "new-product")
    assert agreement.ends_at
    for row in rows:
        assert in_utc(row.pop("ExpirationDate")) == agreement.ends_at
        assert row.pop("LicenseArn") == customer["LicenseArn"]
        assert row.pop("CustomerAWSAccountId") == customer["CustomerAWSAccountId"]
        assert row.pop("ProductCode") == "acmeanalytics"
    assert rows == [
        {"Dimension": "users", "Value": {"IntegerValue": 5}},
        {"Dimension": "sso", "Value": {"BooleanValue": False}},
        {"Dimension": "tier", "Value": {"StringValue": "starter"}},
        {"Dimension": "storage_tb", "Value": {"DoubleValue": 0.5}},
    ]
    assert (type(quantity_of(rows[0])), type(quantity_of(rows[3]))) == (int, float)


@pytest.mark.parametrize(
    "form",
    ["{}", "aws:license-manager:us-east-1:111122223333:{1}", "arn:aws-cn:license-manager::444455556666:license:{1}"],
)
def test_a_license_is_known_by_its_end_in_every_form_that_aws_prints(
    marketplace: LocalMarketplace, reader: Reader, form: str
) -> None:
    agreement, other = bought(marketplace, "new-product", "second-agreement")
    license_arn = agreement.license_arn or ""

    rows = reader.rows(LICENSE_ARN=[form.format(license_arn, license_arn.rpartition(":")[2])])

    assert {row["LicenseArn"] for row in rows} == {license_arn} != {other.license_arn}


def test_a_legacy_product_is_read_by_customer_identifier_or_account_and_has_no_license(
    marketplace: LocalMarketplace, aws: Aws, reader: Reader
) -> None:
    customer = aws.resolve(marketplace.issue_token("legacy-product"))

    rows = reader.rows("acmelegacy", CUSTOMER_IDENTIFIER=[customer["CustomerIdentifier"]])

    assert rows == reader.rows("acmelegacy", CUSTOMER_AWS_ACCOUNT_ID=[customer["CustomerAWSAccountId"]])
    (row,) = rows
    del row["ExpirationDate"]
    assert row == {
        "ProductCode": "acmelegacy",
        "Dimension": "reports",
        "CustomerIdentifier": customer["CustomerIdentifier"],
        "CustomerAWSAccountId": customer["CustomerAWSAccountId"],
        "Value": {"IntegerValue": 10},
    }


def test_a_contract_with_consumption_has_what_was_paid_in_advance(
    marketplace: LocalMarketplace, reader: Reader
) -> None:
    (agreement,) = bought(marketplace, "contract-with-consumption")

    assert reader.entitled(agreement) == {"pipelines": 3}


def test_pay_as_you_go_never_has_entitlements_and_then_the_key_is_missing(
    marketplace: LocalMarketplace, url: str, reader: Reader
) -> None:
    (agreement,) = bought(marketplace, "pay-as-you-go")

    assert reader.page("acmegateway", Filter={"LICENSE_ARN": [agreement.license_arn]}) == {}
    assert post(url, GET_ENTITLEMENTS, {"ProductCode": "acmegateway"}).json() == {}


def test_the_entitlements_of_a_free_trial_end_with_it(marketplace: LocalMarketplace, reader: Reader) -> None:
    (agreement,) = bought(marketplace, "free-trial")

    assert agreement.free_trial_ends_at
    assert (agreement.free_trial_ends_at - agreement.accepted_at).days == 14
    rows = reader.rows(LICENSE_ARN=[agreement.license_arn or ""])
    assert {in_utc(row["ExpirationDate"]) for row in rows} == {agreement.free_trial_ends_at}


def test_without_a_filter_every_customer_of_the_product_is_answered(
    marketplace: LocalMarketplace, reader: Reader
) -> None:
    agreements = bought(marketplace, "new-product", "second-agreement", "free-trial", "legacy-product")[:3]
    marketplace.shop_as_another_buyer()
    agreements += bought(marketplace, "new-product")

    rows = reader.rows()

    assert len({row["CustomerAWSAccountId"] for row in rows}) == 2
    assert [row["LicenseArn"] for row in rows] == [agreement.license_arn for agreement in agreements for _ in range(4)]
    assert reader.rows(DIMENSION=["users"]) == [row for row in rows if row["Dimension"] == "users"]


@pytest.mark.parametrize("product_code", ["someoneelse", "unknown", "prod-4xk2mq7bqmzfa"])
def test_a_product_that_is_not_the_sellers_has_no_entitlements(
    marketplace: LocalMarketplace, aws: Aws, reader: Reader, product_code: str
) -> None:
    aws.resolve(marketplace.issue_token("wrong-product"))

    assert reader.page(product_code) == {}


def test_what_went_wrong_before_the_buyer_came_is_not_told_of(
    marketplace: LocalMarketplace, aws: Aws, reader: Reader
) -> None:
    slow, expired = marketplace.issue_token("no-license-yet"), marketplace.issue_token("expired")
    aws.refusal(expired)
    assert reader.rows() == []

    aws.resolve(slow)

    (agreement,) = bought(marketplace, "no-license-yet")
    assert {row["LicenseArn"] for row in reader.rows()} == {agreement.license_arn}


FILTERS: list[dict[str, Any]] = [
    {"CUSTOMER_IDENTIFIER": ["abc"], "CUSTOMER_AWS_ACCOUNT_ID": ["123456789012"]},
    {"CUSTOMER_NAME": ["abc"]},
    {"DIMENSION": []},
]


@pytest.mark.parametrize("filters", FILTERS)
def test_filters_that_aws_does_not_support_are_refused(url: str, filters: dict[str, list[str]]) -> None:
    answer = post(url, GET_ENTITLEMENTS, {"ProductCode": "acmeanalytics", "Filter": filters})

    assert answer.status_code == 400
    assert answer.json()["__type"] == "InvalidParameterException"


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"ProductCode": None},
        {"ProductCode": ""},
        {"ProductCode": "acmeanalytics", "MaxResults": 0},
        {"ProductCode": "acmeanalytics", "MaxResults": 26},
        {"ProductCode": "acmeanalytics", "NextToken": ""},
        {"ProductCode": "acmeanalytics", "NextToken": "made up"},
        {"ProductCode": "acmeanalytics", "NextToken": "bWFkZSB1cA=="},
        {"ProductCode": "acmeanalytics", "NextToken": "é"},
    ],
)
def test_a_parameter_that_cannot_be_is_invalid(url: str, members: dict[str, object]) -> None:
    answer = post(url, GET_ENTITLEMENTS, members)

    assert answer.status_code == 400
    assert answer.json()["__type"] == "InvalidParameterException"
    assert answer.json()["message"]


def test_boto3_knows_the_error_by_its_class(reader: Reader) -> None:
    with pytest.raises(reader.entitlement.exceptions.InvalidParameterException):
        reader.page(NextToken="bad")
    assert refusal(reader.page, NextToken="bad") == ("InvalidParameterException", 400)


def test_a_token_is_good_for_the_same_question_alone(marketplace: LocalMarketplace, reader: Reader) -> None:
    agreement, _ = bought(marketplace, "new-product", "second-agreement")
    filters = {"LICENSE_ARN": [agreement.license_arn]}
    token = reader.page(MaxResults=3, Filter=filters)["NextToken"]

    assert len(reader.page(NextToken=token, Filter=filters)["Entitlements"]) == 1
    assert refusal(reader.page, NextToken=token) == ("InvalidParameterException", 400)
    assert refusal(reader.page, product_code="acmelegacy", NextToken=token, Filter=filters)
    assert refusal(reader.page, NextToken=f"{token[:-2]}x=", Filter=filters)


def test_a_page_has_25_entitlements_unless_fewer_are_asked_for(marketplace: LocalMarketplace, reader: Reader) -> None:
    for _ in range(7):
        bought(marketplace, "new-product")
        marketplace.shop_as_another_buyer()

    first = reader.page()
    second = reader.page(NextToken=first["NextToken"])

    assert (len(first["Entitlements"]), len(second["Entitlements"])) == (25, 3)
    assert "NextToken" not in second


@pytest.mark.parametrize("size", [1, 3, 4, 16, 25])
def test_pages_of_any_size_have_the_same_rows(marketplace: LocalMarketplace, reader: Reader, size: int) -> None:
    bought(marketplace, "new-product", "second-agreement", "free-trial")
    bought(marketplace, "new-product", "legacy-product")

    assert reader.rows(size=size) == reader.rows()
    assert len(reader.rows()) == 12


def test_an_answer_is_what_the_model_of_aws_says(marketplace: LocalMarketplace, url: str) -> None:
    bought(marketplace, "new-product")
    (legacy,) = bought(marketplace, "legacy-product")

    for members in ({"ProductCode": "acmeanalytics", "MaxResults": 3}, {"ProductCode": "acmelegacy"}):
        answer = post(url, GET_ENTITLEMENTS, members)
        assert answer.headers["content-type"] == "application/x-amz-json-1.1"
        check_shape(GET_ENTITLEMENTS, answer.json())
    assert answer.json()["Entitlements"][0]["ExpirationDate"] == epoch(legacy.ends_at)


LEDGER = Ledger(100, wall_clock, monotonic)
ACCOUNTS = ["111111111111", "222222222222", "333333333333"]
BOUGHT = [
    LEDGER.buy(account, SCENARIOS[slug]).newest
    for account, slug in product(ACCOUNTS, ["new-product", "free-trial", "legacy-product", "second-agreement"])
]
LICENSES = [agreement.license_arn for agreement in BOUGHT if agreement.license_arn]
IDENTIFIERS = [agreement.customer_identifier for agreement in BOUGHT if agreement.customer_identifier]

members_by_filter = {
    "LICENSE_ARN": "LicenseArn",
    "CUSTOMER_AWS_ACCOUNT_ID": "CustomerAWSAccountId",
    "CUSTOMER_IDENTIFIER": "CustomerIdentifier",
    "DIMENSION": "Dimension",
}


def values_of(values: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from([*values, "none of them"]), min_size=1, max_size=4)


customers = st.fixed_dictionaries(
    {}, optional={"CUSTOMER_AWS_ACCOUNT_ID": values_of(ACCOUNTS)}
) | st.fixed_dictionaries({"CUSTOMER_IDENTIFIER": values_of(IDENTIFIERS)})
others = st.fixed_dictionaries(
    {},
    optional={"LICENSE_ARN": values_of(LICENSES), "DIMENSION": values_of(["users", "sso", "reports", "storage_tb"])},
)


def ask(members: dict[str, object]) -> dict[str, Any]:
    (operation,) = EntitlementService(LEDGER).operations
    question = operation.read(AwsRequest.read({}, json.dumps(members).encode()))
    response, _ = question.answer()
    answer: dict[str, Any] = json.loads(bytes(response.body))
    return answer


@given(st.sampled_from(["acmeanalytics", "acmelegacy", "acmegateway"]), customers, others, st.integers(1, 25))
def test_the_values_of_a_filter_are_ored_and_filters_are_anded_on_pages_of_any_size(
    product_code: str, customer: dict[str, list[str]], other: dict[str, list[str]], size: int
) -> None:
    filters = customer | other
    question: dict[str, object] = {"ProductCode": product_code, "Filter": filters, "MaxResults": size}
    rows: list[dict[str, Any]] = []
    answer = ask(question)
    while True:
        assert len(answer.get("Entitlements", [])) <= size
        rows += answer.get("Entitlements", [])
        if "NextToken" not in answer:
            break
        answer = ask({**question, "NextToken": answer["NextToken"]})

    every = ask({"ProductCode": product_code})
    while "NextToken" in every:
        token = every.pop("NextToken")
        following = ask({"ProductCode": product_code, "NextToken": token})
        every = {**following, "Entitlements": every["Entitlements"] + following.get("Entitlements", [])}
    assert rows == [
        row
        for row in every.get("Entitlements", [])
        if all(row.get(members_by_filter[name]) in values for name, values in filters.items())
    ]
