import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from starlette.responses import PlainTextResponse, Response

from starlette_marketplace.aws_services import AGREEMENTS, ENTITLEMENTS, Service
from starlette_marketplace.doctor import examine
from tests.doctor.world import KEY_ID, OTHER, PRODUCT_CODE, SELLER, Run, World, examined
from tests.support.aws import FakeAws, answer, described, failure
from tests.support.network import refusing
from tests.support.servers import serve

pytestmark = pytest.mark.slow

HOSTS = {
    ENTITLEMENTS: "entitlement.marketplace.us-east-1.amazonaws.com",
    AGREEMENTS: "agreement-marketplace.us-east-1.amazonaws.com",
}
CHECKS = {ENTITLEMENTS: "entitlements", AGREEMENTS: "agreements"}
CODES = ("acme", PRODUCT_CODE, "borealis")
BOTH = pytest.mark.parametrize("service", [ENTITLEMENTS, AGREEMENTS], ids=["entitlements", "agreements"])
NO_PLAN = "Your app cannot read the plan and the end of a contract; registrations go on without them."
NO_STATUS = "Your app cannot read the status and the dates of an agreement; registrations go on without them."


@contextmanager
def aws_answers(world: World, service: Service, *answers: Response) -> Iterator[FakeAws]:
    """AWS with these answers, at its own name."""
    aws = FakeAws(*answers)
    with serve(aws, lifespan="off") as url, pytest.MonkeyPatch.context() as patch:
        patch.setitem(world.internet.upstreams, HOSTS[service], url)
        yield aws


def test_both_are_right_where_aws_knows_nothing_of_what_was_made_up(world: World) -> None:
    found = examined()

    assert found["entitlements"].status == found["agreements"].status == "ok"
    assert found["entitlements"].message == (
        f"AWS answered that a made-up license of {PRODUCT_CODE} has no entitlements: the permission is right."
    )
    assert found["agreements"].message == (
        "AWS answered a made-up agreement id with ResourceNotFoundException: the permission is right."
    )
    for aws in (world.entitlements, world.agreements):
        [call] = aws.calls
        assert call.credential[0] == KEY_ID
        assert call.credential[2:4] == ["us-east-1", "aws-marketplace"]


def test_aws_is_asked_once_for_each_product_and_never_without_a_filter(
    world: World, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("MARKETPLACE_PRODUCT_CODES", ",".join([*CODES, "prod-4xk2mq7bqmzfa"]))
    environment.setenv("MARKETPLACE_REGION_NAME", "eu-central-1")
    by_check = {finding.check: finding for finding in examine(os.environ)}
    requests = [json.loads(call.body) for call in world.entitlements.calls]

    assert by_check["entitlements"].status == "ok"
    assert [request["ProductCode"] for request in requests] == list(CODES)
    for request in requests:
        assert request["Filter"] == {
            "LICENSE_ARN": ["arn:aws:license-manager::000000000000:license:l-00000000000000000000000000000000"]
        }
        assert request["MaxResults"] == 1


@pytest.mark.parametrize(
    ("given", "message", "advice"),
    [
        (
            failure("AccessDeniedException"),
            f"Our credentials lack a permission (GetEntitlements: AccessDeniedException, HTTP 400, AWS request id "
            f"request-1). {NO_PLAN}",
            'Allow the action aws-marketplace:GetEntitlements on the resource "*"; if a policy does, look for',
        ),
        (failure("ThrottlingException"), "AWS throttled the call (GetEnt", "Try again in a moment"),
        (failure("InternalServiceErrorException", 500), "AWS failed (GetEntitlements", "Try again in a moment"),
        (failure("UnrecognizedClientException"), "AWS rejected our credentials (GetEntitlements", "Renew them"),
        (
            PlainTextResponse("<title>Log in</title>"),
            "The answer from AWS is empty",
            "Try again in a moment; if the problem persists, check entitlement_endpoint_url and",
        ),
        (
            failure("UnknownOperationException"),
            f"What answers at {HOSTS[ENTITLEMENTS]} does not know GetEntitlements. {NO_PLAN}",
            "Upgrade what stands in for AWS there, or correct entitlement_endpoint_url "
            "(MARKETPLACE_ENTITLEMENT_ENDPOINT_URL) or AWS_ENDPOINT_URL_MARKETPLACE_ENTITLEMENT_SERVICE.",
        ),
        (
            answer({"Entitlements": [{"Dimension": "seats"}]}),
            f"A made-up license has entitlements, so it is not AWS that answers at {HOSTS[ENTITLEMENTS]}.",
            "Remove or correct entitlement_endpoint_url (MARKETPLACE_ENTITLEMENT_ENDPOINT_URL) or AWS_ENDPOINT_URL_",
        ),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_entitlements_that_cannot_be_read_are_a_warning_that_is_told_once(
    doctor: Callable[..., Run],
    world: World,
    environment: pytest.MonkeyPatch,
    given: Response,
    message: str,
    advice: str,
) -> None:
    environment.setenv("MARKETPLACE_PRODUCT_CODES", ",".join(CODES))
    with aws_answers(world, ENTITLEMENTS, given) as aws:
        run = doctor()

    [finding] = run.findings["entitlements"]
    assert finding["status"] == "warning"
    assert finding["message"].startswith(message)
    assert finding["advice"].startswith(advice)
    assert len(aws.calls) == 1
    assert run.statuses("warning") == ["entitlements"]
    assert run.code == 0


@pytest.mark.parametrize("code", ["InvalidParameterException", "ValidationException"])
def test_a_product_code_that_aws_does_not_accept_is_named_and_the_others_are_asked_for(
    doctor: Callable[..., Run], world: World, environment: pytest.MonkeyPatch, code: str
) -> None:
    environment.setenv("MARKETPLACE_PRODUCT_CODES", ",".join(CODES))
    with aws_answers(world, ENTITLEMENTS, answer({}), failure(code), answer({})) as aws:
        run = doctor()

    first, second, third = (json.loads(call.body)["ProductCode"] for call in aws.calls)
    finding = run.one("entitlements", "warning")
    assert finding["message"].startswith(
        f"AWS does not accept the product code, license or customer identifier (GetEntitlements: {code}, HTTP 400"
    )
    assert finding["message"].endswith(f"The product code was {second}, and the license was made up.")
    assert finding["advice"].startswith(f"Check that {second} is on the page of one of your products")
    assert f"a made-up license of {first}, {third} has" in run.one("entitlements", "ok")["message"]
    assert run.code == 0


def test_what_was_read_before_a_failure_is_told_as_well(
    doctor: Callable[..., Run], world: World, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("MARKETPLACE_PRODUCT_CODES", ",".join(CODES))
    with aws_answers(world, ENTITLEMENTS, answer({}), failure("ThrottlingException")) as aws:
        run = doctor()

    assert [finding["status"] for finding in run.findings["entitlements"]] == ["warning", "ok"]
    assert len(aws.calls) == 2


@pytest.mark.parametrize("codes", ["*", "prod-4xk2mq7bqmzfa", "PROD-1,prod-2"])
def test_without_a_product_code_there_is_nothing_to_ask_for(
    doctor: Callable[..., Run], world: World, environment: pytest.MonkeyPatch, codes: str
) -> None:
    environment.setenv("MARKETPLACE_PRODUCT_CODES", codes)
    run = doctor()

    [finding] = run.findings["entitlements"]
    assert (finding["status"], finding["message"]) == (
        "skipped",
        "product_codes has no product code to ask for: see product_codes.",
    )
    assert run.findings["product_codes"][0]["status"] == ("warning" if codes == "*" else "problem")
    assert world.entitlements.calls == []
    assert len(world.agreements.calls) == 1


@pytest.mark.parametrize(
    ("given", "status", "message", "advice"),
    [
        (failure("ResourceNotFoundException", 404), "ok", "AWS answered a made-up agreement id with ResourceNot", ""),
        (failure("ValidationException"), "ok", "AWS answered a made-up agreement id with ValidationException: the", ""),
        (
            failure("AccessDeniedException", 403),
            "warning",
            "Our credentials may not read the agreement (DescribeAgreement: AccessDeniedException, HTTP 403, AWS "
            f"request id request-1). {NO_STATUS}",
            'Allow the action aws-marketplace:DescribeAgreement on the resource "*"; if it is allowed, a partner has '
            "resold the product, and only the partner can read the agreement. Entitlements are enough there.",
        ),
        (failure("ThrottlingException", 429), "warning", "AWS throttled the call (Describe", "Try again in a moment"),
        (
            failure("UnknownOperationException"),
            "warning",
            f"What answers at {HOSTS[AGREEMENTS]} does not know DescribeAgreement. {NO_STATUS}",
            "Upgrade what stands in for AWS there, or correct agreement_endpoint_url "
            "(MARKETPLACE_AGREEMENT_ENDPOINT_URL) or AWS_ENDPOINT_URL_MARKETPLACE_AGREEMENT.",
        ),
        (
            answer(described()),
            "warning",
            f"A made-up id has an agreement, so it is not AWS that answers at {HOSTS[AGREEMENTS]}.",
            "Remove or correct agreement_endpoint_url",
        ),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_every_answer_about_the_made_up_agreement_is_explained(
    doctor: Callable[..., Run], world: World, given: Response, status: str, message: str, advice: str
) -> None:
    with aws_answers(world, AGREEMENTS, given) as aws:
        run = doctor()

    [finding] = run.findings["agreements"]
    assert finding["status"] == status
    assert finding["message"].startswith(message)
    assert finding["advice"].startswith(advice)
    assert [json.loads(call.body) for call in aws.calls] == [{"agreementId": "agmt-of-starlette-marketplace-doctor"}]
    assert run.code == 0


@BOTH
def test_aws_is_not_asked_where_something_else_stands_in_for_it(
    doctor: Callable[..., Run], world: World, environment: pytest.MonkeyPatch, service: Service
) -> None:
    environment.setenv("MARKETPLACE_ENDPOINT_URL", world.url)
    finding = doctor().one(CHECKS[service], "warning")

    assert finding["message"].startswith(
        f"Identities come from {world.url}, and {service.reads} would be read from AWS"
    )
    assert finding["advice"].startswith(f"Set {service.setting} (MARKETPLACE_{service.setting.upper()}) or ")
    assert world.entitlements.calls == world.agreements.calls == []


@BOTH
@pytest.mark.parametrize("by", ["setting", "variable"])
def test_a_stand_in_beside_aws_itself_is_a_warning(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, service: Service, by: str
) -> None:
    name = f"MARKETPLACE_{service.setting.upper()}" if by == "setting" else service.variable
    right = answer({}) if service is ENTITLEMENTS else failure("ResourceNotFoundException", 404)
    with serve(FakeAws(right), lifespan="off") as url:
        environment.setenv(name, url)
        run = doctor()

    assert run.statuses("warning") == [CHECKS[service]]
    finding = run.one(CHECKS[service], "warning")
    assert finding["message"].startswith(f"The calls go to {url.removeprefix('http://')}, which is not AWS Marketplace")
    assert finding["advice"].startswith(f"In production, remove {service.setting}, {service.variable}, AWS_ENDPOINT")


def test_what_stands_in_for_all_of_aws_proves_nothing(
    doctor: Callable[..., Run], world: World, environment: pytest.MonkeyPatch
) -> None:
    entitlements, agreements = FakeAws(answer({})), FakeAws(failure("ResourceNotFoundException", 404))
    with serve(entitlements, lifespan="off") as first, serve(agreements, lifespan="off") as second:
        environment.setenv("MARKETPLACE_ENDPOINT_URL", world.url)
        environment.setenv("MARKETPLACE_ENTITLEMENT_ENDPOINT_URL", first)
        environment.setenv("MARKETPLACE_AGREEMENT_ENDPOINT_URL", second)
        run = doctor()

    for check in CHECKS.values():
        assert run.one(check, "ok")["message"].endswith("which proves nothing about AWS.")
    assert run.statuses("warning") == ["endpoint"]


def test_where_aws_has_no_such_service_it_is_skipped(
    doctor: Callable[..., Run], world: World, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("MARKETPLACE_REGION_NAME", "us-gov-west-1")
    run = doctor()

    for service, check in CHECKS.items():
        assert run.one(check, "skipped")["message"] == (f"AWS has no {service.reads} for the region us-gov-west-1.")
    assert world.entitlements.calls == world.agreements.calls == []


def test_without_credentials_that_aws_accepts_it_is_not_asked(
    doctor: Callable[..., Run], world: World, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", "expired")
    run = doctor()

    for check in CHECKS.values():
        assert run.one(check, "skipped")["message"] == "See account."
    assert world.entitlements.calls == world.agreements.calls == []


def test_both_are_asked_even_if_customers_may_not_be_resolved(world: World) -> None:
    found = examined(token=world.marketplace.issue_token("access-denied"))

    assert found["permission"].status == "problem"
    assert found["entitlements"].status == found["agreements"].status == "ok"


def test_both_are_asked_with_the_role(world: World, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MARKETPLACE_ROLE_ARN", f"arn:aws:iam::{SELLER}:role/resolver")
    environment.setenv("AWS_ACCESS_KEY_ID", f"AKIALOCAL{OTHER}")
    found = examined()

    assert found["entitlements"].status == found["agreements"].status == "ok"
    for aws in (world.entitlements, world.agreements):
        [call] = aws.calls
        assert call.credential[0].startswith("ASIA")


@BOTH
def test_a_network_without_the_service_is_a_warning(world: World, service: Service) -> None:
    with refusing() as nobody, pytest.MonkeyPatch.context() as patch:
        patch.setitem(world.internet.upstreams, HOSTS[service], nobody)
        found = examined()

    assert found[CHECKS[service]].status == "warning"
    assert found[CHECKS[service]].message.startswith("AWS was not reached (")
    assert found["permission"].status == "ok"


@BOTH
def test_an_address_that_is_none_is_a_warning(environment: pytest.MonkeyPatch, service: Service) -> None:
    environment.setenv(service.variable, "nonsense")
    found = examined()[CHECKS[service]]

    assert found.status == "warning"
    assert found.message.startswith("The AWS configuration cannot be used (ValueError).")


@BOTH
@pytest.mark.parametrize("code", ["UnknownOperationException", "AccessDeniedException", None])
def test_the_password_of_such_an_endpoint_is_not_shown(
    text: Callable[..., str], environment: pytest.MonkeyPatch, service: Service, code: str | None
) -> None:
    with serve(FakeAws(failure(code) if code else answer({"Entitlements": [{}]})), lifespan="off") as url:
        environment.setenv(f"MARKETPLACE_{service.setting.upper()}", url.replace("http://", "http://user:hunter2@"))
        shown = text()
    assert f"warning  {CHECKS[service]}: " in shown
    assert "hunter2" not in shown
