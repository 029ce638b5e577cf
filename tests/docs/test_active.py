"""The page *Is the subscription active?*: its program for each pricing model, against the local marketplace."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import httpx2
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from starlette_marketplace import (
    AccessDeniedError,
    ConfigurationError,
    Entitlement,
    MarketplaceMiddleware,
    MarketplaceSettings,
    RegionError,
)
from starlette_marketplace.local import SCENARIOS, LocalMarketplace
from starlette_marketplace.testing import FakeReader, add_registration, make_agreement, make_customer
from tests.docs.programs import ROOT, program, running, stored
from tests.example_app.browser import hidden_fields
from tests.support.hosts import LANDING, form

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/after-registration/active.md").read_text()
RESOLD = "agreement-access-denied"
CONTRACTS = ["new-product", "contract-with-consumption", "free-trial", "legacy-product", RESOLD]
WITHOUT_AGREEMENT = ["legacy-product", RESOLD]
each_without_agreement = pytest.mark.parametrize("scenario", WITHOUT_AGREEMENT)
each_contract = pytest.mark.parametrize("scenario", CONTRACTS)
each_model = pytest.mark.parametrize("scenario", [*CONTRACTS, "pay-as-you-go"])
DATABASE = "signups.db"
AGREEMENT_ID = "agmt-1"
BUYER = make_customer(agreement_id=AGREEMENT_ID)
USERS = Entitlement(dimension="users", value=5, expires_at=None)


class Customer:
    """Somebody who signs up, and then calls with the API key."""

    def __init__(self, client: httpx2.Client, marketplace: LocalMarketplace | None = None) -> None:
        self.client = client
        self.marketplace = marketplace or LocalMarketplace()
        self.key = ""

    def arrive(self, scenario: str) -> httpx2.Response:
        return self.client.post(LANDING, data=form(self.marketplace.issue_token(scenario)))

    def sign_up(self, scenario: str) -> httpx2.Response:
        return self.send(hidden_fields(self.arrive(scenario))["registration_id"])

    def send(self, registration_id: str) -> httpx2.Response:
        """The answer to the signup, whose API key is kept."""
        answer = self.client.post("/signup", data={"email": "a@b.example", "registration_id": registration_id})
        self.key = answer.text.rpartition("API key: ")[2]
        return answer

    @property
    def state(self) -> str:
        """What the program lets the customer do, and stores."""
        answer = self.client.get("/reports", headers={"Authorization": f"Bearer {self.key}"})
        [(state,)] = stored(DATABASE, "state")
        assert answer.status_code == (200 if state in ("active", "unconfirmed") else 403)
        return str(state)


@pytest.fixture
def active(environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/src/after_registration/active.py, in an empty folder; no answer of AWS is kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARKETPLACE_CACHE_TTL", "0")
    return program("after_registration/active")


@pytest.fixture
def customer(active: ModuleType, marketplace: LocalMarketplace) -> Iterator[Customer]:
    with TestClient(active.app) as client:
        yield Customer(client, marketplace)


@pytest.mark.parametrize("scenario", sorted({*CONTRACTS, "pay-as-you-go"} - {*WITHOUT_AGREEMENT}))
def test_the_program_lets_a_customer_in_until_the_subscription_is_cancelled(scenario: str, customer: Customer) -> None:
    answer = customer.sign_up(scenario)
    assert answer.text.startswith("Your subscription is active.")
    assert not customer.client.cookies
    assert customer.state == "active"
    customer.marketplace.cancel()
    assert customer.state == "ended"


@each_without_agreement
def test_the_program_allows_an_hour_where_nothing_but_entitlements_says_that_a_contract_is_cancelled(
    scenario: str, active: ModuleType, customer: Customer, caplog: pytest.LogCaptureFixture
) -> None:
    customer.sign_up(scenario)
    customer.marketplace.cancel()
    with caplog.at_level(logging.WARNING, "acme"):
        assert [customer.state, customer.state] == ["unconfirmed", "unconfirmed"]
        vars(active).update(GRACE=timedelta(0))
        assert [customer.state, customer.state] == ["ended", "ended"]
    changes = [record.getMessage() for record in caplog.records if record.name == "acme"]
    assert [change.partition(" was ")[2] for change in changes] == [
        "active and is unconfirmed.",
        "unconfirmed and is ended.",
    ]
    assert customer.marketplace.buyer.account_id not in caplog.text


@each_contract
def test_the_program_allows_an_hour_after_the_end_of_a_contract(
    scenario: str, active: ModuleType, customer: Customer
) -> None:
    customer.sign_up(scenario)
    customer.marketplace.expire()
    assert customer.state == "active"
    vars(active).update(GRACE=timedelta(0))
    assert customer.state == "ended"


@pytest.mark.parametrize("new_license", [False, True])
@pytest.mark.parametrize(
    "follow",
    [
        lambda marketplace, new_license: marketplace.renew(new_license=new_license),
        lambda marketplace, new_license: marketplace.replace(None, "Team", new_license=new_license),
    ],
    ids=["renew", "replace"],
)
def test_the_program_locks_nobody_out_when_another_agreement_follows(
    follow: Callable[[LocalMarketplace, bool], None], new_license: bool, customer: Customer
) -> None:
    customer.sign_up("new-product")
    follow(customer.marketplace, new_license)
    assert customer.state == "active"


def test_the_program_stores_the_agreement_that_a_renewal_has_made(customer: Customer) -> None:
    customer.sign_up("new-product")
    renewed = customer.marketplace.renew()
    assert stored(DATABASE, "agreement_id") != [(renewed.id,)]
    customer.arrive("new-product")
    assert stored(DATABASE, "agreement_id") == [(renewed.id,)]


@each_contract
def test_the_program_lets_a_customer_whose_plan_has_changed_stay(scenario: str, customer: Customer) -> None:
    customer.sign_up(scenario)
    customer.marketplace.change_plan(None, SCENARIOS[scenario].product.plans[-1].name)
    customer.marketplace.suspend()
    assert customer.state == "active"


def test_the_program_waits_for_the_license(customer: Customer) -> None:
    assert "still preparing" in customer.sign_up("not-yet-entitled").text
    assert customer.state == "pending"
    customer.marketplace.prepare()
    assert customer.state == "active"


def test_a_subscription_that_is_cancelled_before_its_license_is_there_has_ended(customer: Customer) -> None:
    customer.sign_up("not-yet-entitled")
    customer.marketplace.cancel()
    assert customer.state == "ended"


@pytest.mark.parametrize("scenario", ["new-product", "pay-as-you-go"])
def test_nobody_signs_up_with_a_subscription_that_has_ended(scenario: str, customer: Customer) -> None:
    customer.arrive(scenario)
    customer.marketplace.cancel()
    answer = customer.sign_up(scenario)
    assert answer.status_code == 403
    assert "has ended" in answer.text
    assert stored(DATABASE) == []


@each_model
def test_the_program_locks_nobody_out_while_aws_fails(
    scenario: str, customer: Customer, caplog: pytest.LogCaptureFixture
) -> None:
    customer.sign_up(scenario)
    customer.marketplace.error_rate = 1.0
    with caplog.at_level(logging.WARNING, "acme"):
        assert customer.state == "active"
    [record] = [record for record in caplog.records if record.name == "acme"]
    assert "stays active." in record.getMessage()
    assert customer.marketplace.buyer.account_id not in record.getMessage()


@pytest.mark.parametrize("scenario", ["new-product", "pay-as-you-go"])
def test_the_program_waits_for_aws_no_longer_than_it_says(
    scenario: str, active: ModuleType, customer: Customer, caplog: pytest.LogCaptureFixture
) -> None:
    customer.sign_up(scenario)
    vars(active).update(PATIENCE=0.01)
    customer.marketplace.delay = 0.5
    with caplog.at_level(logging.WARNING, "acme"):
        assert customer.state == "active"
    assert "AWS has not answered within 0.01 s." in caplog.text


def test_the_program_signs_up_whoever_comes_while_aws_cannot_say_what_they_may_use(customer: Customer) -> None:
    assert "still preparing" in customer.sign_up("entitlements-throttled").text
    assert customer.state == "pending"


@contextmanager
def reading(active: ModuleType, reader: FakeReader, *, cache_ttl: int = 0) -> Iterator[Customer]:
    """Somebody who has signed up with the program, to which `reader` answers for AWS."""
    settings = MarketplaceSettings(secret_key="k" * 32, product_codes="*", cache_ttl=cache_ttl)
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware, settings=settings, reader=reader)
    app.include_router(active.app.router)
    with TestClient(app) as client:
        registration = add_registration(client, settings, customer=BUYER)
        customer = Customer(client)
        customer.send(registration.id)
        yield customer


@pytest.mark.parametrize("error", [RegionError, AccessDeniedError])
def test_where_agreements_cannot_be_read_entitlements_alone_decide(
    error: type[ConfigurationError], active: ModuleType
) -> None:
    """In China there are none to read, which the local marketplace does not play."""
    reader = FakeReader({BUYER.key: [USERS]}, {AGREEMENT_ID: error("not here")})
    with reading(active, reader) as customer:
        assert customer.state == "active"
        reader.entitlements.clear()
        assert customer.state == "unconfirmed"
        reader.entitlements[BUYER.key] = [USERS]
        assert customer.state == "active"
        reader.entitlements.clear()
        assert customer.state == "unconfirmed"
        vars(active).update(GRACE=timedelta(0))
        assert customer.state == "ended"


def test_a_subscription_does_not_end_by_an_empty_answer_when_its_agreement_can_be_read_again(
    active: ModuleType,
) -> None:
    reader = FakeReader({BUYER.key: [USERS]}, {AGREEMENT_ID: AccessDeniedError("not here")})
    with reading(active, reader) as customer:
        reader.entitlements.clear()
        assert customer.state == "unconfirmed"
        reader.agreements[AGREEMENT_ID] = make_agreement(id=AGREEMENT_ID, status="ACTIVE")
        vars(active).update(GRACE=timedelta(0))
        assert customer.state == "active"


def test_the_program_asks_aws_itself_before_it_ends_a_subscription_by_an_empty_answer(active: ModuleType) -> None:
    reader = FakeReader(agreements={AGREEMENT_ID: AccessDeniedError("not here")})
    with reading(active, reader, cache_ttl=300) as customer:
        assert customer.state == "pending"  # an answer that is kept
        active.change_state(BUYER, "unconfirmed")
        reader.entitlements[BUYER.key] = [USERS]
        vars(active).update(GRACE=timedelta(0))
        assert customer.state == "active"


def test_the_program_asks_once_for_many_requests(
    environment: None, marketplace: LocalMarketplace, tmp_path: Path
) -> None:
    with (
        running("after_registration/active", tmp_path) as url,
        httpx2.Client(base_url=url, timeout=60, follow_redirects=True) as client,
    ):
        customer = Customer(client, marketplace)
        for scenario, operation in (("new-product", "GetEntitlements"), ("pay-as-you-go", "DescribeAgreement")):
            customer.sign_up(scenario)
            for _ in range(3):
                answer = client.get("/reports", headers={"Authorization": f"Bearer {customer.key}"})
                assert answer.json()["report"] == "All is well."
            assert [call.operation for call in marketplace.calls].count(operation) == 1
        assert customer.sign_up("new-product").status_code == 409


def test_the_program_refuses_a_form_whose_time_is_over_an_unknown_key_and_other_sites(customer: Customer) -> None:
    typed = {"email": "a@b.example", "registration_id": "gone"}
    assert customer.client.post("/signup", data=typed).status_code == 400
    assert customer.client.post("/signup", data=typed, headers={"Origin": "null"}).status_code == 403
    assert "Find us" in customer.client.get("/signup").text
    for headers in ({}, {"Authorization": "Bearer unknown"}):
        assert customer.client.get("/reports", headers=headers).status_code == 401


def test_the_page_names_the_scenarios_as_they_are() -> None:
    assert set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", PAGE)) <= SCENARIOS.keys()
