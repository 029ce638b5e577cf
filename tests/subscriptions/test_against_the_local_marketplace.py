"""Bought in the local marketplace, resolved, and read over a socket: what was bought is what is read."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from starlette_marketplace import (
    AccessDeniedError,
    AgreementNotFoundError,
    AwsUnavailableError,
    ConfigurationError,
    IncompleteAnswerError,
    Marketplace,
    MarketplaceCustomer,
    MarketplaceError,
    MarketplaceSettings,
    ThrottledError,
)
from starlette_marketplace.local.reading_troubles import READING_TROUBLES
from starlette_marketplace.registration.resolver import AwsResolver
from starlette_marketplace.testing import RunningMarketplace, ScenarioName

pytestmark = pytest.mark.anyio

TEAM = {"users": 25, "sso": False, "tier": "team", "storage_tb": 2.5}
STARTER = {"users": 5, "sso": False, "tier": "starter", "storage_tb": 0.5}


@pytest.fixture
def aws(served_marketplace: RunningMarketplace) -> Iterator[RunningMarketplace]:
    served_marketplace.reset()
    yield served_marketplace
    served_marketplace.reset()


@pytest.fixture
def settings(aws: RunningMarketplace, monkeypatch: pytest.MonkeyPatch) -> MarketplaceSettings:
    for name, value in aws.environment({}).items():
        monkeypatch.setenv(name, value)
    return MarketplaceSettings.from_env()


class Shop:
    """A host that has one customer."""

    def __init__(self, settings: MarketplaceSettings, aws: RunningMarketplace, scenario: ScenarioName) -> None:
        self.customer: MarketplaceCustomer = AwsResolver(settings).resolve(aws.issue_token(scenario))
        self._marketplace = Marketplace(settings)

    async def values(self) -> dict[str, object]:
        entitlements = await self._marketplace.get_entitlements(self.customer, refresh=True)
        return {entitlement.dimension: entitlement.value for entitlement in entitlements}

    async def ends(self) -> set[datetime | None]:
        entitlements = await self._marketplace.get_entitlements(self.customer, refresh=True)
        return {entitlement.expires_at for entitlement in entitlements}

    async def agreement(self) -> Any:
        return await self._marketplace.get_agreement(self.customer.agreement_id or "", refresh=True)


async def test_a_contract_is_read_with_all_types_of_values(
    settings: MarketplaceSettings, aws: RunningMarketplace
) -> None:
    shop = Shop(settings, aws, "new-product")
    values = await shop.values()
    assert values.keys() == TEAM.keys()
    assert [type(value) for value in values.values()] == [int, bool, str, float]
    agreement = await shop.agreement()
    assert agreement.status == "ACTIVE"
    assert agreement.aws_account_id == shop.customer.aws_account_id == aws.account_id
    assert agreement.product_id.startswith("prod-")
    assert agreement.starts_at <= datetime.now(UTC) < agreement.ends_at
    assert agreement.auto_renews is True
    [end] = await shop.ends()
    assert end == agreement.ends_at


async def test_pay_as_you_go_has_an_agreement_without_an_end_and_nothing_else(
    settings: MarketplaceSettings, aws: RunningMarketplace
) -> None:
    shop = Shop(settings, aws, "pay-as-you-go")
    assert await shop.values() == {}
    agreement = await shop.agreement()
    assert (agreement.status, agreement.ends_at) == ("ACTIVE", None)
    aws.cancel(shop.customer.key)
    agreement = await shop.agreement()
    assert (agreement.status, agreement.is_over) == ("CANCELLED", True)


async def test_a_free_trial_ends(settings: MarketplaceSettings, aws: RunningMarketplace) -> None:
    shop = Shop(settings, aws, "free-trial")
    agreement = await shop.agreement()
    assert agreement.free_trial_ends_at - agreement.starts_at == timedelta(days=14)
    assert agreement.auto_renews is False
    assert await shop.ends() == {agreement.free_trial_ends_at}


@pytest.mark.parametrize("scenario", ["legacy-product", "contract-with-consumption", "second-agreement"])
async def test_every_other_contract_is_read_too(
    settings: MarketplaceSettings, aws: RunningMarketplace, scenario: ScenarioName
) -> None:
    shop = Shop(settings, aws, scenario)
    assert await shop.values()
    assert (shop.customer.agreement_id is None) == (scenario == "legacy-product")


async def test_what_becomes_of_a_subscription_is_read(settings: MarketplaceSettings, aws: RunningMarketplace) -> None:
    shop = Shop(settings, aws, "new-product")
    aws.change_plan(shop.customer.key, "Starter")
    assert await shop.values() == STARTER
    aws.suspend(shop.customer.key)
    assert await shop.values() == STARTER
    aws.resume(shop.customer.key)
    aws.replace(shop.customer.key, "Team")
    assert await shop.values() == TEAM
    agreement = await shop.agreement()
    assert (agreement.status, agreement.is_over) == ("REPLACED", False)
    aws.renew(shop.customer.key)
    assert await shop.values() == TEAM
    aws.cancel(shop.customer.key)
    assert await shop.values() == {}


async def test_a_successor_with_another_license_leaves_the_old_one_with_nothing(
    settings: MarketplaceSettings, aws: RunningMarketplace
) -> None:
    shop = Shop(settings, aws, "new-product")
    aws.renew(shop.customer.key, new_license=True)
    assert await shop.values() == {}
    assert (await shop.agreement()).status == "RENEWED"


async def test_what_has_expired_is_read_with_its_end_in_the_past(
    settings: MarketplaceSettings, aws: RunningMarketplace
) -> None:
    shop = Shop(settings, aws, "new-product")
    aws.expire()
    assert await shop.values()
    [end] = await shop.ends()
    assert end is not None
    assert end <= datetime.now(UTC)
    assert (await shop.agreement()).is_over


async def test_a_subscription_that_is_being_prepared_has_nothing_yet(
    settings: MarketplaceSettings, aws: RunningMarketplace
) -> None:
    shop = Shop(settings, aws, "not-yet-entitled")
    assert await shop.values() == {}
    assert (await shop.agreement()).status == "ACTIVE"
    aws.prepare()
    assert await shop.values()
    assert {call.operation for call in aws.calls} == {"ResolveCustomer", "GetEntitlements", "DescribeAgreement"}


Ends = type[MarketplaceError] | None
ENTITLEMENTS: dict[str, Ends] = {
    "not-yet-entitled": None,
    "entitlements-throttled": ThrottledError,
    "entitlements-internal-error": AwsUnavailableError,
    "entitlements-access-denied": AccessDeniedError,
    "entitlements-invalid-parameter": ConfigurationError,
    "entitlements-html-503": AwsUnavailableError,
    "entitlements-not-json": AwsUnavailableError,
    "entitlements-empty-answer": AwsUnavailableError,
    "entitlements-hanging-headers": AwsUnavailableError,
    "entitlements-hanging-body": AwsUnavailableError,
    "entitlements-other-license": IncompleteAnswerError,
    "entitlements-other-account": IncompleteAnswerError,
    "entitlements-other-product": IncompleteAnswerError,
    "entitlements-several-pages": None,
    "entitlements-empty-pages": None,
    "entitlements-no-value": None,
    "entitlements-nulls": IncompleteAnswerError,
    "entitlements-unknown-type": None,
}
AGREEMENTS: dict[str, Ends] = {
    "agreement-access-denied": AccessDeniedError,
    "agreement-not-found": AgreementNotFoundError,
    "agreement-throttled": ThrottledError,
    "agreement-internal-error": AwsUnavailableError,
    "agreement-invalid": AgreementNotFoundError,
    "agreement-html-503": AwsUnavailableError,
    "agreement-hanging-headers": AwsUnavailableError,
    "agreement-unknown-status": None,
    "agreement-nulls": IncompleteAnswerError,
    "agreement-no-members": IncompleteAnswerError,
}


def test_every_scenario_of_reading_is_here() -> None:
    assert {scenario.slug for scenario in READING_TROUBLES} == ENTITLEMENTS.keys() | AGREEMENTS.keys()


@pytest.mark.parametrize("scenario", [*ENTITLEMENTS, *AGREEMENTS])
async def test_a_failure_of_one_service_has_its_answer_and_the_other_goes_on(
    settings: MarketplaceSettings, aws: RunningMarketplace, scenario: ScenarioName, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "hanging" in scenario:
        monkeypatch.setenv("MARKETPLACE_READ_TIMEOUT", "0.25")
    shop = Shop(MarketplaceSettings.from_env(), aws, scenario)
    for ask, ends in ((shop.values, ENTITLEMENTS.get(scenario)), (shop.agreement, AGREEMENTS.get(scenario))):
        if ends is None:
            await ask()
            continue
        with pytest.raises(MarketplaceError) as caught:
            await ask()
        assert type(caught.value) is ends
        assert caught.value.reason


async def test_pages_without_rows_and_pages_with_some_give_all_that_was_bought(
    settings: MarketplaceSettings, aws: RunningMarketplace
) -> None:
    for scenario in ("entitlements-several-pages", "entitlements-empty-pages"):
        assert (await Shop(settings, aws, scenario).values()).keys() == TEAM.keys()
