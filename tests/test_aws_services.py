import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from starlette_marketplace import Agreement, ConfigurationError, Entitlement, RegionError, SettingsError
from starlette_marketplace.aws import Connection
from starlette_marketplace.aws_services import AGREEMENTS, ENTITLEMENTS, METERING, Service
from starlette_marketplace.settings import MarketplaceSettings
from starlette_marketplace.subscriptions.reader import AwsReader
from tests.support.aws import (
    CUSTOMER,
    FakeAws,
    answer,
    described,
    read_with_a_botocore_that_does_not_know_trials,
    reader_of,
)
from tests.support.servers import serve

pytestmark = pytest.mark.usefixtures("environment")


def settings_of(**values: Any) -> MarketplaceSettings:
    return MarketplaceSettings(secret_key="k" * 32, product_codes="*", **values)


def address(service: Service, **values: Any) -> str:
    """Where the service is called with these settings."""
    found: list[str] = []

    def note(client: Any) -> dict[str, object]:
        found.append(client.meta.endpoint_url)
        return {}

    Connection(settings_of(**values)).client().ask(note, service)
    return found[0]


@pytest.mark.parametrize(
    ("region", "entitlements", "agreements"),
    [
        ("us-east-1", "entitlement.marketplace.us-east-1.amazonaws.com", "us-east-1.amazonaws.com"),
        ("eu-central-1", "entitlement.marketplace.us-east-1.amazonaws.com", "us-east-1.amazonaws.com"),
        ("mars-north-1", "entitlement.marketplace.us-east-1.amazonaws.com", "us-east-1.amazonaws.com"),
        ("ap-mars-1", "entitlement.marketplace.us-east-1.amazonaws.com", "us-east-1.amazonaws.com"),
        ("eusc-de-east-1", "entitlement.marketplace.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_the_region_is_the_one_of_the_partition(region: str, entitlements: str, agreements: str) -> None:
    assert address(ENTITLEMENTS, region_name=region) == f"https://{entitlements}"
    assert address(AGREEMENTS, region_name=region) == f"https://agreement-marketplace.{agreements}"
    assert region in address(METERING, region_name=region)


def test_china_has_entitlements_and_no_agreements() -> None:
    assert "cn-northwest-1" in address(ENTITLEMENTS, region_name="cn-north-1")
    with pytest.raises(RegionError, match="AWS has no agreements for the region cn-north-1"):
        address(AGREEMENTS, region_name="cn-north-1")


def test_govcloud_has_neither() -> None:
    for service in (ENTITLEMENTS, AGREEMENTS):
        with pytest.raises(RegionError, match="Do without them: AWS has them in us-east-1 and "):
            address(service, region_name="us-gov-west-1")


def read_both(url: str, **changes: Any) -> tuple[tuple[Entitlement, ...], Agreement]:
    reader = reader_of(url, **changes)
    return reader.get_entitlements(CUSTOMER), reader.get_agreement("agmt-1")


def test_each_service_is_asked_at_its_own_address_and_signed_for_its_region() -> None:
    entitlements, agreements = FakeAws(answer({})), FakeAws(answer(described()))
    with serve(entitlements, lifespan="off") as first, serve(agreements, lifespan="off") as second:
        read_both(first, region_name="eu-west-1", agreement_endpoint_url=second)
    for aws in (entitlements, agreements):
        [call] = aws.calls
        assert call.credential[2:4] == ["us-east-1", "aws-marketplace"]


def test_a_named_address_is_called_from_any_region() -> None:
    aws = FakeAws(answer({}), answer(described()))
    with serve(aws, lifespan="off") as url:
        read_both(url, region_name="us-gov-west-1")
    assert [call.credential[2] for call in aws.calls] == ["us-gov-west-1"] * 2


@pytest.mark.parametrize("variable", [ENTITLEMENTS.variable, "AWS_ENDPOINT_URL"])
def test_the_address_may_come_from_the_environment_of_aws(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    aws = FakeAws(answer({}))
    with serve(aws, lifespan="off") as url:
        monkeypatch.setenv(variable, url)
        reader_of(None, endpoint_url=url).get_entitlements(CUSTOMER)
    assert len(aws.calls) == 1


ASK: list[tuple[Service, Callable[[AwsReader], object]]] = [
    (ENTITLEMENTS, lambda reader: reader.get_entitlements(CUSTOMER)),
    (AGREEMENTS, lambda reader: reader.get_agreement("agmt-1")),
]


@pytest.mark.parametrize(("service", "ask"), ASK)
def test_aws_is_not_asked_about_customers_whom_a_stand_in_has_named(
    service: Service, ask: Callable[[AwsReader], object]
) -> None:
    reader = reader_of(None, endpoint_url="http://user:secret@127.0.0.1:9")
    with pytest.raises(SettingsError) as caught:
        ask(reader)
    assert "Identities come from http://127.0.0.1:9, and " in str(caught.value)
    assert f"Set {service.setting} (MARKETPLACE_{service.setting.upper()}) or {service.variable}" in str(caught.value)


@pytest.mark.parametrize(("service", "ask"), ASK)
def test_a_stand_in_that_is_asked_about_customers_of_aws_is_warned_of(
    service: Service, ask: Callable[[AwsReader], object], caplog: pytest.LogCaptureFixture
) -> None:
    with serve(FakeAws(answer({"Entitlements": []} | described())), lifespan="off") as url:
        changes: dict[str, Any] = {service.setting: url}
        ask(reader_of(None, **changes))
    [record] = (record for record in caplog.records if "which is not AWS" in record.getMessage())
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"Entitlements and agreements are read from {url}, which is not AWS")


@pytest.mark.parametrize("service", [ENTITLEMENTS, AGREEMENTS])
def test_aws_itself_is_not_warned_of(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    address(service)
    assert "which is not AWS" not in caplog.text


def test_a_botocore_that_drops_a_part_of_agreements_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read_with_a_botocore_that_does_not_know_trials(settings_of(), tmp_path, monkeypatch)
    assert "does not know all of DescribeAgreement, so free_trial_ends_at, initial_id" in caplog.text


def test_clients_are_made_when_they_are_first_asked_and_once() -> None:
    client = Connection(settings_of()).client()
    assert list(client._made) == [METERING]
    seen: list[Any] = []

    def note(made: Any) -> dict[str, object]:
        seen.append(made)
        return {}

    for _ in range(2):
        client.ask(note, ENTITLEMENTS)
    assert seen[0] is seen[1]


def test_an_address_that_boto3_does_not_take_is_an_error_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENTITLEMENTS.variable, "nowhere")
    with pytest.raises(ConfigurationError, match="The AWS configuration cannot be used"):
        reader_of(None).get_entitlements(CUSTOMER)
