import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import HTMLResponse, Response

from starlette_marketplace import (
    AwsUnavailableError,
    DeadlineExceededError,
    Entitlement,
    IncompleteAnswerError,
    MarketplaceCustomer,
    MarketplaceError,
)
from starlette_marketplace.subscriptions.entitlements import entitlement_of
from tests.support.aws import ACCOUNT, CUSTOMER, END, LICENSE, FakeAws, answer, reader_of
from tests.support.fakes import FakeTimer
from tests.support.servers import serve

pytestmark = pytest.mark.usefixtures("environment")

LEGACY = MarketplaceCustomer(aws_account_id=ACCOUNT, product_code="acme", customer_identifier="ifAPi5AcF3")


def row(**members: Any) -> dict[str, Any]:
    given = {
        "ProductCode": "acme",
        "Dimension": "users",
        "CustomerAWSAccountId": ACCOUNT,
        "Value": {"IntegerValue": 25},
        "ExpirationDate": END.timestamp(),
        "LicenseArn": LICENSE,
    }
    return {name: value for name, value in (given | members).items() if value is not None}


def page(*rows: dict[str, Any], token: str | None = None) -> Response:
    members: dict[str, Any] = {"Entitlements": list(rows)} if rows else {}
    return answer(members | ({"NextToken": token} if token else {}))


def read(*answers: Response, customer: MarketplaceCustomer = CUSTOMER) -> tuple[Entitlement, ...]:
    """What a customer has by these answers of AWS."""
    with serve(FakeAws(*answers), lifespan="off") as url:
        return reader_of(url).get_entitlements(customer)


def refused(*answers: Response, customer: MarketplaceCustomer = CUSTOMER) -> MarketplaceError:
    with pytest.raises(MarketplaceError) as caught:
        read(*answers, customer=customer)
    assert not caught.value.__context__
    return caught.value


def test_an_entitlement_is_a_dimension_with_its_value_and_its_end() -> None:
    assert read(page(row())) == (Entitlement(dimension="users", value=25, expires_at=END),)


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        ({"IntegerValue": 0}, 0),
        ({"IntegerValue": 2147483647}, 2147483647),
        ({"DoubleValue": 0.5}, 0.5),
        ({"DoubleValue": 2}, 2),
        ({"BooleanValue": False}, False),
        ({"StringValue": ""}, ""),
        ({"StringValue": "gold"}, "gold"),
        ({}, None),
        (None, None),
    ],
)
def test_a_value_is_exactly_what_was_sent(sent: dict[str, Any] | None, value: object) -> None:
    [entitlement] = read(page(row(Value=sent)))
    assert entitlement.value == value
    assert type(entitlement.value) is type(value)


ZONES = [timezone(timedelta(hours=hours)) for hours in (-12, -5, 0, 5.75, 14)]


@pytest.mark.parametrize("zone", ZONES)
def test_times_are_utc_wherever_the_machine_is(zone: timezone) -> None:
    """botocore gives them in the zone of the machine."""
    entitlement = entitlement_of(row(ExpirationDate=END.astimezone(zone)), CUSTOMER)
    assert entitlement.expires_at == END
    assert entitlement.expires_at.tzinfo is UTC


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(("month", "day", "hour"), [(1, 2, 12), (7, 1, 12), (12, 31, 23)])
def test_the_year_9999_is_no_end_wherever_the_machine_is(zone: timezone, month: int, day: int, hour: int) -> None:
    end = datetime(9999, month, day, hour, tzinfo=zone)
    assert entitlement_of(row(ExpirationDate=end), CUSTOMER).expires_at is None


def test_the_first_moment_of_9999_is_no_end_west_of_greenwich() -> None:
    end = datetime(9999, 1, 1, tzinfo=UTC).astimezone(timezone(timedelta(hours=-5)))
    assert end.year == 9998
    assert entitlement_of(row(ExpirationDate=end), CUSTOMER).expires_at is None


@pytest.mark.parametrize(
    "sent", [datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), datetime(2027, 1, 1), "2027-01-01", 1]
)
def test_what_is_no_moment_is_no_time(sent: object) -> None:
    with pytest.raises(ValueError, match="ExpirationDate is not a time"):
        entitlement_of(row(ExpirationDate=sent), CUSTOMER)


def test_a_moment_that_utc_cannot_have_is_no_end() -> None:
    end = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))
    assert entitlement_of(row(ExpirationDate=end), CUSTOMER).expires_at is None


@pytest.mark.parametrize("sent", [None, 253370764800])
def test_what_has_no_end_has_none(sent: int | None) -> None:
    [entitlement] = read(page(row(ExpirationDate=sent)))
    assert entitlement.expires_at is None


def test_nothing_is_an_answer() -> None:
    assert read(answer({})) == ()
    assert read(answer({"Entitlements": []})) == ()


def test_all_pages_are_read_the_empty_ones_too() -> None:
    aws = FakeAws(page(row(Dimension="a"), token="1"), page(token="2"), page(row(Dimension="b")))
    with serve(aws, lifespan="off") as url:
        entitlements = reader_of(url).get_entitlements(CUSTOMER)
    assert [entitlement.dimension for entitlement in entitlements] == ["a", "b"]
    asked = [json.loads(call.body) for call in aws.calls]
    assert [members.get("NextToken") for members in asked] == [None, "1", "2"]
    assert {json.dumps(members["Filter"]) for members in asked} == {json.dumps({"LICENSE_ARN": [LICENSE]})}


def test_pages_without_an_end_are_no_answer_of_aws() -> None:
    error = refused(page(token="again"))
    assert isinstance(error, IncompleteAnswerError)
    assert "it has more than 100 pages" in str(error)


def test_pages_end_when_nobody_waits_any_longer() -> None:
    timer = FakeTimer()

    class Slow(FakeAws):
        def answer(self, number: int) -> Response:
            timer.now += 5
            return super().answer(number)

    aws = Slow(page(token="again"))
    with serve(aws, lifespan="off") as url, pytest.raises(DeadlineExceededError, match="within 12 s"):
        reader_of(url, timer=timer).get_entitlements(CUSTOMER)
    assert len(aws.calls) == 3


def test_a_legacy_customer_is_asked_for_by_its_identifier() -> None:
    aws = FakeAws(page(row(CustomerIdentifier="ifAPi5AcF3", LicenseArn=None)))
    with serve(aws, lifespan="off") as url:
        assert len(reader_of(url).get_entitlements(LEGACY)) == 1
    [call] = aws.calls
    assert json.loads(call.body) == {"ProductCode": "acme", "Filter": {"CUSTOMER_IDENTIFIER": ["ifAPi5AcF3"]}}
    assert call.headers["x-amz-target"] == "AWSMPEntitlementService.GetEntitlements"


def test_the_other_printed_form_of_the_license_is_the_same_license() -> None:
    other = f"aws:license-manager:us-east-1:444455556666:{LICENSE.rpartition(':')[2]}"
    assert len(read(page(row(LicenseArn=other)))) == 1


@pytest.mark.parametrize(
    ("changes", "customer"),
    [
        ({"LicenseArn": LICENSE[:-1] + "0"}, CUSTOMER),
        ({"CustomerAWSAccountId": "210987654321"}, CUSTOMER),
        ({"ProductCode": "other"}, CUSTOMER),
        ({"CustomerIdentifier": "other", "LicenseArn": None}, LEGACY),
    ],
)
def test_a_row_about_somebody_else_is_never_passed_on(changes: dict[str, Any], customer: MarketplaceCustomer) -> None:
    error = refused(page(row(), row(**changes)) if customer is CUSTOMER else page(row(**changes)), customer=customer)
    assert isinstance(error, IncompleteAnswerError)
    assert "an entitlement " in str(error)
    assert "AWS request id request-1" in str(error)


def test_a_row_may_leave_out_some_of_what_says_whose_it_is_and_not_all() -> None:
    assert len(read(page(row(LicenseArn=None), row(CustomerAWSAccountId=None), row(ProductCode=None)))) == 3
    error = refused(page(row(LicenseArn=None, CustomerAWSAccountId=None)))
    assert "an entitlement does not say whose it is" in str(error)
    assert isinstance(refused(page(row(LicenseArn=None, CustomerAWSAccountId=None, CustomerIdentifier="x"))), Exception)


@pytest.mark.parametrize(
    "sent",
    [
        {"Dimension": None},
        {"Dimension": ""},
        {"Dimension": 1},
        {"LicenseArn": 1},
        {"Value": {"IntegerValue": "3"}},
        {"Value": {"IntegerValue": True}},
        {"Value": {"BooleanValue": 1}},
        {"Value": {"StringValue": 1}},
    ],
)
def test_a_row_that_cannot_be_read_is_an_error(sent: dict[str, Any]) -> None:
    assert isinstance(refused(page(row(**sent))), IncompleteAnswerError)


@pytest.mark.parametrize(
    "response",
    [
        Response(media_type="application/x-amz-json-1.1"),
        HTMLResponse("<html>Log in to this network</html>"),
        Response('{"Entitlements": [', media_type="application/x-amz-json-1.1"),
        Response("[]", media_type="application/x-amz-json-1.1"),
        Response("null", media_type="application/x-amz-json-1.1"),
        Response("[" * 100_000, media_type="application/x-amz-json-1.1"),
        answer({"message": "maintenance"}),
        answer({}, 202),
        HTMLResponse("<html>Accepted</html>", 202),
        Response(status_code=204),
        Response('{"Entitlements": [', 206, media_type="application/x-amz-json-1.1"),
        Response(media_type="application/cbor"),
        HTMLResponse("<html>Log in</html>", headers={"Content-Type": "text/html; cbor"}),
        Response(headers={"smithy-protocol": "rpc-v2-cbor"}, media_type="application/cbor"),
    ],
)
def test_what_is_no_answer_of_aws_does_not_mean_that_there_is_nothing(response: Response) -> None:
    """botocore makes an answer without members of all of these, as it does of {}."""
    error = refused(response)
    assert isinstance(error, AwsUnavailableError)
    assert "check entitlement_endpoint_url and the proxies on the way" in str(error)


text = st.text(max_size=5) | st.none() | st.integers()
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "ProductCode": st.just("acme") | text,
            "Dimension": st.just("users") | text,
            "CustomerIdentifier": text,
            "CustomerAWSAccountId": st.just(ACCOUNT) | text,
            "LicenseArn": st.just(LICENSE) | text,
            "Value": st.none()
            | st.integers()
            | st.dictionaries(
                st.sampled_from(["IntegerValue", "DoubleValue", "BooleanValue", "StringValue", "NewValue"]), values
            ),
            "ExpirationDate": st.none() | st.datetimes() | st.datetimes(timezones=st.just(UTC)) | st.integers(),
        },
    )
    | values
)
def test_any_row_is_read_as_it_is_or_refused(members: object) -> None:
    try:
        entitlement = entitlement_of(members, CUSTOMER)
    except ValueError:
        return
    assert isinstance(members, dict)
    assert entitlement.dimension == members["Dimension"]
    assert members.get("ProductCode") in ("acme", "", None)
    assert members.get("CustomerAWSAccountId") in (ACCOUNT, "", None)
    assert members.get("LicenseArn") in (LICENSE, "", None)
    sent = [value for value in (members.get("Value") or {}).values() if value is not None]
    assert entitlement.value is None or any(entitlement.value is value for value in sent)
