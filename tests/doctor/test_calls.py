from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.responses import (
    JSONResponse,
    Response,
)

from tests.doctor.world import (
    OTHER,
    ROLE,
    SELLER,
    Plant,
    Run,
    World,
    assert_found,
    examined,
)
from tests.support.network import refusing
from tests.support.servers import serve

FAULTS = {
    "expired-credentials": Plant(
        "account",
        "problem",
        "AWS does not accept the credentials (GetCallerIdentity: ExpiredToken, HTTP 403).",
        "Renew or correct them; a wrong clock makes for this too",
        {"AWS_ACCESS_KEY_ID": "expired"},
    ),
    "unknown-credentials": Plant(
        "account",
        "problem",
        "AWS does not accept the credentials (GetCallerIdentity: InvalidClientTokenId, HTTP 403).",
        "Renew or correct them",
        {"AWS_ACCESS_KEY_ID": "unknown"},
    ),
    "account-not-named": Plant(
        "account",
        "warning",
        "by user/local, and nothing says whether that is the account that published the product.",
        "Set seller_account_id to that account.",
        {"MARKETPLACE_SELLER_ACCOUNT_ID": None},
    ),
    "another-account": Plant(
        "account",
        "problem",
        "made from account ********4321, by user/local, and not from the seller account ********6666",
        "or name a role of it in role_arn",
        {"AWS_ACCESS_KEY_ID": f"AKIALOCAL{OTHER}"},
    ),
    "role-of-another-account": Plant(
        "account",
        "problem",
        "********4321, by assumed-role/resolver/starlette-marketplace, and not from the seller account",
        "Give the host credentials of the account that published the product",
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


@pytest.mark.parametrize(
    ("scenario", "status", "message", "advice"),
    [
        (
            "access-denied",
            "problem",
            "The credentials may not resolve customers (ResolveCustomer: AccessDeniedException, HTTP 400",
            '{"Effect": "Allow", "Action": "aws-marketplace:ResolveCustomer", "Resource": "*"}',
        ),
        (
            "invalid-signature",
            "problem",
            "AWS refuses the credentials (ResolveCustomer: InvalidSig",
            "Renew or correct",
        ),
        ("unrecognized-client", "problem", "AWS refuses the credentials", "Renew or correct them"),
        ("expired-credentials", "problem", "AWS refuses the credentials (ResolveCustomer: Expired", "Renew or correct"),
        ("disabled-api", "problem", "ResolveCustomer is disabled in this region", "Change region_name."),
        ("throttled", "warning", "AWS limits the rate of the calls", "AWS knows the credentials; run doctor again"),
        (
            "internal-error",
            "problem",
            "AWS failed, or what answers in its place (ResolveCustomer: InternalServiceError",
            "It may pass",
        ),
        ("html-503", "problem", "AWS failed, or what answers in its place (ResolveCustomer: 503", "It may pass"),
        (
            "not-json",
            "problem",
            "There was no answer of AWS that can be used (an answer that cannot be read)",
            "the proxies on the way",
        ),
        ("expired", "warning", "with ExpiredTokenException, which does not prove the permission.", "a real token"),
        ("no-account-id", "problem", "A made-up token was taken for that of a customer", "See endpoint"),
        ("new-product", "problem", "A made-up token was taken for that of a customer", "See endpoint"),
        (
            "hanging-headers",
            "problem",
            "There was no answer of AWS that can be used (ReadTimeoutError)",
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
    assert found["account"].message.startswith("STS did not say whose account it is (")
    assert "make sure by yourself" in found["account"].advice
    assert found["permission"].status == "problem"
    assert found["permission"].message.startswith("There was no answer of AWS that can be used (")
    assert found["clock"].message == "Nothing gave an answer to compare the clock with."


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
    assert "proves nothing of AWS" in found.message


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
        "AWS does not accept the credentials (GetCallerIdentity: a code that cannot be read, HTTP 403)."
    )


@pytest.mark.parametrize(
    ("role", "seller", "status", "message"),
    [
        (None, "123456789012", "ok", "The calls are made from the seller account, ********9012, by user/"),
        (None, SELLER, "problem", "from account ********9012, by user/"),
        (None, None, "warning", "and nothing says whether that is the account"),
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

    assert found["credentials"].message == "AWS credentials come from the environment, access key id ending in MPLE."
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

    assert found["account"].message == "STS did not say whose account it is (ValueError)."
    assert found["permission"].status == "ok"
