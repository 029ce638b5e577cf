import gzip
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import botocore
import pytest
import trustme

from starlette_marketplace import MarketplaceSettings
from starlette_marketplace.doctor import examine
from starlette_marketplace.doctor.connection import bounded
from tests.doctor.world import (
    SECRET_KEY,
    SELLER,
    Plant,
    Run,
    World,
    assert_found,
    examined,
    first,
)

FAULTS = {
    "no-such-profile": Plant(
        "aws_config",
        "problem",
        "The config profile (seller) could not be found.",
        "Set profile_name to a profile of the AWS configuration files.",
        {"MARKETPLACE_PROFILE_NAME": "seller"},
    ),
    "broken-config": Plant(
        "aws_config",
        "problem",
        "The AWS configuration cannot be used (ConfigParseError).",
        "Correct the AWS_ variables and the files that they name, by default ~/.aws/config",
        config="[default\n",
    ),
    "no-region": Plant(
        "region",
        "problem",
        "The AWS region is not a valid name.",
        "Set region_name to a region such as us-east-1.",
        {"MARKETPLACE_REGION_NAME": "us_east_1"},
    ),
    "govcloud": Plant(
        "region",
        "problem",
        "AWS Marketplace Metering is not in the region us-gov-west-1",
        "Set region_name to a region that has it, such as us-east-1; GovCloud has none",
        {"MARKETPLACE_REGION_NAME": "us-gov-west-1"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found_and_explained(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, tmp_path: Path, fault: Plant
) -> None:
    assert_found(fault, doctor, environment, tmp_path)


@pytest.mark.parametrize(
    "name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_MARKETPLACE_METERING", "MARKETPLACE_ENDPOINT_URL"]
)
def test_an_address_that_is_not_aws_is_a_warning(
    doctor: Callable[..., Run], world: World, environment: pytest.MonkeyPatch, name: str
) -> None:
    environment.setenv(name, world.url)
    run = doctor()

    assert run.code == 0
    finding = run.one("endpoint", "warning")
    assert f"The calls go to {world.url.removeprefix('http://')}, which is not AWS Marketplace" in finding["message"]
    assert name.removeprefix("MARKETPLACE_").replace("ENDPOINT_URL", "endpoint_url").split("_M")[0].lower() in (
        finding["advice"].lower()
    )
    # AWS's own STS is not asked about the credentials of a stand-in.
    account = run.findings["account"][0]
    assert account["status"] == ("ok" if name == "AWS_ENDPOINT_URL" else "skipped")


@pytest.mark.parametrize(
    "endpoint", ["http://metering.marketplace.us-east-1.amazonaws.com", "https://amazonaws.com.evil.example"]
)
def test_what_only_looks_like_aws_is_a_warning(environment: pytest.MonkeyPatch, endpoint: str) -> None:
    environment.setenv("MARKETPLACE_ENDPOINT_URL", endpoint)

    assert first("endpoint").status == "warning"


def test_a_region_without_the_service_makes_no_difference_to_a_stand_in(
    doctor: Callable[..., Run], world: World, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("MARKETPLACE_ENDPOINT_URL", world.url)
    environment.setenv("MARKETPLACE_REGION_NAME", "us-gov-west-1")

    assert doctor().one("region", "skipped")


def test_china_has_the_service(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MARKETPLACE_REGION_NAME", "cn-northwest-1")

    assert first("region").status == "ok"
    assert first("endpoint").message == "The calls go to metering.marketplace.cn-northwest-1.amazonaws.com.cn."


@pytest.mark.parametrize(
    ("old", "status", "message"),
    [
        ("LicenseArn", "problem", "does not know LicenseArn, so buyers of new products cannot be told apart."),
        ("Metadata", "warning", "does not know Metadata.AgreementId, so agreement_id will be None."),
        ("AgreementId", "warning", "does not know Metadata.AgreementId"),
    ],
)
def test_an_old_model_of_botocore_is_found(
    doctor: Callable[..., Run],
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    old: str,
    status: str,
    message: str,
) -> None:
    folder = "meteringmarketplace/2016-01-14"
    (packed,) = Path(botocore.__file__).parent.joinpath("data", folder).glob("service-2.json.gz")
    model = json.loads(gzip.decompress(packed.read_bytes()))
    for shape in model["shapes"].values():
        shape.get("members", {}).pop(old, None)
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "service-2.json").write_text(json.dumps(model))
    environment.setenv("AWS_DATA_PATH", str(tmp_path))
    run = doctor()

    finding = run.one("botocore", status)
    assert finding["message"].startswith(f"botocore {botocore.__version__} {message}")
    assert "Upgrade botocore to 1.43.111 or newer" in finding["advice"]
    assert run.code == (status == "problem")


def test_a_profile_is_told(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile seller]\nregion = eu-west-1\n")
    environment.setenv("MARKETPLACE_PROFILE_NAME", "seller")

    assert first("aws_config").message == "The AWS configuration can be read, profile seller."
    assert first("region").message == "AWS Marketplace Metering is in the region eu-west-1."


@pytest.mark.parametrize(
    ("ahead", "status", "message"),
    [
        (0, "ok", "agrees with the dates of the answers."),
        (-55, "ok", "agrees with the dates of the answers."),
        (70, "warning", "seconds ahead of the dates of the answers; AWS rejects signatures that are over 5"),
        (-70, "warning", "seconds behind the dates of the answers; AWS rejects signatures that are over 5"),
        (-290, "warning", "seconds behind the dates of the answers"),
        (310, "problem", "seconds ahead of the dates of the answers; AWS rejects signatures"),
        (-4000, "problem", "seconds behind the dates of the answers; AWS rejects signatures"),
    ],
)
def test_the_clock_is_compared_with_that_of_aws(ahead: int, status: str, message: str) -> None:
    found = examined(clock=lambda: datetime.now(UTC) + timedelta(seconds=ahead))["clock"]

    assert found.status == status
    assert message in found.message
    assert ("NTP" in found.advice) is (status != "ok")


@pytest.mark.parametrize(
    ("variables", "checks"),
    [
        ({"AWS_ACCESS_KEY_ID": "expired"}, ["account"]),
        ({"MARKETPLACE_ROLE_ARN": f"arn:aws:iam::{SELLER}:role/denied"}, ["role"]),
    ],
)
def test_a_refusal_of_sts_tells_the_time_too(
    environment: pytest.MonkeyPatch, variables: dict[str, str], checks: list[str]
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    found = examined(clock=lambda: datetime.now(UTC) + timedelta(hours=1))

    assert [check for check, finding in found.items() if finding.status == "problem"] == [*checks, "clock"]
    assert found["permission"].status == "skipped"


def test_an_answer_of_metering_alone_tells_the_time_too(world: World, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MARKETPLACE_ENDPOINT_URL", world.url)
    found = examined(clock=lambda: datetime.now(UTC) + timedelta(hours=1))

    assert found["account"].status == "skipped"
    assert found["clock"].status == "problem"


@pytest.mark.parametrize("ahead", [(0, 3600), (3600, 0), (-3600, 0), (0, -3600)])
def test_an_answer_that_came_late_does_not_make_the_clock_wrong(ahead: tuple[int, int]) -> None:
    assert examined(clock=clock_of(*ahead))["clock"].status == "ok"


def clock_of(*ahead: int) -> Callable[[], datetime]:
    """A clock that is ahead by so many seconds at one look after the other."""
    seconds = iter(ahead)
    return lambda: datetime.now(UTC) + timedelta(seconds=next(seconds))


def test_nobody_waits_for_the_time_limits_of_a_host_that_are_long() -> None:
    settings = MarketplaceSettings(
        secret_key=SECRET_KEY, product_codes="*", connect_timeout=60, read_timeout=60, max_attempts=10
    )
    limited = bounded(settings)

    assert (limited.connect_timeout, limited.read_timeout, limited.max_attempts) == (5, 10, 3)
    assert bounded(limited) == limited
    short = replace(settings, connect_timeout=1, read_timeout=2, max_attempts=1)
    assert bounded(short) == short


def test_a_host_that_tries_often_is_not_waited_for(world: World, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MARKETPLACE_MAX_ATTEMPTS", "5")
    examined(token=world.marketplace.issue_token("internal-error"))

    assert len(world.marketplace.resolve_calls) == 3


def test_what_never_ends_is_waited_for_only_so_long(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "config").write_text("[default]\ncredential_process = sleep 5\n")
    *_, found = (each for each in examine(os.environ, limit=1.5) if each.check == "credentials")

    assert found.message == "AWS did not answer within 1.5 seconds."
    assert found.advice.startswith("Check credential_process, the network")


@pytest.mark.parametrize("bundle", ["another-authority", "no-file", "empty"])
def test_a_certificate_that_is_not_trusted_is_told(
    environment: pytest.MonkeyPatch, tmp_path: Path, bundle: str
) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "another-authority"))
    (tmp_path / "empty").touch()
    environment.setenv("AWS_CA_BUNDLE", str(tmp_path / bundle))
    found = examined()["permission"]

    assert found.status == "problem"
    assert found.message == "The TLS certificate of the endpoint is not trusted (SSLError)."
    assert "name the file of its certificate authority in AWS_CA_BUNDLE; that file must exist" in found.advice
