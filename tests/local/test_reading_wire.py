"""What the three reading operations have in common with ResolveCustomer, on the wire."""

import json

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response

from starlette_marketplace.local import Call, LocalMarketplace
from starlette_marketplace.local.clocks import monotonic, wall_clock
from starlette_marketplace.local.commerce import Commerce
from starlette_marketplace.local.entitlements import EntitlementService
from starlette_marketplace.local.exchange import show_answer
from starlette_marketplace.local.failures import RefusedError
from starlette_marketplace.local.ledger import Ledger
from starlette_marketplace.local.operations import Operation
from starlette_marketplace.local.scenarios import SCENARIOS
from starlette_marketplace.local.wire import AwsJsonResponse, AwsRequest
from tests.local.clients import RESOLVE_CUSTOMER, ask_patiently, body_of, signed_post
from tests.local.readers import (
    DESCRIBE_AGREEMENT,
    GET_ENTITLEMENTS,
    SEARCH_AGREEMENTS,
    Reader,
    filters_of,
    post,
)
from tests.local.timers import Draws
from tests.support.servers import serve

VERSIONS = {GET_ENTITLEMENTS: "1.1", DESCRIBE_AGREEMENT: "1.0", SEARCH_AGREEMENTS: "1.0"}
GOOD: dict[str, dict[str, object]] = {
    GET_ENTITLEMENTS: {"ProductCode": "acmeanalytics"},
    DESCRIBE_AGREEMENT: {"agreementId": "agmt-1"},
    SEARCH_AGREEMENTS: {"filters": filters_of()},
}

targets = pytest.mark.parametrize("target", VERSIONS)


def check(answer: httpx2.Response, target: str, status: int, code: str | None) -> None:
    assert (answer.status_code, answer.json().get("__type")) == (status, code)
    assert answer.headers["content-type"] == f"application/x-amz-json-{VERSIONS[target]}"
    assert answer.headers["x-amzn-requestid"]


@targets
def test_a_request_without_signature_is_refused(marketplace: LocalMarketplace, url: str, target: str) -> None:
    answer = httpx2.post(url, json=GOOD[target], headers={"X-Amz-Target": target})

    check(answer, target, 403, "MissingAuthenticationTokenException")
    assert marketplace.calls == [Call(None, 403, target.partition(".")[2])]
    assert marketplace.resolve_calls == []


@targets
def test_a_request_signed_for_another_service_is_refused(url: str, target: str) -> None:
    answer = signed_post(url, b"not JSON", target=target, signing_name="entitlement.marketplace")

    check(answer, target, 400, "InvalidSignatureException")


@targets
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b'"a"', b"null", b"[" * 100_000])
def test_a_body_that_is_no_json_object_cannot_be_read(url: str, target: str, body: bytes) -> None:
    check(signed_post(url, body, target=target), target, 400, "SerializationException")


@pytest.mark.parametrize(
    ("target", "members"),
    [
        (GET_ENTITLEMENTS, {"ProductCode": 1}),
        (GET_ENTITLEMENTS, {"ProductCode": "a", "NextToken": {}}),
        (GET_ENTITLEMENTS, {"ProductCode": "a", "MaxResults": "5"}),
        (GET_ENTITLEMENTS, {"ProductCode": "a", "MaxResults": 5.5}),
        (GET_ENTITLEMENTS, {"ProductCode": "a", "MaxResults": True}),
        (GET_ENTITLEMENTS, {"ProductCode": "a", "Filter": []}),
        (GET_ENTITLEMENTS, {"ProductCode": "a", "Filter": {"DIMENSION": "users"}}),
        (GET_ENTITLEMENTS, {"ProductCode": "a", "Filter": {"DIMENSION": ["users", 1]}}),
        (DESCRIBE_AGREEMENT, {"agreementId": ["agmt-1"]}),
        (SEARCH_AGREEMENTS, {"filters": {}}),
        (SEARCH_AGREEMENTS, {"filters": ["Status"]}),
        (SEARCH_AGREEMENTS, {"filters": [{"name": 1}]}),
        (SEARCH_AGREEMENTS, {"filters": filters_of(), "sort": "EndTime"}),
        (SEARCH_AGREEMENTS, {"filters": filters_of(), "maxResults": "all"}),
        (SEARCH_AGREEMENTS, {"catalog": 1}),
    ],
)
def test_a_member_of_another_type_cannot_be_read(url: str, target: str, members: dict[str, object]) -> None:
    answer = post(url, target, members)

    check(answer, target, 400, "SerializationException")
    assert answer.json()["message"] == f"The request body is not the JSON of {target.partition('.')[2]}"


@pytest.mark.parametrize(
    "target",
    ["AWSMPEntitlementService.GetEntitlement", "AWSMPCommerceService_v20200301.CancelAgreement", "GetEntitlements"],
)
def test_an_operation_that_is_not_here_is_unknown_and_not_logged(
    marketplace: LocalMarketplace, url: str, target: str
) -> None:
    answer = post(url, target, {})

    assert (answer.status_code, answer.json()["__type"]) == (400, "UnknownOperationException")
    assert marketplace.calls == []


def test_a_call_in_cbor_is_an_unknown_operation_that_the_activity_shows(
    marketplace: LocalMarketplace, url: str
) -> None:
    path = "/service/AWSMPCommerceService_v20200301/operation/DescribeAgreement"
    headers = {"Smithy-Protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}

    answer = httpx2.post(f"{url}{path}", content=b"\xbf\xff", headers=headers)

    check(answer, GET_ENTITLEMENTS, 400, "UnknownOperationException")
    assert marketplace.calls == [Call(None, 400, "CBOR")]
    page = httpx2.get(f"{url}/activity").text
    assert f"POST {path} HTTP/1.1" in page
    assert "speaks AWS JSON only" in page


@pytest.mark.parametrize(
    ("target", "members"),
    [
        (SEARCH_AGREEMENTS, {"filters": [{"name": "\ud800", "values": ["a"]}]}),
        (SEARCH_AGREEMENTS, {"filters": filters_of(), "sort": {"sortBy": "\ud800"}}),
        (SEARCH_AGREEMENTS, {"filters": filters_of(), "sort": {"sortOrder": "\ud800"}}),
        (DESCRIBE_AGREEMENT, {"agreementId": "\ud800"}),
    ],
    ids=["filter", "sortBy", "sortOrder", "agreementId"],
)
def test_an_error_can_quote_what_utf_8_cannot_spell(url: str, target: str, members: dict[str, object]) -> None:
    answer = post(url, target, members)

    assert answer.json()["__type"] in ("ValidationException", "ResourceNotFoundException")
    assert httpx2.get(f"{url}/activity").status_code == 200


def test_null_is_absent(marketplace: LocalMarketplace, url: str) -> None:
    nulls = {"Filter": {"DIMENSION": None, "LICENSE_ARN": None}, "NextToken": None, "MaxResults": None}
    assert post(url, GET_ENTITLEMENTS, {"ProductCode": "acmeanalytics", **nulls}).json() == {}
    nulls = {"catalog": None, "sort": None, "nextToken": None, "maxResults": None}
    assert post(url, SEARCH_AGREEMENTS, {"filters": filters_of(), **nulls}).json() == {"agreementViewSummaries": []}
    sort = {"sortBy": None, "sortOrder": None}
    assert post(url, SEARCH_AGREEMENTS, {"filters": filters_of(), "sort": sort}).status_code == 200


@pytest.mark.parametrize(
    ("target", "throttled", "internal_error"),
    [
        (RESOLVE_CUSTOMER, ("ThrottlingException", 400), ("InternalServiceErrorException", 500)),
        (GET_ENTITLEMENTS, ("ThrottlingException", 400), ("InternalServiceErrorException", 500)),
        (DESCRIBE_AGREEMENT, ("ThrottlingException", 429), ("InternalServerException", 500)),
        (SEARCH_AGREEMENTS, ("ThrottlingException", 429), ("InternalServerException", 500)),
    ],
)
def test_a_call_that_fails_by_chance_fails_in_the_words_of_its_own_service(
    target: str, throttled: tuple[str, int], internal_error: tuple[str, int]
) -> None:
    marketplace = LocalMarketplace(error_rate=0.5, random=Draws(0.1, 0.4, 0.9))
    members = GOOD.get(target) or json.loads(body_of(marketplace.issue_token("new-product")))

    with serve(marketplace) as url:
        answers = [post(url, target, members) for _ in range(3)]

    for answer, expected in zip(answers, [throttled, internal_error], strict=False):
        assert (answer.json()["__type"], answer.status_code) == expected
    assert answers[2].status_code in (200, 404)
    remark = "It failed by chance: the error rate is not zero."
    assert [call.remark for call in marketplace.calls] == [remark, remark, ""]
    assert {call.operation for call in marketplace.calls} == {target.partition(".")[2]}


def test_a_call_that_cannot_be_answered_does_not_fail_by_chance() -> None:
    marketplace = LocalMarketplace(error_rate=1, random=Draws())

    with serve(marketplace) as url:
        check(post(url, GET_ENTITLEMENTS, {}), GET_ENTITLEMENTS, 400, "InvalidParameterException")


def test_latency_is_that_of_every_operation_and_a_slow_scenario_that_of_resolve_customer(
    marketplace: LocalMarketplace,
) -> None:
    marketplace.delay = 2
    _, seconds = ask_patiently(marketplace, marketplace.issue_token("slow"))
    assert seconds == pytest.approx(5)

    agreement_id = marketplace.agreement().id
    body = json.dumps({"agreementId": agreement_id}).encode()
    answer, seconds = ask_patiently(marketplace, body, target=DESCRIBE_AGREEMENT)

    assert answer is not None
    assert answer.json()["agreementId"] == agreement_id
    assert seconds == pytest.approx(2)


def test_boto3_can_page_by_itself(marketplace: LocalMarketplace, reader: Reader) -> None:
    marketplace.issue_token("new-product")

    pages = reader.entitlement.get_paginator("get_entitlements").paginate(
        ProductCode="acmeanalytics", PaginationConfig={"PageSize": 3}
    )

    assert [len(page["Entitlements"]) for page in pages] == [3, 1]


LEDGER = Ledger(10, wall_clock, monotonic)
LEDGER.buy("123456789012", SCENARIOS["new-product"])
OPERATIONS = [*EntitlementService(LEDGER).operations, *Commerce(LEDGER).operations]

names = st.sampled_from(
    ["ProductCode", "Filter", "MaxResults", "NextToken", "agreementId", "filters", "sort", "maxResults", "nextToken"]
)
words = st.sampled_from(["acmeanalytics", "name", "values", "Status", "PartyType", "Proposer", "DIMENSION"])
words |= st.text() | st.just("\ud800")  # which JSON can spell and UTF-8 cannot
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
filters = st.lists(st.fixed_dictionaries({"name": words, "values": st.lists(words, max_size=2)}), max_size=2)
searches = st.fixed_dictionaries(
    {"filters": filters}, optional={"sort": st.dictionaries(st.sampled_from(["sortBy", "sortOrder"]), words)}
)
members = searches | st.dictionaries(names, values)


@given(st.sampled_from(OPERATIONS), st.binary() | members.map(json.dumps).map(str.encode))
def test_whatever_the_body_is_it_is_answered_or_refused(operation: Operation, body: bytes) -> None:
    try:
        question = operation.read(AwsRequest.read({}, body))
    except RefusedError as exc:
        response: Response = AwsJsonResponse.of_failure(exc.failure)
    else:
        response, _ = question.answer()
    assert response.status_code in (200, 400, 404)
    assert isinstance(json.loads(bytes(response.body)), dict)
    assert show_answer(response).encode()
