from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_marketplace.local import Agreement, LocalMarketplace
from starlette_marketplace.local.changes import cancel, expire, renew, replace_by
from starlette_marketplace.local.clocks import monotonic
from starlette_marketplace.local.filters import read_filters
from starlette_marketplace.local.ledger import Ledger
from starlette_marketplace.local.parameters import Parameters
from starlette_marketplace.local.scenarios import SCENARIOS
from starlette_marketplace.local.search import Search
from tests.local.clients import Aws
from tests.local.readers import (
    DESCRIBE_AGREEMENT,
    SEARCH_AGREEMENTS,
    Reader,
    check_shape,
    epoch,
    filters_of,
    in_utc,
    post,
    refusal,
)
from tests.local.timers import Clock
from tests.support.servers import serve

SELLER = "123456789012"


def bought(marketplace: LocalMarketplace, scenario: str = "new-product") -> Agreement:
    marketplace.issue_token(scenario)
    return marketplace.buyer.agreements(SCENARIOS[scenario])[0]


def test_an_agreement_is_described_by_the_id_that_resolve_customer_names(
    marketplace: LocalMarketplace, aws: Aws, reader: Reader
) -> None:
    customer = aws.resolve(marketplace.issue_token("new-product"))

    described = reader.describe(customer["Metadata"]["AgreementId"])

    agreement = bought(marketplace)
    times = {name: in_utc(described.pop(name)) for name in ("acceptanceTime", "startTime", "endTime")}
    assert times == {
        "acceptanceTime": agreement.accepted_at,
        "startTime": agreement.starts_at,
        "endTime": agreement.accepted_at + timedelta(days=365),
    }
    assert described == {
        "agreementId": agreement.id,
        "agreementType": "PurchaseAgreement",
        "status": "ACTIVE",
        "acceptor": {"accountId": customer["CustomerAWSAccountId"]},
        "proposer": {"accountId": SELLER},
        "initialAgreementId": agreement.id,
        "endTimeBehavior": {"type": "RENEW", "renewalSummary": {"offerId": "offer-h3vtq6yx5wd2k"}},
        "proposalSummary": {
            "offerId": "offer-h3vtq6yx5wd2k",
            "resources": [{"id": "prod-4xk2mq7bqmzfa", "type": "SaaSProduct"}],
        },
    }


def test_pay_as_you_go_has_no_end(marketplace: LocalMarketplace, reader: Reader) -> None:
    agreement = bought(marketplace, "pay-as-you-go")

    described = reader.describe(agreement.id)
    (summary,) = reader.search(ResourceIdentifier=agreement.product.id)

    assert {"endTime", "endTimeBehavior", "endTimeBehaviorType"}.isdisjoint(described.keys() | summary.keys())
    assert described["status"] == "ACTIVE"


def test_a_free_trial_says_when_it_ends_and_is_not_renewed(marketplace: LocalMarketplace, reader: Reader) -> None:
    agreement = bought(marketplace, "free-trial")

    described = reader.describe(agreement.id)
    (summary,) = reader.search()

    assert in_utc(described["freeTrialSummary"]["trialEndTime"]) == agreement.free_trial_ends_at
    assert in_utc(summary["freeTrialEndTime"]) == in_utc(described["endTime"]) == agreement.free_trial_ends_at
    assert described["endTimeBehavior"] == {"type": "EXPIRE", "reasonCode": "NO_RENEWAL_TERM"}
    assert (summary["endTimeBehaviorType"], summary["endTimeBehaviorReasonCode"]) == ("EXPIRE", "NO_RENEWAL_TERM")


def test_a_legacy_product_has_an_agreement_that_resolve_customer_does_not_name(
    marketplace: LocalMarketplace, aws: Aws, reader: Reader
) -> None:
    customer = aws.resolve(marketplace.issue_token("legacy-product"))

    (summary,) = reader.search(AcceptorAccountId=customer["CustomerAWSAccountId"])

    assert "Metadata" not in customer
    assert reader.describe(summary["agreementId"])["status"] == "ACTIVE"
    assert "entitlements" not in summary


def test_a_summary_has_what_a_description_has_and_the_license_and_the_last_update(
    marketplace: LocalMarketplace, reader: Reader
) -> None:
    agreement = bought(marketplace)

    (summary,) = reader.search()

    assert in_utc(summary.pop("lastUpdateTime")) == agreement.updated_at
    assert summary.pop("entitlements") == [{"licenseArn": agreement.license_arn}]
    described = reader.describe(agreement.id)
    assert summary.pop("endTimeBehaviorType") == described.pop("endTimeBehavior")["type"]
    assert summary == described


def test_answers_are_what_the_model_of_aws_says_in_its_version_of_json(marketplace: LocalMarketplace, url: str) -> None:
    agreements = [
        bought(marketplace, slug) for slug in ("new-product", "free-trial", "pay-as-you-go", "legacy-product")
    ]
    marketplace.renew(agreements[0].id)

    answers = [(DESCRIBE_AGREEMENT, post(url, DESCRIBE_AGREEMENT, {"agreementId": each.id})) for each in agreements]
    answers.append((SEARCH_AGREEMENTS, post(url, SEARCH_AGREEMENTS, {"filters": filters_of(), "maxResults": 3})))

    for target, answer in answers:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/x-amz-json-1.0"
        assert answer.headers["x-amzn-requestid"]
        check_shape(target, answer.json())
    assert answers[1][1].json()["startTime"] == epoch(agreements[1].starts_at)
    assert len(answers[-1][1].json()["agreementViewSummaries"]) == 3


@pytest.mark.parametrize(
    ("agreement_id", "reason"),
    [
        (None, "MISSING_AGREEMENT_ID"),
        ("", "MISSING_AGREEMENT_ID"),
        ("agmt 1", "INVALID_AGREEMENT_ID"),
        ("a" * 65, "INVALID_AGREEMENT_ID"),
    ],
)
def test_an_agreement_id_that_cannot_be_does_not_validate(url: str, agreement_id: str | None, reason: str) -> None:
    answer = post(url, DESCRIBE_AGREEMENT, {"agreementId": agreement_id})

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/x-amz-json-1.0"
    body = answer.json()
    assert (body["__type"], body["reason"]) == ("ValidationException", reason)
    assert body["fields"] == [{"name": "agreementId", "message": body["message"]}]


def test_an_agreement_that_does_not_exist_is_not_found(reader: Reader, url: str) -> None:
    assert refusal(reader.describe, agreement_id="agmt-1") == ("ResourceNotFoundException", 404)
    body = post(url, DESCRIBE_AGREEMENT, {"agreementId": "agmt-1"}).json()
    assert (body["resourceId"], body["resourceType"]) == ("agmt-1", "Agreement")


def test_an_agreement_of_another_seller_may_not_be_read_and_is_not_found_by_a_search(
    marketplace: LocalMarketplace, aws: Aws, reader: Reader
) -> None:
    agreement_id = aws.resolve(marketplace.issue_token("wrong-product"))["Metadata"]["AgreementId"]

    assert refusal(reader.describe, agreement_id=agreement_id) == ("AccessDeniedException", 403)
    assert reader.search() == []


def test_an_agreement_that_nobody_knows_of_yet_is_not_found(marketplace: LocalMarketplace, reader: Reader) -> None:
    agreement = bought(marketplace, "slow")

    assert refusal(reader.describe, agreement_id=agreement.id) == ("ResourceNotFoundException", 404)


def test_the_table_of_all_subscriptions_is_one_search(marketplace: LocalMarketplace, reader: Reader) -> None:
    first = [bought(marketplace, slug) for slug in ("new-product", "second-agreement", "pay-as-you-go")]
    marketplace.shop_as_another_buyer()
    second = bought(marketplace)

    analytics = reader.found(ResourceIdentifier="prod-4xk2mq7bqmzfa")

    assert sorted(analytics) == sorted([first[0].id, first[1].id, second.id])
    assert reader.found(AcceptorAccountId=second.account_id) == [second.id]
    assert reader.found(LicenseArn=f"aws:license-manager:us-east-1:111122223333:{second.license_arn[-34:]}") == [  # type: ignore[index]
        second.id
    ]
    assert reader.found(LicenseArn="arn:aws:license-manager::111122223333:license:l-1") == []
    assert reader.found(OfferId="offer-x7qhg4kv2nady", ResourceType="SaaSProduct") == [first[2].id]
    assert reader.found(OfferSetId="set-1") == reader.found(IncludesContactOfType="ACCEPTOR") == []
    assert reader.found(ResourceType="AmiProduct") == reader.found(Status="ARCHIVED") == []
    assert len(reader.found(EndTimeBehaviorType="RENEW")) == 3
    assert reader.found(EndTimeBehaviorReasonCode="NO_RENEWAL_TERM") == []


def test_the_chain_of_renewals_is_found_by_its_first_agreement_and_by_its_license(
    marketplace: LocalMarketplace, reader: Reader
) -> None:
    first = bought(marketplace)
    second = marketplace.renew()
    other = bought(marketplace, "second-agreement")

    assert sorted(reader.found(InitialAgreementId=first.id)) == sorted([first.id, second.id])
    assert sorted(reader.found(LicenseArn=first.license_arn or "")) == sorted([first.id, second.id])
    assert reader.found(InitialAgreementId=first.id, Status="ACTIVE") == [second.id]
    assert reader.found(Status="RENEWED") == [first.id]
    assert reader.found(InitialAgreementId=second.id) == []
    assert other.id in reader.found(Status="ACTIVE")


def test_a_search_by_the_last_update_finds_what_has_changed_since() -> None:
    clock = Clock()
    marketplace = LocalMarketplace(clock=clock)
    agreements = [bought(marketplace, slug) for slug in ("new-product", "second-agreement", "pay-as-you-go")]
    since = f"{clock.now + timedelta(seconds=30):%Y-%m-%dT%H:%M:%SZ}"
    clock.seconds += 60
    marketplace.change_plan(agreements[0].id, "Team")
    clock.seconds += 60
    marketplace.cancel(agreements[2].id)

    with serve(marketplace) as url, Reader(url) as reader:
        by_update = {"sortBy": "LastUpdateTime", "sortOrder": "DESCENDING"}
        changed = reader.search(AfterLastUpdateTime=since, sort=by_update)
        assert [summary["agreementId"] for summary in changed] == [agreements[2].id, agreements[0].id]
        assert reader.found(BeforeLastUpdateTime=since) == [agreements[1].id]
        assert len(reader.search(sort={"sortBy": "StartTime"})) == 3


def search(url: str, *filters: dict[str, object], **members: object) -> dict[str, Any]:
    answer = post(url, SEARCH_AGREEMENTS, {"filters": list(filters), **members})
    assert answer.headers["content-type"] == "application/x-amz-json-1.0"
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body.get("__type")) in {(200, None), (400, "ValidationException")}
    return body


def given_filter(name: object, *values: object) -> dict[str, object]:
    return {"name": name, "values": list(values)}


PROPOSER, PURCHASE = given_filter("PartyType", "Proposer"), given_filter("AgreementType", "PurchaseAgreement")
ACCEPTOR = given_filter("PartyType", "Acceptor")


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ([PURCHASE], "MISSING_PARTY_TYPE"),
        ([PROPOSER], "INVALID_FILTERS"),
        ([], "MISSING_PARTY_TYPE"),
        ([PROPOSER, PURCHASE, PURCHASE], "INVALID_FILTERS"),
        ([PROPOSER, PURCHASE, *[given_filter("OfferId", "offer-1")] * 9], "INVALID_FILTERS"),
        ([PROPOSER, PURCHASE, {"values": ["a"]}], "MISSING_FILTER_NAME"),
        ([PROPOSER, PURCHASE, given_filter("Product", "a")], "INVALID_FILTER_NAME"),
        ([PROPOSER, PURCHASE, {"name": "Status"}], "MISSING_FILTER_VALUES"),
        ([PROPOSER, PURCHASE, given_filter("Status", "ACTIVE", "EXPIRED")], "INVALID_FILTER_VALUES"),
        ([PROPOSER, PURCHASE, given_filter("Status", "active")], "INVALID_FILTER_VALUES"),
        ([given_filter("PartyType", "Manufacturer"), PURCHASE], "INVALID_FILTER_VALUES"),
        ([PROPOSER, given_filter("AgreementType", "VendorInsightsAgreement")], "INVALID_FILTER_VALUES"),
        ([PROPOSER, PURCHASE, given_filter("OfferId", "an offer")], "INVALID_FILTER_VALUES"),
        ([PROPOSER, PURCHASE, given_filter("AfterEndTime", "yesterday")], "INVALID_FILTER_VALUES"),
        ([ACCEPTOR, PURCHASE, given_filter("LicenseArn", "l-1")], "UNSUPPORTED_FILTERS"),
    ],
)
def test_filters_that_aws_does_not_support_do_not_validate(
    url: str, filters: list[dict[str, object]], reason: str
) -> None:
    assert search(url, *filters)["reason"] == reason


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"catalog": "AWSMarketplace2"}, "INVALID_CATALOG"),
        ({"maxResults": 0}, "INVALID_MAX_RESULTS"),
        ({"maxResults": 51}, "INVALID_MAX_RESULTS"),
        ({"nextToken": "bad"}, "INVALID_NEXT_TOKEN"),
        ({"sort": {"sortBy": "Status"}}, "INVALID_SORT_BY"),
        ({"sort": {"sortOrder": "UP"}}, "INVALID_SORT_ORDER"),
    ],
)
def test_members_that_cannot_be_do_not_validate(url: str, members: dict[str, object], reason: str) -> None:
    assert search(url, PROPOSER, PURCHASE, **members)["reason"] == reason


def test_the_seller_has_accepted_nothing(marketplace: LocalMarketplace, url: str) -> None:
    bought(marketplace)

    end = given_filter("AfterEndTime", "2026-11-25T12:00:00Z")
    assert search(url, ACCEPTOR, PURCHASE, end, given_filter("Status", "ACTIVE")) == {"agreementViewSummaries": []}
    assert search(url, ACCEPTOR, PURCHASE, sort={"sortBy": "StartTime"})["reason"] == "INVALID_SORT_BY"


def test_a_page_has_50_agreements_unless_fewer_are_asked_for(
    marketplace: LocalMarketplace, url: str, reader: Reader
) -> None:
    for _ in range(17):
        for slug in ("new-product", "pay-as-you-go", "legacy-product"):
            bought(marketplace, slug)
        marketplace.shop_as_another_buyer()

    first = search(url, PROPOSER, PURCHASE)
    second = search(url, PROPOSER, PURCHASE, nextToken=first["nextToken"])

    assert (len(first["agreementViewSummaries"]), len(second["agreementViewSummaries"])) == (50, 1)
    assert "nextToken" not in second
    assert search(url, PROPOSER, PURCHASE, PURCHASE, nextToken=first["nextToken"])["reason"] == "INVALID_FILTERS"
    active = given_filter("Status", "ACTIVE")
    assert search(url, PROPOSER, PURCHASE, active, nextToken=first["nextToken"])["reason"] == "INVALID_NEXT_TOKEN"
    assert reader.search(size=7) == reader.search() == reader.search(size=1)


CLOCK = Clock()
LEDGER = Ledger(100, CLOCK, monotonic)
for number, slug in enumerate(["new-product", "free-trial", "legacy-product", "pay-as-you-go"] * 4):
    CLOCK.seconds += 86_400
    agreement = LEDGER.buy(f"{number % 3}" * 12, SCENARIOS[slug]).newest
    if number == 4:
        LEDGER.change(agreement.id, "renewed", renew(new_license=True))
    elif number == 6:
        LEDGER.change(agreement.id, "expired", expire)
    elif number in (5, 11):
        LEDGER.change(agreement.id, "cancelled", cancel)
    elif number == 9:
        LEDGER.change(agreement.id, "replaced", replace_by("Team", new_license=False))
AGREEMENTS = LEDGER.known()


def simple_model(agreement: Agreement, name: str, value: str) -> bool:
    if name.startswith(("Before", "After")):
        when = {"EndTime": agreement.ends_at, "StartTime": agreement.starts_at, "LastUpdateTime": agreement.updated_at}
        is_before = name.startswith("Before")
        moment = when[name.removeprefix("Before").removeprefix("After")]
        return moment is not None and (moment < parse(value) if is_before else moment > parse(value))
    return value == {
        "ResourceIdentifier": agreement.product.id,
        "AcceptorAccountId": agreement.account_id,
        "OfferId": agreement.offer_id,
        "Status": agreement.status,
        "InitialAgreementId": agreement.initial_id,
        "LicenseArn": agreement.license_arn,
        "AgreementType": "PurchaseAgreement",
    }.get(name)


def parse(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


texts = {
    "ResourceIdentifier": st.sampled_from(sorted({each.product.id for each in AGREEMENTS})),
    "AcceptorAccountId": st.sampled_from(["0" * 12, "1" * 12, "3" * 12]),
    "OfferId": st.sampled_from([each.offer_id for each in AGREEMENTS]),
    "Status": st.sampled_from(["ACTIVE", "CANCELLED", "EXPIRED", "RENEWED", "REPLACED", "TERMINATED"]),
    "InitialAgreementId": st.sampled_from([each.id for each in AGREEMENTS]),
    "LicenseArn": st.sampled_from([each.license_arn for each in AGREEMENTS if each.license_arn]),
}
zones = st.none() | st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))])
moments = st.builds(
    lambda moment, zone: moment.replace(tzinfo=zone).isoformat(),
    st.datetimes(min_value=datetime(2026, 11, 1), max_value=datetime(2028, 1, 1)) | st.datetimes(),
    zones,
)
dated = {
    f"{when}{what}": moments for when in ("Before", "After") for what in ("EndTime", "StartTime", "LastUpdateTime")
}


@given(st.fixed_dictionaries({}, optional={**texts, **dated}))
def test_all_filters_together_find_what_each_of_them_finds(filters: dict[str, str]) -> None:
    given = dict(list(filters.items())[:8])

    parameters = Parameters({"filters": filters_of(**given)}, "SearchAgreements")
    found = Search.read(parameters).find(AGREEMENTS, SELLER)

    expected = [each for each in AGREEMENTS if all(simple_model(each, name, value) for name, value in given.items())]
    assert {each.id for each in found} == {each.id for each in expected}
    ends = [each.ends_at or datetime.max.replace(tzinfo=UTC) for each in found]
    assert ends == sorted(ends)
    assert read_filters(parameters).keys() == {"PartyType", "AgreementType", *given}
