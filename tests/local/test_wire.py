import json

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_marketplace.local import LocalMarketplace, ResolveCall
from starlette_marketplace.local.failures import Failure
from starlette_marketplace.local.wire import AwsRequest, read_registration_token
from tests.local.clients import RESOLVE_CUSTOMER, Aws, body_of, signed_post


def test_a_request_without_signature_is_refused_before_its_token_is_looked_at(
    marketplace: LocalMarketplace, url: str
) -> None:
    with Aws(url, signed=False) as anonymous:
        refusal = anonymous.refusal(marketplace.issue_token("new-product"))

    assert refusal == ("MissingAuthenticationTokenException", 403, "Missing Authentication Token")
    assert marketplace.resolve_calls == [ResolveCall(None, 403)]


@pytest.mark.parametrize("authorization", ["Basic bG9jYWw6bG9jYWw=", "AWS4-HMAC-SHA256 Credential=local"])
def test_an_authorization_that_is_not_a_whole_signature_counts_as_none(url: str, authorization: str) -> None:
    headers = {"X-Amz-Target": RESOLVE_CUSTOMER, "Authorization": authorization}

    response = httpx2.post(url, json={"RegistrationToken": "a"}, headers=headers)

    assert response.status_code == 403
    assert response.json()["__type"] == "MissingAuthenticationTokenException"


def test_a_request_signed_for_another_service_is_refused_before_its_body_is_read(url: str) -> None:
    response = signed_post(url, b"not JSON", signing_name="metering.marketplace")

    assert response.status_code == 400
    assert response.json() == {
        "__type": "InvalidSignatureException",
        "message": "Credential should be scoped to correct service: 'aws-marketplace'. ",
    }


@pytest.mark.parametrize("target", ["AWSMPMeteringService.MeterUsage", "ResolveCustomer", ""])
def test_an_operation_that_is_not_resolve_customer_is_unknown_and_no_resolve_call(
    marketplace: LocalMarketplace, url: str, target: str
) -> None:
    response = signed_post(url, b"{}", target=target)

    assert response.status_code == 400
    assert response.json()["__type"] == "UnknownOperationException"
    assert marketplace.resolve_calls == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'"token"',
        b"null",
        b"[" * 100_000,
        b'{"RegistrationToken": 1}',
        b'{"RegistrationToken": []}',
    ],
    ids=["empty", "cut off", "not text", "list", "string", "null", "very deep", "number", "list of tokens"],
)
def test_a_body_that_is_not_the_json_of_resolve_customer_cannot_be_read(url: str, body: bytes) -> None:
    response = signed_post(url, body)

    assert response.status_code == 400
    assert response.json()["__type"] == "SerializationException"


@pytest.mark.parametrize("body", [b"{}", b'{"RegistrationToken": ""}', b'{"RegistrationToken": null}'])
def test_a_body_without_a_token_does_not_validate(url: str, body: bytes) -> None:
    response = signed_post(url, body)

    assert response.status_code == 400
    assert response.json()["__type"] == "ValidationException"


def test_every_answer_is_aws_json_with_a_request_id_of_its_own(marketplace: LocalMarketplace, url: str) -> None:
    token = marketplace.issue_token("legacy-product")
    answers = [
        signed_post(url, body_of(token)),
        signed_post(url, b"{}"),
        signed_post(url, b"{}", target="Unknown.Operation"),
    ]

    assert [answer.status_code for answer in answers] == [200, 400, 400]
    assert {answer.headers["content-type"] for answer in answers} == {"application/x-amz-json-1.1"}
    assert len({answer.headers["x-amzn-requestid"] for answer in answers}) == 3


values = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(), max_size=2)


@given(st.binary() | st.dictionaries(st.just("RegistrationToken") | st.text(), values).map(json.dumps).map(str.encode))
def test_whatever_the_body_is_it_has_a_token_or_fails(body: bytes) -> None:
    token = read_registration_token(AwsRequest.read({}, body))

    assert isinstance(token, Failure) or json.loads(body)["RegistrationToken"] == token != ""
