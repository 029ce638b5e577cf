"""Whatever goes wrong afterwards, the token resolves well, and every other subscription can be read."""

from typing import Any

import httpx2
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError, ResponseStreamingError

from starlette_marketplace.local import LocalMarketplace
from starlette_marketplace.local.reading_troubles import READING_TROUBLES
from tests.local.clients import Aws, signed_request
from tests.local.readers import (
    DESCRIBE_AGREEMENT,
    GET_ENTITLEMENTS,
    Reader,
    check_shape,
    post,
    refusal,
)
from tests.local.watched import Watched
from tests.support.servers import serve
from tests.support.sockets import connect

STARTER = [("users", 5), ("sso", False), ("tier", "starter"), ("storage_tb", 0.5)]


class Subscriber:
    """A buyer who has come with a scenario, and what the seller can ask about."""

    def __init__(self, marketplace: LocalMarketplace, aws: Aws, scenario: str) -> None:
        self.customer = aws.resolve(marketplace.issue_token(scenario))
        self.license_filter: dict[str, Any] = {"LICENSE_ARN": [self.customer["LicenseArn"]]}
        self.agreement_id: str = self.customer["Metadata"]["AgreementId"]

    def ask_for_entitlements(self, url: str) -> httpx2.Response:
        return post(url, GET_ENTITLEMENTS, {"ProductCode": "acmeanalytics", "Filter": self.license_filter})

    def ask_for_agreement(self, url: str) -> httpx2.Response:
        return post(url, DESCRIBE_AGREEMENT, {"agreementId": self.agreement_id})


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("entitlements-throttled", ("ThrottlingException", 400)),
        ("entitlements-internal-error", ("InternalServiceErrorException", 500)),
        ("entitlements-access-denied", ("AccessDeniedException", 400)),
        ("entitlements-invalid-parameter", ("InvalidParameterException", 400)),
        ("entitlements-html-503", ("503", 503)),
    ],
)
def test_entitlements_are_refused(
    marketplace: LocalMarketplace, aws: Aws, reader: Reader, scenario: str, expected: tuple[str, int]
) -> None:
    subscriber = Subscriber(marketplace, aws, scenario)

    with pytest.raises(ClientError) as caught:
        reader.page(Filter=subscriber.license_filter)
    response = caught.value.response
    assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == expected


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("agreement-access-denied", ("AccessDeniedException", 403)),
        ("agreement-not-found", ("ResourceNotFoundException", 404)),
        ("agreement-throttled", ("ThrottlingException", 429)),
        ("agreement-internal-error", ("InternalServerException", 500)),
        ("agreement-invalid", ("ValidationException", 400)),
    ],
)
def test_an_agreement_is_refused(
    marketplace: LocalMarketplace, aws: Aws, url: str, reader: Reader, scenario: str, expected: tuple[str, int]
) -> None:
    subscriber = Subscriber(marketplace, aws, scenario)

    assert refusal(reader.describe, agreement_id=subscriber.agreement_id) == expected
    assert subscriber.ask_for_agreement(url).headers["content-type"] == "application/x-amz-json-1.0"
    assert len(reader.rows(**subscriber.license_filter)) == 4


def test_what_a_partner_has_sold_is_not_found_by_a_search_either(
    marketplace: LocalMarketplace, aws: Aws, reader: Reader
) -> None:
    Subscriber(marketplace, aws, "agreement-access-denied")

    assert reader.search() == []


def test_a_web_page_comes_in_the_place_of_an_answer(
    marketplace: LocalMarketplace, aws: Aws, url: str, reader: Reader
) -> None:
    portal = Subscriber(marketplace, aws, "entitlements-not-json")
    balancer = Subscriber(marketplace, aws, "agreement-html-503")

    answers = [portal.ask_for_entitlements(url), balancer.ask_for_agreement(url)]

    assert [answer.status_code for answer in answers] == [200, 503]
    assert {answer.headers["content-type"] for answer in answers} == {"text/html; charset=utf-8"}
    given = reader.entitlement.get_entitlements(ProductCode="acmeanalytics", Filter=portal.license_filter)
    assert given.keys() == {"ResponseMetadata"}
    with pytest.raises(ClientError, match="503"):
        reader.describe(balancer.agreement_id)


def test_an_empty_body_is_a_success_to_boto3(marketplace: LocalMarketplace, aws: Aws, url: str, reader: Reader) -> None:
    subscriber = Subscriber(marketplace, aws, "entitlements-empty-answer")

    answer = subscriber.ask_for_entitlements(url)

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "application/x-amz-json-1.1"
    assert reader.page(Filter=subscriber.license_filter) == {}


@pytest.mark.parametrize("scenario", ["entitlements-hanging-headers", "agreement-hanging-headers"])
def test_no_answer_comes_until_the_client_gives_up(
    marketplace: LocalMarketplace, aws: Aws, url: str, scenario: str
) -> None:
    subscriber = Subscriber(marketplace, aws, scenario)

    with Reader(url, read_timeout=0.2) as impatient:
        asks = {
            "entitlements-hanging-headers": lambda: impatient.page(Filter=subscriber.license_filter),
            "agreement-hanging-headers": lambda: impatient.describe(subscriber.agreement_id),
        }
        with pytest.raises(ReadTimeoutError):
            asks[scenario]()


def test_half_an_answer_comes(marketplace: LocalMarketplace, aws: Aws, url: str) -> None:
    subscriber = Subscriber(marketplace, aws, "entitlements-hanging-body")

    with Reader(url, read_timeout=0.2) as impatient, pytest.raises((ReadTimeoutError, ResponseStreamingError)):
        impatient.page(Filter=subscriber.license_filter)


@pytest.mark.parametrize(
    ("scenario", "member"),
    [
        ("entitlements-other-license", "LicenseArn"),
        ("entitlements-other-account", "CustomerAWSAccountId"),
        ("entitlements-other-product", "ProductCode"),
    ],
)
def test_rows_that_were_not_asked_for_come(
    marketplace: LocalMarketplace, aws: Aws, reader: Reader, scenario: str, member: str
) -> None:
    subscriber = Subscriber(marketplace, aws, scenario)

    rows = reader.rows(**subscriber.license_filter)

    assert len(rows) == 4
    own = {name: subscriber.customer[name] for name in ("LicenseArn", "CustomerAWSAccountId", "ProductCode")}
    for row in rows:
        assert {name for name, value in own.items() if row[name] != value} == {member}


@pytest.mark.parametrize(
    ("scenario", "sizes"),
    [("entitlements-several-pages", [1, 1, 1, 1]), ("entitlements-empty-pages", [0, 1, 0, 1, 0, 1, 0, 1])],
)
def test_all_entitlements_come_in_the_end_on_however_many_pages(
    marketplace: LocalMarketplace, aws: Aws, url: str, reader: Reader, scenario: str, sizes: list[int]
) -> None:
    subscriber = Subscriber(marketplace, aws, scenario)

    pages: list[dict[str, Any]] = []
    token: dict[str, str] = {}
    while not pages or "NextToken" in pages[-1]:
        members = {"ProductCode": "acmeanalytics", "Filter": subscriber.license_filter, **token}
        pages.append(post(url, GET_ENTITLEMENTS, members).json())
        check_shape(GET_ENTITLEMENTS, pages[-1])
        token = {"NextToken": pages[-1].get("NextToken", "")}

    assert [len(page.get("Entitlements", [])) for page in pages] == sizes
    rows = reader.rows(**subscriber.license_filter)
    assert [(row["Dimension"], *row["Value"].values()) for row in rows] == STARTER


@pytest.mark.parametrize(
    ("scenario", "on_the_wire", "by_boto3"),
    [
        ("entitlements-no-value", {}, {}),
        ("entitlements-nulls", None, None),
        ("entitlements-unknown-type", {"ListValue": ["eu", "us"]}, {}),
    ],
)
def test_a_value_is_missing_or_unknown(
    marketplace: LocalMarketplace,
    aws: Aws,
    url: str,
    reader: Reader,
    scenario: str,
    on_the_wire: object,
    by_boto3: object,
) -> None:
    subscriber = Subscriber(marketplace, aws, scenario)

    for row in subscriber.ask_for_entitlements(url).json()["Entitlements"]:
        assert row["Value"] == on_the_wire
        assert len(row) == 6
    for row in reader.rows(**subscriber.license_filter):
        assert row.get("Value") == by_boto3
        assert ("Dimension" in row) is (on_the_wire is not None)


def test_an_agreement_has_a_status_that_nobody_knows(marketplace: LocalMarketplace, aws: Aws, reader: Reader) -> None:
    subscriber = Subscriber(marketplace, aws, "agreement-unknown-status")

    assert reader.describe(subscriber.agreement_id)["status"] == "PAUSED"
    (summary,) = reader.search()
    assert summary["status"] == "PAUSED"
    assert reader.search(Status="ACTIVE") == []
    assert marketplace.cancel().status == "CANCELLED"


@pytest.mark.parametrize("scenario", ["agreement-nulls", "agreement-no-members"])
def test_an_agreement_has_no_members_for_boto3(
    marketplace: LocalMarketplace, aws: Aws, url: str, reader: Reader, scenario: str
) -> None:
    subscriber = Subscriber(marketplace, aws, scenario)

    members = subscriber.ask_for_agreement(url).json()

    assert (len(members) > 9) is (scenario == "agreement-nulls")
    assert set(members.values()) <= {None}
    assert reader.describe(subscriber.agreement_id) == {}


def test_a_trouble_is_that_of_its_own_subscription(marketplace: LocalMarketplace, aws: Aws, reader: Reader) -> None:
    good = Subscriber(marketplace, aws, "new-product")
    troubled = Subscriber(marketplace, aws, "entitlements-throttled")
    licenses = good.license_filter["LICENSE_ARN"] + troubled.license_filter["LICENSE_ARN"]

    assert len(reader.rows(**good.license_filter)) == 4
    assert len(reader.rows(LICENSE_ARN=licenses)) == len(reader.rows()) == 8
    assert len(reader.rows(CUSTOMER_AWS_ACCOUNT_ID=[good.customer["CustomerAWSAccountId"]])) == 8
    assert len(reader.rows(DIMENSION=["users"])) == 2

    marketplace.shop_as_another_buyer()
    alone = Subscriber(marketplace, aws, "entitlements-throttled")
    account = [alone.customer["CustomerAWSAccountId"]]
    assert refusal(reader.rows, CUSTOMER_AWS_ACCOUNT_ID=account)[0] == "ThrottlingException"


@pytest.mark.parametrize("scenario", [scenario.slug for scenario in READING_TROUBLES])
def test_the_other_service_is_well(marketplace: LocalMarketplace, aws: Aws, reader: Reader, scenario: str) -> None:
    subscriber = Subscriber(marketplace, aws, scenario)

    if scenario.startswith("agreement"):
        rows = reader.rows(**subscriber.license_filter)
        assert [(row["Dimension"], *row["Value"].values()) for row in rows] == STARTER
    else:
        assert reader.describe(subscriber.agreement_id)["status"] == "ACTIVE"


def test_a_client_that_hangs_up_leaves_nothing_behind(marketplace: LocalMarketplace) -> None:
    watched = Watched(marketplace)
    marketplace.delay = 0
    with serve(watched) as url, Aws(url) as aws:
        subscriber = Subscriber(marketplace, aws, "agreement-hanging-headers")
        watched.read.clear()
        watched.ended.clear()
        body = f'{{"agreementId": "{subscriber.agreement_id}"}}'.encode()
        with connect(url) as connection:
            connection.sendall(signed_request(url, body, target=DESCRIBE_AGREEMENT))
            assert watched.read.wait(timeout=60)
        assert watched.ended.wait(timeout=60)

    assert [(call.operation, call.hung_up) for call in marketplace.calls] == [
        ("ResolveCustomer", False),
        ("DescribeAgreement", True),
    ]
