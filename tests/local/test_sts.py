import re
from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import boto3
import httpx2
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from starlette_marketplace.local import LocalMarketplace

ROLE = "arn:aws:iam::210987654321:role/team/resolver"


@pytest.fixture
def sts(url: str) -> Callable[..., Any]:
    """The real boto3 client, by the access key id."""

    def client(access_key_id: str = "local", session_token: str | None = None) -> Any:
        return boto3.client(
            "sts",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id=access_key_id,
            aws_secret_access_key="local",
            aws_session_token=session_token,
            config=Config(retries={"total_max_attempts": 1}),
        )

    return client


def refusal(call: Callable[..., Any], **arguments: str) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["ResponseMetadata"]["RequestId"]
    return caught.value.response["Error"]["Code"], caught.value.response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize(
    ("access_key_id", "account"),
    [
        ("local", "123456789012"),
        ("AKIALOCAL444455556666", "444455556666"),
        ("AKIALOCAL012345678901", "012345678901"),
        ("AKIAIOSFODNN7EXAMPLE", "123456789012"),
    ],
)
@pytest.mark.parametrize("session_token", [None, "no base64!", "bm8gYXJu", "_w=="])
def test_the_access_key_id_says_whose_account_it_is(
    sts: Callable[..., Any], access_key_id: str, account: str, session_token: str | None
) -> None:
    answer = sts(access_key_id, session_token).get_caller_identity()

    assert answer["ResponseMetadata"]["RequestId"]
    assert (answer["Account"], answer["Arn"]) == (account, f"arn:aws:iam::{account}:user/local")
    assert answer["UserId"] == access_key_id


def test_an_assumed_role_is_of_its_own_account(sts: Callable[..., Any]) -> None:
    answer = sts().assume_role(RoleArn=ROLE, RoleSessionName="me@work")
    credentials = answer["Credentials"]
    identity = sts(credentials["AccessKeyId"], credentials["SessionToken"]).get_caller_identity()

    assert re.fullmatch("ASIA[0-9A-F]{16}", credentials["AccessKeyId"])
    assert len(credentials["SecretAccessKey"]) == 40
    assert 3500 < (credentials["Expiration"] - answer_date(answer)).total_seconds() <= 3601
    assert answer["AssumedRoleUser"]["Arn"] == "arn:aws:sts::210987654321:assumed-role/resolver/me@work"
    assert identity["Arn"] == answer["AssumedRoleUser"]["Arn"]
    assert identity["Account"] == "210987654321"


def answer_date(answer: dict[str, Any]) -> datetime:
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])


def test_a_role_of_another_partition_stays_there(sts: Callable[..., Any]) -> None:
    answer = sts().assume_role(RoleArn=ROLE.replace("arn:aws:", "arn:aws-cn:"), RoleSessionName="me")

    assert answer["AssumedRoleUser"]["Arn"].startswith("arn:aws-cn:sts::210987654321:")


def test_a_role_refuses_by_its_name(sts: Callable[..., Any]) -> None:
    assume, arguments = sts().assume_role, {"RoleSessionName": "me"}

    assert refusal(assume, RoleArn="arn:aws:iam::210987654321:role/denied", **arguments) == ("AccessDenied", 403)
    guarded = "arn:aws:iam::210987654321:role/team/guarded"
    assert refusal(assume, RoleArn=guarded, **arguments) == ("AccessDenied", 403)
    assert assume(RoleArn=guarded, ExternalId="shared", **arguments)["Credentials"]


def test_a_refusal_quotes_what_was_asked_as_text(sts: Callable[..., Any]) -> None:
    with pytest.raises(
        ClientError, match="perform: sts:AssumeRole on resource: arn:aws:iam::210987654321:role/<&>/denied"
    ):
        sts().assume_role(RoleArn="arn:aws:iam::210987654321:role/<&>/denied", RoleSessionName="me")


@pytest.mark.parametrize("arn", ["arn:aws:iam::210987654321:user/somebody", "arn:aws:iam::1:role/of-a-short-account"])
def test_what_is_no_role_is_invalid(sts: Callable[..., Any], arn: str) -> None:
    assert refusal(sts().assume_role, RoleArn=arn, RoleSessionName="me") == ("ValidationError", 400)


@pytest.mark.parametrize(
    ("access_key_id", "refused"), [("unknown", ("InvalidClientTokenId", 403)), ("expired", ("ExpiredToken", 403))]
)
def test_an_access_key_refuses_by_its_id(sts: Callable[..., Any], access_key_id: str, refused: tuple[str, int]) -> None:
    assert refusal(sts(access_key_id).get_caller_identity) == refused
    assert refusal(sts(access_key_id).assume_role, RoleArn=ROLE, RoleSessionName="me") == refused


def test_other_actions_do_not_exist(sts: Callable[..., Any]) -> None:
    assert refusal(sts().get_session_token) == ("InvalidAction", 400)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer x",
        "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/aws-marketplace/aws4_request, SignedHeaders=a",
    ],
)
def test_a_call_that_is_not_signed_for_sts_is_refused(url: str, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    response = httpx2.post(f"{url}/", data={"Action": "GetCallerIdentity"}, headers=headers)

    assert response.status_code == 403
    assert response.headers["content-type"].startswith("text/xml")
    assert "<Code>MissingAuthenticationToken</Code>" in response.text


def test_a_call_of_sts_is_no_call_of_metering(marketplace: LocalMarketplace, sts: Callable[..., Any]) -> None:
    sts().get_caller_identity()

    assert marketplace.resolve_calls == []
