from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import LoginRefreshRequired

from starlette_marketplace import CredentialsError, MarketplaceSettings
from starlette_marketplace.aws_errors import lookup_error_of
from starlette_marketplace.doctor.aws import Aws, told, utc_now
from tests.doctor.world import (
    AWS_SECRET_KEY,
    KEY_ID,
    ROLE,
    SECRET_KEY,
    SELLER,
    SESSION_TOKEN,
    Plant,
    Run,
    assert_found,
    examined,
    first,
)

FAULTS = {
    "no-credentials": Plant(
        "credentials",
        "problem",
        "No AWS credentials were found.",
        "Give the host a role of the seller account",
        {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
    ),
    "half-the-credentials": Plant(
        "credentials",
        "problem",
        "No AWS credentials could be had (PartialCredentialsError).",
        "Renew or correct them",
        {"AWS_SECRET_ACCESS_KEY": None},
    ),
    "process-fails": Plant(
        "credentials",
        "problem",
        "No AWS credentials could be had (CredentialRetrievalError).",
        "Renew or correct them",
        {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
        config="[default]\ncredential_process = /bin/false\n",
    ),
    "no-session-token": Plant(
        "credentials",
        "problem",
        "their session token is missing",
        "Set AWS_SESSION_TOKEN",
        {"AWS_ACCESS_KEY_ID": f"ASIALOCAL{SELLER}"},
    ),
    "role-denied": Plant(
        "role",
        "problem",
        "role_arn names the role denied. AWS does not allow the call (AssumeRole: AccessDenied, HTTP 403",
        "The trust policy of the role must name the host's own identity",
        {"MARKETPLACE_ROLE_ARN": f"arn:aws:iam::{SELLER}:role/denied"},
    ),
    "external-id-missing": Plant(
        "role",
        "problem",
        "AWS does not allow the call (AssumeRole: AccessDenied",
        "role_external_id must be the one that the trust policy asks for",
        {"MARKETPLACE_ROLE_ARN": f"arn:aws:iam::{SELLER}:role/guarded"},
    ),
    "role-with-expired-credentials": Plant(
        "role",
        "problem",
        "AWS refuses the credentials (AssumeRole: ExpiredToken, HTTP 403",
        "Renew or correct them, and see clock.",
        {"MARKETPLACE_ROLE_ARN": ROLE, "AWS_ACCESS_KEY_ID": "expired"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found_and_explained(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, tmp_path: Path, fault: Plant
) -> None:
    assert_found(fault, doctor, environment, tmp_path)


def test_temporary_credentials_with_their_token_are_right(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", f"ASIALOCAL{SELLER}")
    environment.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    found = examined()

    assert found["credentials"].message == "AWS credentials come from the environment, access key id ending in 6666."
    assert found["account"].status == "ok"


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"AWS_ACCESS_KEY_ID": f"{KEY_ID}\n"}, "AWS_ACCESS_KEY_ID has"),
        ({"AWS_ACCESS_KEY_ID": f" {KEY_ID}"}, "AWS_ACCESS_KEY_ID has"),
        ({"AWS_SECRET_ACCESS_KEY": f"{AWS_SECRET_KEY}\n"}, "AWS_SECRET_ACCESS_KEY has"),
        ({"AWS_SECRET_ACCESS_KEY": f"{AWS_SECRET_KEY} "}, "AWS_SECRET_ACCESS_KEY has"),
        ({"AWS_SESSION_TOKEN": f"{SESSION_TOKEN}\r\n"}, "AWS_SESSION_TOKEN has"),
        ({"AWS_SESSION_TOKEN": f"{SESSION_TOKEN} x"}, "AWS_SESSION_TOKEN has"),
        ({"AWS_SECURITY_TOKEN": f"{SESSION_TOKEN}\n"}, "AWS_SECURITY_TOKEN has"),
        (
            {"AWS_ACCESS_KEY_ID": f"{KEY_ID}\n", "AWS_SECRET_ACCESS_KEY": f"{AWS_SECRET_KEY}\n"},
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY have",
        ),
    ],
)
def test_white_space_in_a_key_of_the_environment_is_found(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    run = doctor()

    assert run.one("credentials", "problem")["message"].startswith(f"{named} white space inside or at an end")
    assert run.findings["permission"][0]["message"] == "There are no credentials to ask with."


def test_white_space_that_makes_no_difference_is_nothing_to_say(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setenv("AWS_SESSION_TOKEN", f" {SESSION_TOKEN} ")
    assert {finding.status for finding in examined().values()} == {"ok", "skipped"}

    # The variables are not what the host calls AWS with.
    (tmp_path / "config").write_text(
        f"[profile seller]\naws_access_key_id = {KEY_ID} \naws_secret_access_key = {AWS_SECRET_KEY}\n"
    )
    environment.setenv("MARKETPLACE_PROFILE_NAME", "seller")
    environment.setenv("AWS_SECRET_ACCESS_KEY", f"{AWS_SECRET_KEY}\n")
    assert {finding.status for finding in examined().values()} == {"ok", "skipped"}


@pytest.mark.parametrize(
    ("config", "credentials", "source"),
    [
        ("", f"[default]\naws_access_key_id={KEY_ID}\naws_secret_access_key=x\n", "the AWS credentials file"),
        (f"[default]\naws_access_key_id={KEY_ID}\naws_secret_access_key=x\n", "", "the AWS configuration file"),
    ],
)
def test_the_source_of_the_credentials_is_told(
    environment: pytest.MonkeyPatch, tmp_path: Path, config: str, credentials: str, source: str
) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "config").write_text(config)
    (tmp_path / "credentials").write_text(credentials)
    found = first("credentials")

    assert found.message == f"AWS credentials come from {source}, access key id ending in {KEY_ID[-4:]}."


def test_a_secret_key_in_the_place_of_the_id_is_not_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", AWS_SECRET_KEY)
    found = first("credentials")

    assert found.message == "AWS credentials come from the environment."


def test_a_login_that_is_over_is_told(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "config").write_text(
        "[default]\nsso_start_url = https://nobody.invalid/start\nsso_region = us-east-1\n"
        "sso_account_id = 444455556666\nsso_role_name = resolver\n"
    )
    found = first("credentials")

    assert found.status == "problem"
    assert found.message.startswith("The login of AWS IAM Identity Center is not there or over (")
    assert found.advice == "Run aws sso login."


def test_a_login_by_aws_login_that_is_over_is_told() -> None:
    """It takes botocore[crt] to get so far."""
    aws = Aws(MarketplaceSettings(secret_key=SECRET_KEY, product_codes="*"), utc_now, 60)

    def refresh() -> None:
        raise LoginRefreshRequired

    with pytest.raises(CredentialsError) as caught:
        aws.ask(refresh, error_of=lookup_error_of)

    assert told(caught.value) == ("The login is not there or over (LoginRefreshRequired).", "Run aws login.")
