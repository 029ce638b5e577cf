from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.responses import (
    JSONResponse,
    Response,
)

from tests.doctor.world import (
    AWS_SECRET_KEY,
    KEY_ID,
    OTHER,
    ROLE,
    SELLER,
    SESSION_TOKEN,
    Plant,
    Run,
    World,
    assert_found,
    examined,
    first,
)
from tests.support.network import refusing
from tests.support.servers import serve

FAULTS = {
    "no-credentials": Plant(
        "credentials",
        "problem",
        "No AWS credentials were found.",
        "Give your app a role, or a profile, of the seller account",
        {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
    ),
    "half-the-credentials": Plant(
        "credentials",
        "problem",
        "AWS credentials could not be looked up (PartialCredentialsError).",
        "Renew or correct them",
        {"AWS_SECRET_ACCESS_KEY": None},
    ),
    "process-fails": Plant(
        "credentials",
        "problem",
        "AWS credentials could not be looked up (CredentialRetrievalError).",
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
        "The role cannot be assumed (AssumeRole: AccessDenied, HTTP 403",
        "Allow sts:AssumeRole to your app's own identity, in the role's trust policy",
        {"MARKETPLACE_ROLE_ARN": f"arn:aws:iam::{SELLER}:role/denied"},
    ),
    "external-id-missing": Plant(
        "role",
        "problem",
        "The role cannot be assumed (AssumeRole: AccessDenied",
        "check role_arn and role_external_id",
        {"MARKETPLACE_ROLE_ARN": f"arn:aws:iam::{SELLER}:role/guarded"},
    ),
    "role-with-expired-credentials": Plant(
        "role",
        "problem",
        "AWS refused us credentials (AssumeRole: ExpiredToken, HTTP 403",
        "Renew those that we asked with, and check this machine's clock.",
        {"MARKETPLACE_ROLE_ARN": ROLE, "AWS_ACCESS_KEY_ID": "expired"},
    ),
    "expired-credentials": Plant(
        "account",
        "problem",
        "AWS refused us credentials (GetCallerIdentity: ExpiredToken, HTTP 403",
        "Renew those that we asked with, and check this machine's clock.",
        {"AWS_ACCESS_KEY_ID": "expired"},
    ),
    "unknown-credentials": Plant(
        "account",
        "problem",
        "AWS refused us credentials (GetCallerIdentity: InvalidClientTokenId, HTTP 403",
        "Renew those",
        {"AWS_ACCESS_KEY_ID": "unknown"},
    ),
    "account-not-named": Plant(
        "account",
        "warning",
        "by user/local, and doctor does not know whether it is the account that published the product.",
        "Set seller_account_id to that account.",
        {"MARKETPLACE_SELLER_ACCOUNT_ID": None},
    ),
    "another-account": Plant(
        "account",
        "problem",
        "made from account ********4321, by user/local, not from the seller account ********6666",
        "or a role_arn; or correct seller_account_id.",
        {"AWS_ACCESS_KEY_ID": f"AKIALOCAL{OTHER}"},
    ),
    "role-of-another-account": Plant(
        "account",
        "problem",
        "********4321, by assumed-role/resolver/starlette-marketplace, not from the seller account",
        "Give your app credentials of the account that published the product",
        {"MARKETPLACE_ROLE_ARN": ROLE},
    ),
}


@pytest.fixture(params=["local", "moto"])
def sts(request: pytest.FixtureRequest, world: World, environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A host that calls the local marketplace, and one or the other STS."""
    url = world.url if request.param == "local" else request.getfixturevalue("moto")
    environment.setenv("AWS_ENDPOINT_URL_STS", url)
    environment.setenv("MARKETPLACE_ENDPOINT_URL", world.url)
    environment.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    return environment


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found_and_explained(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, tmp_path: Path, fault: Plant
) -> None:
    assert_found(fault, doctor, environment, tmp_path)


def test_temporary_credentials_with_their_token_are_right(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", f"ASIALOCAL{SELLER}")
    environment.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    found = examined()

    assert found["credentials"].message == "AWS credentials were found (env, access key id ending in 6666)."
    assert found["account"].status == "ok"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AWS_ACCESS_KEY_ID", f"{KEY_ID}\n"),
        ("AWS_ACCESS_KEY_ID", f" {KEY_ID}"),
        ("AWS_SECRET_ACCESS_KEY", f"{AWS_SECRET_KEY}\n"),
        ("AWS_SECRET_ACCESS_KEY", f"{AWS_SECRET_KEY} "),
        ("AWS_SESSION_TOKEN", f"{SESSION_TOKEN}\r\n"),
        ("AWS_SESSION_TOKEN", f"{SESSION_TOKEN} x"),
        ("AWS_SECURITY_TOKEN", f"{SESSION_TOKEN}\n"),
    ],
)
def test_white_space_in_a_key_is_found(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    environment.setenv(variable, value)
    run = doctor()

    found = run.one("credentials", "problem")
    assert found["message"].startswith("The AWS credentials are incomplete, or contain white space")
    assert "often ends in a newline" in found["advice"]
    for check in ("role", "account", "permission"):
        assert run.one(check, "skipped")["message"] == "See credentials."


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
        ("", f"[default]\naws_access_key_id={KEY_ID}\naws_secret_access_key=x\n", "shared-credentials-file"),
        (f"[default]\naws_access_key_id={KEY_ID}\naws_secret_access_key=x\n", "", "config-file"),
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

    assert found.message == f"AWS credentials were found ({source}, access key id ending in {KEY_ID[-4:]})."


def test_a_secret_key_in_the_place_of_the_id_is_not_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", AWS_SECRET_KEY)
    found = first("credentials")

    assert found.message == "AWS credentials were found (env)."


def test_a_login_that_is_over_is_told(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "config").write_text(
        "[default]\nsso_start_url = https://nobody.invalid/start\nsso_region = us-east-1\n"
        "sso_account_id = 444455556666\nsso_role_name = resolver\n"
    )
    found = first("credentials")

    assert found.status == "problem"
    assert found.message.startswith("The AWS login cannot be used (")
    assert found.advice == "Run aws sso login or aws login again; on a server, use a role."


@pytest.mark.parametrize(
    ("scenario", "status", "message", "advice"),
    [
        (
            "access-denied",
            "problem",
            "Our credentials lack a permission (ResolveCustomer: AccessDeniedException, HTTP 400",
            'Allow the action aws-marketplace:ResolveCustomer on the resource "*"; if a policy does',
        ),
        (
            "invalid-signature",
            "problem",
            "AWS rejected our credentials (ResolveCustomer: InvalidSig",
            "Renew them, and check",
        ),
        ("unrecognized-client", "problem", "AWS rejected our credentials", "Renew them"),
        ("expired-credentials", "problem", "AWS rejected our credentials (ResolveCustomer: Expired", "Renew them"),
        ("disabled-api", "problem", "ResolveCustomer is disabled in this region", "Change region_name."),
        ("throttled", "warning", "AWS throttled the call", "AWS accepts the credentials; run doctor again"),
        (
            "internal-error",
            "problem",
            "AWS failed (ResolveCustomer: InternalServiceError",
            "if the problem persists, see the AWS Health Dashboard",
        ),
        (
            "html-503",
            "problem",
            "AWS failed (ResolveCustomer: 503",
            "if the problem persists, see the AWS Health Dashboard",
        ),
        (
            "not-json",
            "problem",
            "The answer from AWS is empty (",
            "check endpoint_url and the proxies on the way",
        ),
        ("expired", "warning", "with ExpiredTokenException, which does not prove the permission.", "a real token"),
        ("no-account-id", "problem", "A made-up token was taken for that of a customer", "See endpoint"),
        ("new-product", "problem", "A made-up token was taken for that of a customer", "See endpoint"),
        (
            "hanging-headers",
            "problem",
            "AWS was not reached (ReadTimeoutError)",
            "check the network",
        ),
        ("invalid", "ok", "AWS answered a made-up token with InvalidTokenException", ""),
    ],
)
def test_every_answer_to_the_made_up_token_is_explained(
    world: World, environment: pytest.MonkeyPatch, scenario: str, status: str, message: str, advice: str
) -> None:
    if scenario.startswith("hanging"):
        environment.setenv("MARKETPLACE_READ_TIMEOUT", "0.3")
    found = examined(token=world.marketplace.issue_token(scenario))["permission"]

    assert found.status == status
    assert message in found.message
    assert advice.casefold() in found.advice.casefold()


def test_a_network_without_aws_is_a_problem_and_the_account_could_not_be_told(world: World) -> None:
    with refusing() as nobody, pytest.MonkeyPatch.context() as patch:
        patch.setitem(world.internet.upstreams, ".amazonaws.com", nobody)
        found = examined()

    assert found["account"].status == "warning"
    assert found["account"].message.startswith("STS did not say whose account it is. AWS was not reached (")
    assert "make sure yourself" in found["account"].advice
    assert found["permission"].status == "problem"
    assert found["permission"].message.startswith("AWS was not reached (")
    assert found["clock"].message == "No answer from AWS had a date to compare the clock with."


def test_an_sts_that_says_nothing_is_a_warning(environment: pytest.MonkeyPatch) -> None:
    empty = "<GetCallerIdentityResponse><GetCallerIdentityResult/></GetCallerIdentityResponse>"
    with serve(Response(empty, media_type="text/xml")) as url:
        environment.setenv("AWS_ENDPOINT_URL_STS", url)
        found = examined()["account"]
    assert (found.status, found.message) == ("warning", "STS did not say whose account it is.")


def test_a_token_that_is_refused_for_its_form_proves_no_permission(
    world: World, environment: pytest.MonkeyPatch
) -> None:
    with serve(JSONResponse({"__type": "ValidationException"}, 400)) as url:
        environment.setitem(world.internet.upstreams, ".amazonaws.com", url)
        found = examined()["permission"]
    assert found.status == "warning"
    assert "with ValidationException, which does not prove the permission" in found.message


@pytest.mark.parametrize("code", ["InvalidTokenException", "ValidationException"])
def test_what_stands_in_for_aws_proves_nothing(environment: pytest.MonkeyPatch, code: str) -> None:
    with serve(JSONResponse({"__type": code}, 400)) as url:
        environment.setenv("MARKETPLACE_ENDPOINT_URL", url)
        found = examined()["permission"]
    assert "proves nothing about AWS" in found.message


@pytest.mark.parametrize(
    "error",
    [
        "<Error><Code>AKIA/20261123/us-east-1/sts, Signature=0123</Code></Error>",
        "<Error><Code></Code></Error><RequestId></RequestId>",
        "",
    ],
    ids=["quotes-the-request", "empty", "missing"],
)
def test_a_code_that_cannot_be_read_is_not_shown(environment: pytest.MonkeyPatch, error: str) -> None:
    with serve(Response(f"<ErrorResponse>{error}</ErrorResponse>", 403, media_type="text/xml")) as url:
        environment.setenv("AWS_ENDPOINT_URL_STS", url)
        found = examined()["account"]
    assert found.status == "problem"
    assert found.message == (
        "AWS refused us credentials (GetCallerIdentity: an unreadable code, HTTP 403, AWS request id none)."
    )


@pytest.mark.parametrize(
    ("role", "seller", "status", "message"),
    [
        (None, "123456789012", "ok", "The calls are made from the seller account, ********9012, by user/"),
        (None, SELLER, "problem", "from account ********9012, by user/"),
        (None, None, "warning", "and doctor does not know whether"),
        (ROLE, OTHER, "ok", "********4321, by assumed-role/resolver/starlette-marketplace."),
        (ROLE, "123456789012", "problem", "from account ********4321, by assumed-role/resolver/starlette-marketplace"),
        (ROLE, None, "warning", "from account ********4321, by assumed-role/resolver/starlette-marketplace"),
    ],
)
def test_both_sts_say_whose_account_it_is(
    sts: pytest.MonkeyPatch, role: str | None, seller: str | None, status: str, message: str
) -> None:
    for name, value in (("ROLE_ARN", role), ("SELLER_ACCOUNT_ID", seller)):
        sts.setenv(f"MARKETPLACE_{name}", value or "")
    found = examined()

    assert found["credentials"].message == "AWS credentials were found (env, access key id ending in MPLE)."
    assert found["role"].status == ("ok" if role else "skipped")
    assert found["account"].status == status
    assert message in found["account"].message
    assert found["permission"].status == found["clock"].status == "ok"


def test_both_sts_take_an_external_id(sts: pytest.MonkeyPatch) -> None:
    sts.setenv("MARKETPLACE_ROLE_ARN", f"arn:aws:iam::{SELLER}:role/guarded")
    sts.setenv("MARKETPLACE_ROLE_EXTERNAL_ID", "shared")

    assert examined()["account"].status == "ok"


def test_both_sts_tell_the_time(sts: pytest.MonkeyPatch) -> None:
    found = examined(clock=lambda: datetime.now(UTC) + timedelta(minutes=6))

    assert found["clock"].status == "problem"


def test_an_address_of_sts_that_is_none_is_a_warning(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ENDPOINT_URL_STS", "nonsense")
    found = examined()

    assert (
        found["account"].message
        == "STS did not say whose account it is. The AWS configuration cannot be used (ValueError)."
    )
    assert found["permission"].status == "ok"
