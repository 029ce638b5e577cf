"""What becomes of subscriptions, as boto3 sees it."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from starlette_marketplace import MarketplaceCustomer
from starlette_marketplace.local import Agreement, LocalMarketplace
from starlette_marketplace.local.clocks import monotonic
from starlette_marketplace.local.ledger import Ledger
from starlette_marketplace.local.scenarios import SCENARIOS
from tests.local.clients import Aws
from tests.local.readers import Reader, in_utc
from tests.local.timers import Clock, Timer
from tests.support.servers import serve

STARTER = {"users": 5, "sso": False, "tier": "starter", "storage_tb": 0.5}
TEAM = {"users": 25, "sso": False, "tier": "team", "storage_tb": 2.5}
ENTERPRISE = {"users": 500, "sso": True, "tier": "enterprise", "storage_tb": 40.0}


@pytest.fixture
def agreement(marketplace: LocalMarketplace) -> Agreement:
    return bought(marketplace)


def bought(marketplace: LocalMarketplace, scenario: str = "new-product") -> Agreement:
    marketplace.issue_token(scenario)
    return marketplace.buyer.agreements(SCENARIOS[scenario])[0]


def customer_of(aws: Aws, token: str) -> MarketplaceCustomer:
    answer = aws.resolve(token)
    return MarketplaceCustomer(
        aws_account_id=answer["CustomerAWSAccountId"],
        product_code=answer["ProductCode"],
        license_arn=answer.get("LicenseArn"),
        customer_identifier=answer.get("CustomerIdentifier"),
        agreement_id=answer.get("Metadata", {}).get("AgreementId"),
    )


def test_another_plan_is_what_the_buyer_may_use_from_then_on(
    marketplace: LocalMarketplace, reader: Reader, agreement: Agreement
) -> None:
    assert reader.entitled(agreement) == STARTER

    for plan, entitlements in (("Enterprise", ENTERPRISE), ("Team", TEAM), ("Team", TEAM)):
        changed = marketplace.change_plan(agreement.id, plan)

        assert changed.plan
        assert (changed.id, changed.plan.name, changed.status) == (agreement.id, plan, "ACTIVE")
        assert reader.entitled(agreement) == entitlements
    assert reader.describe(agreement.id)["status"] == "ACTIVE"


def test_after_a_cancellation_the_entitlements_are_gone(
    marketplace: LocalMarketplace, reader: Reader, agreement: Agreement
) -> None:
    other = bought(marketplace, "second-agreement")

    cancelled = marketplace.cancel(agreement.id)

    assert cancelled.status == "CANCELLED"
    assert reader.page(Filter={"LICENSE_ARN": [agreement.license_arn]}) == {}
    assert reader.entitled(other) == STARTER
    described = reader.describe(agreement.id)
    assert described["status"] == "CANCELLED"
    assert in_utc(described["endTime"]) == agreement.ends_at
    assert "endTimeBehavior" not in described
    assert reader.found(Status="CANCELLED") == [agreement.id]


def test_pay_as_you_go_can_be_cancelled_and_only_the_agreement_tells(
    marketplace: LocalMarketplace, reader: Reader
) -> None:
    agreement = bought(marketplace, "pay-as-you-go")

    marketplace.cancel()

    assert reader.describe(agreement.id)["status"] == "CANCELLED"


def test_after_an_expiry_the_entitlements_stay_with_a_date_in_the_past() -> None:
    clock = Clock()
    marketplace = LocalMarketplace(clock=clock)
    agreement = bought(marketplace)
    clock.seconds += 3600.1234
    ended_at = clock.now

    expired = marketplace.expire()

    clock.seconds += 1
    with serve(marketplace) as url, Reader(url) as reader:
        assert reader.entitled(agreement) == STARTER
        rows = reader.rows(LICENSE_ARN=[agreement.license_arn or ""])
        (end,) = {in_utc(row["ExpirationDate"]) for row in rows}
        assert end == expired.ends_at
        assert abs(end - ended_at) < timedelta(milliseconds=1)
        described = reader.describe(agreement.id)
        assert (described["status"], in_utc(described["endTime"])) == ("EXPIRED", end)


def test_an_end_date_that_has_come_already_stays() -> None:
    clock = Clock()
    marketplace = LocalMarketplace(clock=clock)
    agreement = bought(marketplace)
    clock.seconds += timedelta(days=400).total_seconds()

    assert marketplace.agreement().status == "ACTIVE"
    assert marketplace.expire().ends_at == agreement.ends_at


def test_a_free_trial_can_expire_or_become_a_contract(marketplace: LocalMarketplace, reader: Reader) -> None:
    trial = bought(marketplace, "free-trial")
    expired = marketplace.expire()
    assert expired.free_trial_ends_at == expired.ends_at != trial.ends_at

    marketplace.shop_as_another_buyer()
    trial = bought(marketplace, "free-trial")
    contract = marketplace.replace(None, "Team")

    assert contract.free_trial_ends_at is None
    assert contract.ends_at
    assert contract.ends_at - contract.starts_at == timedelta(days=365)
    assert "freeTrialSummary" not in reader.describe(contract.id)
    assert reader.describe(contract.id)["endTimeBehavior"]["type"] == "RENEW"
    assert reader.entitled(trial) == TEAM


@pytest.mark.parametrize("new_license", [False, True])
@pytest.mark.parametrize(
    ("follow", "status", "entitlements"),
    [
        (lambda marketplace, **options: marketplace.renew(**options), "RENEWED", STARTER),
        (lambda marketplace, **options: marketplace.replace(None, "Enterprise", **options), "REPLACED", ENTERPRISE),
    ],
    ids=["renew", "replace"],
)
def test_another_agreement_follows_with_the_same_license_or_a_new_one(
    marketplace: LocalMarketplace,
    aws: Aws,
    reader: Reader,
    follow: Callable[..., Agreement],
    status: str,
    entitlements: dict[str, object],
    new_license: bool,
) -> None:
    token = marketplace.issue_token("new-product")
    first = aws.resolve(token)

    successor = follow(marketplace, new_license=new_license)

    second = aws.resolve(token)
    assert second["Metadata"]["AgreementId"] == successor.id != first["Metadata"]["AgreementId"]
    assert second["LicenseArn"] == successor.license_arn
    assert (first["LicenseArn"] == second["LicenseArn"]) is not new_license
    before, after = (reader.describe(answer["Metadata"]["AgreementId"]) for answer in (first, second))
    assert (before["status"], after["status"]) == (status, "ACTIVE")
    assert after["initialAgreementId"] == before["agreementId"] == successor.previous_id
    same_offer = before["proposalSummary"]["offerId"] == after["proposalSummary"]["offerId"]
    assert same_offer is (status == "RENEWED")
    assert reader.entitled(successor) == entitlements
    rows = reader.rows(LICENSE_ARN=[first["LicenseArn"]])
    assert len(rows) == (0 if new_license else 4)
    assert len(reader.rows()) == 4
    marketplace.reset()


def test_a_renewal_begins_when_the_agreement_ends_and_can_be_renewed_again() -> None:
    clock = Clock()
    marketplace = LocalMarketplace(clock=clock)
    first = bought(marketplace)
    clock.seconds += 60

    second = marketplace.renew()
    clock.seconds += 60
    third = marketplace.renew()

    assert first.accepted_at < second.starts_at < third.starts_at
    assert marketplace.agreement(first.id).ends_at == second.starts_at
    assert marketplace.agreement(first.id).next_id == second.id
    assert (third.previous_id, third.initial_id) == (second.id, first.id)
    assert marketplace.buyer.agreements(SCENARIOS["new-product"]) == [third]


def test_a_legacy_customer_stays_the_same_on_a_renewal(marketplace: LocalMarketplace, aws: Aws, reader: Reader) -> None:
    token = marketplace.issue_token("legacy-product")
    customer = aws.resolve(token)

    renewed = marketplace.renew(new_license=True)

    assert renewed.license_arn is None
    assert aws.resolve(token) == customer
    assert len(reader.rows("acmelegacy", CUSTOMER_IDENTIFIER=[customer["CustomerIdentifier"]])) == 1


def test_an_advisory_changes_no_answer(marketplace: LocalMarketplace, reader: Reader, agreement: Agreement) -> None:
    def answers() -> list[object]:
        return [reader.rows(), reader.search(), reader.describe(agreement.id)]

    before = answers()

    assert marketplace.suspend().advisory_since is not None
    assert answers() == before
    assert marketplace.resume().advisory_since is None
    assert answers() == before


def test_a_license_that_is_not_active_yet_has_no_entitlements_until_20_seconds_after_the_buyer_has_come() -> None:
    timer = Timer()
    marketplace = LocalMarketplace(timer=timer)
    token = marketplace.issue_token("not-yet-entitled")
    timer.seconds += 100

    with serve(marketplace) as url, Aws(url) as aws, Reader(url) as reader:
        customer = customer_of(aws, token)
        agreement = marketplace.agreement(customer.agreement_id)
        timer.seconds += 19.9
        customer_of(aws, token)
        assert reader.page(Filter={"LICENSE_ARN": [customer.license_arn]}) == {}
        assert reader.describe(agreement.id)["status"] == "ACTIVE"
        assert marketplace.agreement().is_pending

        timer.seconds += 0.1

        assert reader.entitled(agreement) == STARTER
        assert not marketplace.agreement().is_pending


def test_a_license_can_be_made_active_at_once(marketplace: LocalMarketplace, aws: Aws, reader: Reader) -> None:
    aws.resolve(marketplace.issue_token("not-yet-entitled"))

    agreement = marketplace.prepare()

    assert reader.entitled(agreement) == STARTER


def test_what_was_cancelled_before_its_license_was_active_stays_without() -> None:
    timer = Timer()
    marketplace = LocalMarketplace(timer=timer)
    with serve(marketplace) as url, Aws(url) as aws, Reader(url) as reader:
        aws.resolve(marketplace.issue_token("not-yet-entitled"))
        cancelled = marketplace.cancel()
        timer.seconds += 100

        assert marketplace.agreement() == cancelled
        assert reader.rows() == []


@pytest.mark.parametrize("scenario", ["new-product", "legacy-product"])
def test_an_agreement_has_the_names_that_a_host_knows_it_by(
    marketplace: LocalMarketplace, aws: Aws, scenario: str
) -> None:
    customer = customer_of(aws, marketplace.issue_token(scenario))
    marketplace.issue_token("second-agreement")

    names = [customer.key, customer.license_arn, customer.customer_identifier, customer.agreement_id]
    found = [marketplace.agreement(name) for name in names if name]

    assert len(found) in (2, 3)
    assert len({agreement.id for agreement in found}) == 1
    assert found[0].account_id == customer.aws_account_id
    if customer.license_arn:
        tail = customer.license_arn.rpartition(":")[2]
        for printed in (tail, f"aws:license-manager:us-east-1:111122223333:{tail}"):
            assert marketplace.agreement(printed) == found[0]


def test_a_license_and_a_customer_name_the_newest_agreement_and_an_id_names_its_own(
    marketplace: LocalMarketplace, agreement: Agreement
) -> None:
    renewed = marketplace.renew()

    assert agreement.license_arn
    assert marketplace.agreement(agreement.license_arn) == renewed
    assert marketplace.agreement(agreement.id).status == "RENEWED"
    again = marketplace.renew(new_license=True)
    assert marketplace.agreement(agreement.license_arn) == again


def test_none_is_the_agreement_whose_token_was_issued_last(marketplace: LocalMarketplace) -> None:
    marketplace.issue_token("new-product")
    agreement = marketplace.buy_again("new-product")
    marketplace.issue_token("new-product", agreement=agreement)
    assert marketplace.agreement() == agreement

    renewed = marketplace.renew()
    assert marketplace.agreement() == renewed
    marketplace.issue_token("legacy-product")
    assert marketplace.agreement().product.code == "acmelegacy"


CLOSED = r"You cannot {}: agmt-\w+ is CANCELLED. Buy again."


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda marketplace: marketplace.cancel(), "cancel it"),
        (lambda marketplace: marketplace.expire(), "let it expire"),
        (lambda marketplace: marketplace.renew(), "renew it"),
        (lambda marketplace: marketplace.replace(None, "Team"), "replace it"),
        (lambda marketplace: marketplace.change_plan(None, "Team"), "change its plan"),
        (lambda marketplace: marketplace.suspend(), "suspend it"),
        (lambda marketplace: marketplace.prepare(), "prepare its license"),
    ],
)
def test_nothing_happens_to_what_is_over(
    marketplace: LocalMarketplace,
    agreement: Agreement,
    change: Callable[[LocalMarketplace], Agreement],
    what: str,
) -> None:
    cancelled = marketplace.cancel()

    with pytest.raises(ValueError, match=CLOSED.format(what)):
        change(marketplace)
    assert marketplace.agreement(agreement.id) == cancelled


def test_of_what_was_renewed_the_error_names_the_successor(marketplace: LocalMarketplace, agreement: Agreement) -> None:
    renewed = marketplace.renew()

    with pytest.raises(ValueError, match=f"is RENEWED. Name the agreement that follows it, {renewed.id}."):
        marketplace.cancel(agreement.id)
    assert marketplace.cancel(renewed.id).status == "CANCELLED"


@pytest.mark.parametrize(
    ("scenario", "change", "message"),
    [
        ("pay-as-you-go", lambda marketplace: marketplace.renew(), "has no end date. Cancel it instead."),
        ("pay-as-you-go", lambda marketplace: marketplace.expire(), "has no end date. Cancel it instead."),
        ("pay-as-you-go", lambda marketplace: marketplace.change_plan(None, "Team"), "pay as you go and has no plans"),
        ("pay-as-you-go", lambda marketplace: marketplace.replace(None, "Team"), "pay as you go and has no plans"),
        ("free-trial", lambda marketplace: marketplace.renew(), "is a free trial, which is not renewed. Replace it."),
        ("new-product", lambda marketplace: marketplace.change_plan(None, "team"), "Starter, Team, Enterprise"),
        ("new-product", lambda marketplace: marketplace.resume(), "is not suspended. Suspend it first."),
        ("new-product", lambda marketplace: marketplace.prepare(), "is active already"),
        ("new-product", lambda marketplace: marketplace.cancel("agmt-1"), "knows no agreement 'agmt-1'. Name one by"),
        ("new-product", lambda marketplace: marketplace.cancel(""), "knows no agreement ''. Name one by"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    marketplace: LocalMarketplace, scenario: str, change: Callable[[LocalMarketplace], Agreement], message: str
) -> None:
    before = bought(marketplace, scenario)

    with pytest.raises(ValueError, match=message):
        change(marketplace)
    assert marketplace.agreement() == before


def test_who_is_suspended_cannot_be_suspended_again(marketplace: LocalMarketplace, agreement: Agreement) -> None:
    marketplace.suspend(agreement.id)

    with pytest.raises(ValueError, match=r"is suspended already\. Resume it first\."):
        marketplace.suspend(agreement.id)


def test_without_a_token_no_agreement_is_meant(marketplace: LocalMarketplace) -> None:
    with pytest.raises(ValueError, match=r"No registration token was issued yet\. Issue one"):
        marketplace.cancel()


def test_buyers_before_can_still_be_read_and_changed(
    marketplace: LocalMarketplace, reader: Reader, agreement: Agreement
) -> None:
    for _ in range(20):
        marketplace.shop_as_another_buyer()

    assert reader.entitled(agreement) == STARTER
    marketplace.cancel(agreement.id)
    assert reader.rows() == []


def test_a_reset_forgets_every_agreement(marketplace: LocalMarketplace, reader: Reader, agreement: Agreement) -> None:
    marketplace.reset()

    assert (reader.rows(), reader.search()) == ([], [])
    with pytest.raises(ValueError, match="knows no agreement"):
        marketplace.issue_token("new-product", agreement=agreement)


def test_everything_that_happens_is_in_one_ledger_with_its_time() -> None:
    clock, timer = Clock(), Timer()
    marketplace = LocalMarketplace(clock=clock, timer=timer)
    ledger = marketplace._ledger
    bought(marketplace, "not-yet-entitled")
    steps: list[Callable[[], Agreement]] = [
        marketplace.prepare,
        marketplace.suspend,
        marketplace.resume,
        lambda: marketplace.change_plan(None, "Team"),
        lambda: marketplace.replace(None, "Enterprise"),
        marketplace.renew,
        marketplace.expire,
    ]
    for step in steps:
        clock.seconds += 1
        step()
    bought(marketplace)
    marketplace.cancel()

    assert [entry.action for entry in ledger.entries] == [
        "bought",
        "prepared",
        "suspended",
        "resumed",
        "plan changed",
        "replaced",
        "renewed",
        "expired",
        "bought",
        "cancelled",
    ]
    assert [len(entry.agreements) for entry in ledger.entries] == [1, 1, 1, 1, 1, 2, 2, 1, 1, 1]
    seconds = [entry.at.timestamp() - ledger.entries[0].at.timestamp() for entry in ledger.entries]
    assert seconds == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7]


def test_a_license_that_becomes_active_by_itself_is_in_the_ledger_once() -> None:
    timer = Timer()
    marketplace = LocalMarketplace(timer=timer)
    with serve(marketplace) as url, Aws(url) as aws:
        aws.resolve(marketplace.issue_token("not-yet-entitled"))
        timer.seconds += 20
        for _ in range(3):
            aws.resolve(marketplace.issue_token("not-yet-entitled"))

    assert [entry.action for entry in marketplace._ledger.entries] == ["bought", "prepared"]


def test_only_so_many_subscriptions_are_remembered() -> None:
    ledger = Ledger(2, Clock(), monotonic)
    first, second, third = (ledger.buy("123456789012", SCENARIOS["new-product"]).newest for _ in range(3))

    assert ledger.known() == [second, third]
    assert len(ledger.entries) == 2
    with pytest.raises(ValueError, match="knows no agreement"):
        ledger.find(first.id)


def test_two_tests_that_look_at_once_at_a_new_buyer_see_one_agreement(marketplace: LocalMarketplace) -> None:
    found: list[Agreement] = []
    barrier = threading.Barrier(8)

    def look() -> None:
        barrier.wait()
        found.extend(marketplace.buyer.agreements(SCENARIOS["new-product"]))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({agreement.id for agreement in found}) == 1
