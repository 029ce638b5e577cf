import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.requests import HTTPConnection

from example_app.plans import Plan, ask_for_plans, decide
from example_app.products import Product, in_words
from starlette_marketplace import (
    AccessDeniedError,
    AgreementNotFoundError,
    Entitlement,
    Marketplace,
    MarketplaceCustomer,
    MarketplaceError,
    MarketplaceSettings,
    ThrottledError,
)
from starlette_marketplace.marketplace import SCOPE_KEY
from starlette_marketplace.testing import FakeReader, make_agreement, make_customer

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LATER, JUST_NOW, LONG_AGO = NOW + timedelta(days=30), NOW - timedelta(minutes=59), NOW - timedelta(minutes=61)
UNREADABLE = None
CONTRACT, USAGE = Product("Acme Analytics", "contract"), Product("Acme Gateway", "pay as you go")

Word = Literal["pending", "active", "ended", "unknown"]


def users(expires_at: datetime | None = LATER, value: int = 25) -> Entitlement:
    return Entitlement(dimension="users", value=value, expires_at=expires_at)


def decided(
    product: Product, entitlements: Sequence[Entitlement], status: str | None, *, was_active: bool = False
) -> Plan:
    agreement = None if status is None else make_agreement(status=status, ends_at=LATER)
    return decide(product, entitlements, agreement, was_active=was_active, now=NOW)


# What follows from what AWS says


@pytest.mark.parametrize("was_active", [False, True])
@pytest.mark.parametrize("pricing", ["contract", "contract with consumption"])
@pytest.mark.parametrize(
    ("expires_at", "status", "word"),
    [
        (LATER, "ACTIVE", "active"),
        (None, "ACTIVE", "active"),
        (LATER, UNREADABLE, "active"),
        (LATER, "RENEWED", "active"),
        (LATER, "PAUSED", "active"),
        # The entitlements are what may be used, whatever the agreement says.
        (LATER, "CANCELLED", "active"),
        (JUST_NOW, "ACTIVE", "active"),
        (JUST_NOW, UNREADABLE, "active"),
        (JUST_NOW, "RENEWED", "active"),
        # No renewal is on its way.
        (JUST_NOW, "EXPIRED", "ended"),
        (LONG_AGO, "EXPIRED", "ended"),
        (LONG_AGO, "ACTIVE", "ended"),
        (LONG_AGO, UNREADABLE, "ended"),
    ],
)
def test_a_contract_is_in_force_until_an_hour_after_its_entitlements_have_expired(
    pricing: Literal["contract", "contract with consumption"],
    expires_at: datetime | None,
    status: str | None,
    word: Word,
    was_active: bool,
) -> None:
    product = Product("Acme", pricing)
    assert decided(product, [users(expires_at)], status, was_active=was_active).status == word


@pytest.mark.parametrize(
    ("status", "at_first", "after_it_was_active"),
    [
        ("ACTIVE", "pending", "active"),
        ("RENEWED", "pending", "active"),
        ("REPLACED", "pending", "active"),
        ("CANCELLED", "ended", "ended"),
        ("EXPIRED", "ended", "ended"),
        ("TERMINATED", "ended", "ended"),
        (UNREADABLE, "pending", "ended"),
        ("PAUSED", "pending", "ended"),
    ],
)
def test_a_contract_without_entitlements_has_not_begun_or_is_over(
    status: str | None, at_first: Word, after_it_was_active: Word
) -> None:
    assert decided(CONTRACT, (), status).status == at_first
    assert decided(CONTRACT, (), status, was_active=True).status == after_it_was_active


@pytest.mark.parametrize("was_active", [False, True])
@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("ACTIVE", "active"),
        ("RENEWED", "active"),
        ("REPLACED", "active"),
        ("CANCELLED", "ended"),
        ("TERMINATED", "ended"),
        ("PAUSED", "unknown"),
        (UNREADABLE, "unknown"),
    ],
)
def test_pay_as_you_go_is_what_the_agreement_is(status: str | None, word: Word, was_active: bool) -> None:
    assert decided(USAGE, (), status, was_active=was_active).status == word


def test_one_dimension_that_has_expired_takes_no_other_away() -> None:
    storage = Entitlement(dimension="storage_tb", value=2.5, expires_at=LONG_AGO)
    plan = decided(CONTRACT, [storage, users()], "ACTIVE")
    assert (plan.status, plan.bought, plan.ends_at) == ("active", {"Users": "25"}, LATER)


def test_the_end_is_that_of_the_entitlements_which_a_renewal_moves() -> None:
    renewed = make_agreement(status="RENEWED", ends_at=JUST_NOW, auto_renews=None)
    plan = decide(CONTRACT, [users(LATER)], renewed, was_active=True, now=NOW)
    assert (plan.status, plan.ends_at, plan.renews) == ("active", LATER, None)


@pytest.mark.parametrize("status", ["ACTIVE", "RENEWED"])
def test_an_end_that_has_passed_is_none_of_what_goes_on(status: str) -> None:
    agreement = make_agreement(status=status, ends_at=JUST_NOW)
    assert decide(CONTRACT, [users(JUST_NOW)], agreement, was_active=True, now=NOW).ends_at is None
    assert decide(CONTRACT, (), agreement, was_active=True, now=NOW).ends_at is None


def test_what_has_expired_ended_at_its_end_and_what_was_canceled_before_it() -> None:
    assert decided(CONTRACT, [users(LONG_AGO)], "EXPIRED").ends_at == LONG_AGO
    assert decided(CONTRACT, (), "CANCELLED").ends_at is None


def test_pay_as_you_go_has_no_end() -> None:
    agreement = make_agreement(ends_at=None, auto_renews=None)
    plan = decide(USAGE, (), agreement, was_active=False, now=NOW)
    assert plan == Plan(status="active")


@pytest.mark.parametrize(("trial_ends_at", "shown"), [(LATER, LATER), (JUST_NOW, None), (None, None)])
def test_a_free_trial_that_is_over_is_shown_no_more(trial_ends_at: datetime | None, shown: datetime | None) -> None:
    agreement = make_agreement(free_trial_ends_at=trial_ends_at, auto_renews=False)
    plan = decide(CONTRACT, [users()], agreement, was_active=False, now=NOW)
    assert (plan.free_trial_ends_at, plan.renews) == (shown, False)


@pytest.mark.parametrize("status", ["ACTIVE", "CANCELLED"])
def test_a_free_trial_is_shown_only_while_it_is_in_force(status: str) -> None:
    agreement = make_agreement(status=status, free_trial_ends_at=LATER)
    assert decide(CONTRACT, (), agreement, was_active=False, now=NOW).free_trial_ends_at is None


def test_dimensions_come_in_the_order_of_the_table_and_new_ones_last() -> None:
    names = ["regions", "sso", "users", "tier"]
    entitlements = [Entitlement(dimension=name, value=1, expires_at=None) for name in names]
    assert list(decided(CONTRACT, entitlements, "ACTIVE").bought) == ["Plan", "Users", "Single sign-on", "regions"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (5, "5"),
        (12_500, "12,500"),
        (0.5, "0.5"),
        (40.0, "40"),
        (True, "Included"),
        (False, "Not included"),
        (None, "Included"),
        ("team", "Team"),
    ],
)
def test_values_are_words_for_people(value: int | float | bool | str | None, words: str) -> None:
    assert in_words(value) == words


# Asking


def buyer_of(product_code: str, agreement_id: str | None = "agmt-1") -> MarketplaceCustomer:
    return make_customer(product_code=product_code, agreement_id=agreement_id)


def connection_to(reader: FakeReader) -> HTTPConnection:
    settings = MarketplaceSettings(secret_key="k" * 32, product_codes="*", cache_ttl=0)
    return HTTPConnection({"type": "http", SCOPE_KEY: Marketplace(settings, reader=reader)})


class Asker:
    """Asks in an event loop of its own: in this thread, Playwright has one for as long as Chromium runs."""

    def __init__(self, portal: BlockingPortal) -> None:
        self._portal = portal

    def plans(
        self, connection: HTTPConnection, customers: dict[MarketplaceCustomer, bool], *, patience: float = 60.0
    ) -> dict[str, Plan]:
        return self._portal.call(partial(ask_for_plans, connection, customers, patience=patience))

    def plan(self, customer: MarketplaceCustomer, reader: FakeReader, *, was_active: bool = False) -> Plan:
        plans = self.plans(connection_to(reader), {customer: was_active})
        assert list(plans) == [customer.key]
        return plans[customer.key]


@pytest.fixture(params=["asyncio", "trio"])
def asker(request: pytest.FixtureRequest) -> Iterator[Asker]:
    with start_blocking_portal(request.param) as portal:
        yield Asker(portal)


def test_each_customer_has_a_plan_and_one_that_aws_does_not_tell_keeps_no_other_back(
    asker: Asker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    customers = [make_customer(product_code="acmeanalytics", agreement_id=None) for _ in range(3)]
    one, other, trouble = customers
    forever = users(expires_at=None)
    reader = FakeReader({one.key: [forever], trouble.key: ThrottledError("AWS throttled the call.")})
    plans = asker.plans(connection_to(reader), {one: False, other: True, trouble: True})
    assert {key: plan.status for key, plan in plans.items()} == {
        one.key: "active",
        other.key: "ended",
        trouble.key: "unknown",
    }
    [record] = [record for record in caplog.records if record.name == "example_app.plans"]
    assert record.getMessage() == f"The plan of account {trouble.masked_account_id} is unknown. AWS throttled the call."


def test_all_customers_are_asked_about_at_the_same_time(asker: Asker) -> None:
    class MeetingReader(FakeReader):
        everybody = threading.Barrier(3, timeout=60)

        def get_entitlements(self, customer: MarketplaceCustomer) -> tuple[Entitlement, ...]:
            self.everybody.wait()
            return (users(expires_at=None),)

    customers = [make_customer(product_code="acmeanalytics", agreement_id=None) for _ in range(3)]
    plans = asker.plans(connection_to(MeetingReader()), dict.fromkeys(customers, False))
    assert {plan.status for plan in plans.values()} == {"active"}


def test_an_answer_that_takes_too_long_is_found_by_the_next_page(asker: Asker) -> None:
    gate = threading.Event()

    class SlowReader(FakeReader):
        def get_entitlements(self, customer: MarketplaceCustomer) -> tuple[Entitlement, ...]:
            gate.wait(60)
            return super().get_entitlements(customer)

    customer = buyer_of("acmeanalytics", agreement_id=None)
    reader = SlowReader({customer.key: [users(expires_at=None)]})
    connection = connection_to(reader)
    plans = asker.plans(connection, {customer: False}, patience=0.01)
    assert plans[customer.key].status == "unknown"
    gate.set()
    plans = asker.plans(connection, {customer: False})
    assert plans[customer.key].status == "active"


@pytest.mark.parametrize(
    ("error", "with_entitlements", "without", "after_it_was_active"),
    [
        (AccessDeniedError("A partner has sold it."), "active", "pending", "ended"),
        (AgreementNotFoundError("There is none."), "active", "pending", "ended"),
        # Whether a contract has not begun or is over is not known: AWS may tell in a moment.
        (ThrottledError("Too often."), "active", "unknown", "unknown"),
    ],
)
def test_without_the_agreement_entitlements_decide(
    asker: Asker, error: MarketplaceError, with_entitlements: Word, without: Word, after_it_was_active: Word
) -> None:
    customer = buyer_of("acmeanalytics")
    reader = FakeReader({customer.key: [users(expires_at=None)]}, {"agmt-1": error})
    assert asker.plan(customer, reader).status == with_entitlements
    reader.entitlements = {}
    assert asker.plan(customer, reader).status == without
    assert asker.plan(customer, reader, was_active=True).status == after_it_was_active


@pytest.mark.parametrize("error", [AccessDeniedError("A partner has sold it."), ThrottledError("Too often.")])
def test_pay_as_you_go_whose_agreement_cannot_be_read_is_unknown(asker: Asker, error: MarketplaceError) -> None:
    assert asker.plan(buyer_of("acmegateway"), FakeReader(agreements={"agmt-1": error})) == Plan()
    assert asker.plan(buyer_of("acmegateway", agreement_id=None), FakeReader()) == Plan()


def test_pay_as_you_go_costs_no_question_about_entitlements(asker: Asker) -> None:
    reader = FakeReader(agreements={"agmt-1": make_agreement(id="agmt-1")})
    assert asker.plan(buyer_of("acmegateway"), reader).status == "active"
    assert reader.calls == ["agmt-1"]


def test_a_product_that_the_table_lacks_counts_as_a_contract(asker: Asker) -> None:
    customer = buyer_of("acmesomethingnew")
    reader = FakeReader({customer.key: [users(expires_at=None)]}, {"agmt-1": make_agreement(id="agmt-1")})
    assert asker.plan(customer, reader).status == "active"


def test_without_customers_nobody_is_asked(asker: Asker) -> None:
    reader = FakeReader()
    assert asker.plans(connection_to(reader), {}) == {}
    assert reader.calls == []
