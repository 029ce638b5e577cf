import json
import re
from contextlib import suppress
from datetime import datetime
from typing import Any

import boto3
import httpx2
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from starlette_marketplace.local import SCENARIOS, LocalMarketplace
from tests.local.clients import (
    RESOLVE_CUSTOMER,
    Aws,
    ask_patiently,
    body_of,
    signed_headers,
    signed_post,
    signed_request,
)
from tests.local.pages import Page, open_page
from tests.local.readers import Reader
from tests.local.timers import Draws, Timer
from tests.local.watched import Watched
from tests.support.servers import serve
from tests.support.sockets import answer_on, connect


def text_of(page: Page) -> str:
    """The text as it is seen, with one space where there is any."""
    return " ".join(page.text.split())


def retrying(url: str, *, access_key_id: str = "local") -> Any:
    """The real boto3 client, asking up to three times without pause."""
    return boto3.client(
        "meteringmarketplace",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=access_key_id,
        aws_secret_access_key="local-secret",
        aws_session_token="session-secret",
        config=Config(retries={"total_max_attempts": 3, "mode": "standard"}),
    )


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)


def test_without_a_call_the_page_says_what_to_do(url: str) -> None:
    page = open_page(f"{url}/activity")

    assert "No call yet. Choose Set up your account, or connect your app first." in text_of(page)
    assert 'id="empty" hidden' not in httpx2.get(f"{url}/activity").text
    assert page.preformatted == []


@pytest.mark.usefixtures("no_backoff")
def test_a_registration_shows_every_attempt_with_request_and_answer(url: str) -> None:
    marketplace = LocalMarketplace(error_rate=0.5, random=Draws(0.1, 0.4, 0.9), timer=Timer())
    token = marketplace.issue_token("new-product")

    with serve(marketplace) as url:
        client = retrying(url, access_key_id="AKIAIOSFODNN7EXAMPLE")
        client.resolve_customer(RegistrationToken=token)
        client.close()
        page = open_page(f"{url}/activity")

    text = text_of(page)
    assert f"New product {token[:6]}…{token[-4:]} 3 calls 2 of them retries 200" in text
    shown = re.findall(
        r"\d\d:\d\d:\d\d ResolveCustomer Attempt (\d) of 3 (.*?) 0 ms Boto3/[\d.]+, python [\d.]+ (.*?)"
        r"Signed by(\S+) Invocation(\S+)",
        text,
    )
    assert [(attempt, outcome, remark, key) for attempt, outcome, remark, key, _ in shown] == [
        ("1", "400 ThrottlingException", "It failed by chance: the error rate is not zero. ", "AKIA…MPLE"),
        ("2", "500 InternalServiceErrorException", "It failed by chance: the error rate is not zero. ", "AKIA…MPLE"),
        ("3", "200", "", "AKIA…MPLE"),
    ]
    assert len({invocation for *_, invocation in shown}) == 1

    requests, answers = page.preformatted[::2], page.preformatted[1::2]
    for number, request in enumerate(requests, start=1):
        head, body = request.split("\n\n")
        assert head.startswith("POST / HTTP/1.1\n")
        assert "\nhost: 127.0.0.1:" in head
        assert f"\nx-amz-target: {RESOLVE_CUSTOMER}\n" in head
        assert "\nuser-agent: Boto3/" in head
        assert "\nauthorization: AWS4-HMAC-SHA256 Credential=AKIA…MPLE/" in head
        assert "/us-east-1/aws-marketplace/aws4_request, SignedHeaders=" in head
        assert re.search(rf"\namz-sdk-request: (ttl=\w+; )?attempt={number}; max=3$", head, re.MULTILINE)
        assert "\nx-amz-security-token: …" in head
        assert json.loads(body) == {"RegistrationToken": f"{token[:6]}…{token[-4:]}"}
    statuses = [answer.split("\n")[0] for answer in answers]
    assert statuses == ["HTTP/1.1 400 Bad Request", "HTTP/1.1 500 Internal Server Error", "HTTP/1.1 200 OK"]
    assert "\ncontent-type: application/x-amz-json-1.1\n" in answers[2]
    assert "\nx-amzn-requestid: " in answers[2]
    identity = marketplace.buyer.identify(SCENARIOS["new-product"])
    assert [json.loads(answer.split("\n\n")[1]) for answer in answers] == [
        {"__type": "ThrottlingException", "message": "Rate exceeded"},
        {"__type": "InternalServiceErrorException", "message": "An internal error has occurred"},
        identity,
    ]


@pytest.mark.usefixtures("no_backoff")
def test_no_token_signature_or_session_token_is_in_any_page(marketplace: LocalMarketplace, url: str) -> None:
    seen: list[str] = []
    client = retrying(url, access_key_id="AKIAIOSFODNN7EXAMPLE")
    client.meta.events.register(
        "before-send.marketplace-metering", lambda request, **_: seen.append(request.headers["Authorization"].decode())
    )
    tokens = [marketplace.issue_token(name) for name in ("new-product", "throttled", "invalid")] + [
        "x" * 512,
        "s3cret-and-short",
    ]
    for token in tokens:
        try:
            client.resolve_customer(RegistrationToken=token)
        except ClientError:
            continue
    client.close()

    for path in ("/activity", "/activity/registrations"):
        page = httpx2.get(url + path).text
        assert len(marketplace.resolve_calls) == len(seen) == 7
        assert page.count("RegistrationToken") == 7
        for token in tokens:
            assert token not in page
            assert token[7:] not in page
        for authorization in seen:
            assert authorization[-64:] not in page
        for secret in ("session-secret", "local-secret", "AKIAIOSFODNN7EXAMPLE"):
            assert secret not in page


def test_the_outcome_of_a_single_call_is_shown_once(marketplace: LocalMarketplace, url: str, aws: Aws) -> None:
    token = marketplace.issue_token("new-product")

    aws.resolve(token)
    assert httpx2.get(f"{url}/activity").text.count('class="outcome') == 1
    aws.resolve(token)
    assert httpx2.get(f"{url}/activity").text.count('class="outcome') == 3


def test_registrations_are_told_by_token_and_the_one_with_the_latest_call_comes_first(
    marketplace: LocalMarketplace, url: str, aws: Aws
) -> None:
    first, second = (marketplace.issue_token(name) for name in ("new-product", "free-trial"))

    for token in (first, second):
        aws.resolve(token)
    assert re.findall(r"Free trial|New product|\d calls?", text_of(open_page(f"{url}/activity"))) == [
        "Free trial",
        "1 call",
        "New product",
        "1 call",
    ]
    aws.resolve(first)
    assert re.findall(r"Free trial|New product|\d calls?", text_of(open_page(f"{url}/activity"))) == [
        "New product",
        "2 calls",
        "Free trial",
        "1 call",
    ]


def test_calls_that_are_nobodys_registration_stand_alone(url: str, aws: Aws) -> None:
    aws.refusal("never issued")
    for _ in range(2):
        signed_post(url, b"{}")

    page = open_page(f"{url}/activity")

    text = text_of(page)
    assert text.count("No token 1 call 400 ValidationException") == 2
    assert text.count("Unknown token … 1 call 400 InvalidTokenException") == 1
    assert "This marketplace has not issued the token, or has forgotten it." in text


def test_a_request_without_signature_is_signed_by_nobody_and_says_its_call_and_client(
    marketplace: LocalMarketplace, url: str
) -> None:
    headers = {"X-Amz-Target": RESOLVE_CUSTOMER, "Authorization": "Basic " + "secret" * 20, "User-Agent": "curl/8.0 x"}

    httpx2.post(url, content=body_of(marketplace.issue_token("new-product")), headers=headers)

    page = open_page(f"{url}/activity")
    expected = (
        r"1 call 403 MissingAuthenticationTokenException [\d:]+ ResolveCustomer Call 1 \d+ ms curl/8.0 Signed bynobody"
    )
    assert re.search(expected, text_of(page))
    assert "\nauthorization: …\n" in page.preformatted[0]
    assert "secret" not in page.text
    assert "Unknown token" in page.text, "AWS has not looked at it"


@pytest.mark.parametrize("scenario", ["html-503", "not-json", "empty-answer", "nulls", "hanging-body"])
def test_an_answer_that_is_no_good_json_is_shown_as_it_is(url: str, scenario: str) -> None:
    marketplace = LocalMarketplace(timer=Timer())
    ask_patiently(marketplace, marketplace.issue_token(scenario))

    with serve(marketplace) as url:
        page = open_page(f"{url}/activity")

    _, answer = page.preformatted
    head, body = answer.split("\n\n")
    assert head.startswith("HTTP/1.1 503 " if scenario == "html-503" else "HTTP/1.1 200 OK\n")
    starts = {
        "html-503": "<html>",
        "not-json": "<html>",
        "nulls": '{\n  "CustomerIdentifier": null',
        "empty-answer": "",
    }
    assert body.startswith(starts.get(scenario, '{"CustomerAWSAccountId":"'))
    assert ("}" in body) == (scenario == "nulls")


def test_an_answer_that_never_comes_is_said(marketplace: LocalMarketplace, url: str) -> None:
    ask_patiently(marketplace, marketplace.issue_token("hanging-headers"))

    page = open_page(f"{url}/activity")

    assert "No answer at all" in page.text
    assert re.search(r"1 call client hung up [\d:]+ ResolveCustomer Call 1 \d", text_of(page))
    assert "None, not even headers." in page.text
    assert len(page.preformatted) == 1


@pytest.mark.parametrize(("scenario", "outcome"), [("new-product", "answering"), ("hanging-headers", "no answer yet")])
def test_a_call_is_shown_while_it_is_under_way_and_how_long_it_took_afterwards(scenario: str, outcome: str) -> None:
    timer = Timer()
    marketplace = LocalMarketplace(timer=timer)
    token = marketplace.issue_token(scenario)
    pages: list[str] = []

    class Clerk:
        """Reads the page when the answer begins, or would."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def look(message: Any = None) -> Any:
                if scope["method"] == "POST" and not pages and (message or marketplace.resolve_calls):
                    timer.seconds += 1.25
                    pages.append(await read_activity(marketplace))
                return await (send(message) if message else receive())

            await marketplace(scope, look, look)

    with serve(Clerk()) as url:
        headers = signed_headers(url, body_of(token))
        with suppress(httpx2.ReadTimeout):
            httpx2.post(url, content=body_of(token), headers=headers, timeout=0.5 if "hang" in scenario else 5)
    during = text_of(Page(pages[0]))
    after = text_of(Page(render(marketplace)))

    assert re.search(rf"1 call {outcome} [\d:]+ ResolveCustomer Call 1 under way", during)
    assert marketplace.resolve_calls[0].seconds == 1.25
    assert "1.2 s" in after


def test_a_call_has_ended_for_whoever_has_the_whole_answer_and_takes_no_longer_afterwards() -> None:
    timer = Timer()
    marketplace = LocalMarketplace(timer=timer)
    seen: list[float | None] = []

    async def slow_network(scope: Any, receive: Any, send: Any) -> None:
        async def look(message: Any) -> None:
            (call,) = marketplace.resolve_calls
            seen.append(call.seconds)
            timer.seconds += 5
            await send(message)

        await marketplace(scope, receive, look)

    ask_patiently(slow_network, marketplace.issue_token("new-product"))

    (call,) = marketplace.resolve_calls
    assert [*seen, call.seconds] == [None, 5, 5]


@pytest.mark.parametrize(
    ("scenario", "delay", "status", "headline"),
    [
        ("new-product", 3600, None, ""),
        ("internal-error", 3600, None, ""),
        ("hanging-headers", 0, None, ""),
        ("hanging-body", 0, 200, "HTTP/1.1 200 OK"),
    ],
)
def test_a_client_that_leaves_before_the_whole_answer_is_said_to_have_left(
    marketplace: LocalMarketplace, scenario: str, delay: float, status: int | None, headline: str
) -> None:
    marketplace.delay = delay
    watched = Watched(marketplace)

    with serve(watched) as url:
        with connect(url) as connection:
            connection.sendall(signed_request(url, body_of(marketplace.issue_token(scenario))))
            assert watched.read.wait(timeout=60)
            (call,) = marketplace.resolve_calls
            assert (call.seconds, call.hung_up) == (None, False)
        assert watched.ended.wait(timeout=60)
        page = open_page(f"{url}/activity")

    (call,) = marketplace.resolve_calls
    assert call.seconds is not None
    assert (call.hung_up, call.status, call.error) == (True, status, None)
    assert call.answer.partition("\n")[0] == headline
    assert f"{SCENARIOS[scenario].title} {call.request.token} 1 call client hung up" in text_of(page)
    assert re.search(r"1 call client hung up [\d:]+ ResolveCustomer Call 1 \d", text_of(page))
    assert ("None, not even headers." in page.text) == (status is None)


def test_a_client_that_waits_for_a_late_answer_has_not_left(marketplace: LocalMarketplace, aws: Aws) -> None:
    marketplace.delay = 0.001

    aws.resolve(marketplace.issue_token("new-product"))

    (call,) = marketplace.resolve_calls
    assert (call.status, call.hung_up) == (200, False)


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/", "application/x-amz-json-1.1"), ("/conditions", "application/x-www-form-urlencoded")],
)
def test_a_client_that_leaves_before_its_request_is_whole_is_no_error_of_ours(
    marketplace: LocalMarketplace, caplog: pytest.LogCaptureFixture, path: str, content_type: str
) -> None:
    watched = Watched(marketplace)

    with serve(watched) as url:
        with connect(url) as connection:
            request = signed_request(url, body_of(marketplace.issue_token("new-product")))
            head, _, body = request.decode().partition("\r\n\r\n")
            head = head.replace("POST / ", f"POST {path} ").replace("application/x-amz-json-1.1", content_type)
            connection.sendall(f"{head}\r\n\r\n{body[:-1]}".encode())
            assert watched.begun.wait(timeout=60)
        assert watched.ended.wait(timeout=60)

    assert marketplace.resolve_calls == []
    assert [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")] == []


async def read_activity(marketplace: LocalMarketplace) -> str:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(marketplace), base_url="http://localhost") as client:
        return (await client.get("/activity")).text


def render(marketplace: LocalMarketplace) -> str:
    with serve(marketplace) as url:
        return httpx2.get(f"{url}/activity").text


def test_the_script_is_told_what_has_changed_and_otherwise_nothing(
    marketplace: LocalMarketplace, url: str, aws: Aws
) -> None:
    first = httpx2.get(f"{url}/activity/registrations")
    etag = first.headers["etag"]
    assert f'data-etag="{etag.replace(chr(34), "&#34;")}"' in httpx2.get(f"{url}/activity").text

    same = httpx2.get(f"{url}/activity/registrations", headers={"If-None-Match": etag})
    assert (same.status_code, same.text) == (304, "")

    aws.resolve(marketplace.issue_token("new-product"))
    changed = httpx2.get(f"{url}/activity/registrations", headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert "New product" in changed.text

    marketplace.reset()
    cleared = httpx2.get(f"{url}/activity/registrations", headers={"If-None-Match": changed.headers["etag"]})
    assert cleared.status_code == 200
    assert "New product" not in cleared.text


def test_a_marketplace_that_was_started_again_has_another_log(url: str) -> None:
    with serve(LocalMarketplace()) as other:
        etags = {httpx2.get(f"{each}/activity/registrations").headers["etag"] for each in (url, other)}

    assert len(etags) == 2


def test_the_latest_fifty_registrations_and_twenty_calls_of_each_are_shown(marketplace: LocalMarketplace) -> None:
    many = marketplace.issue_token("free-trial")
    for _ in range(50):
        ask_patiently(marketplace, marketplace.issue_token("new-product"))
    for _ in range(22):
        ask_patiently(marketplace, many)

    page = render(marketplace)

    text = text_of(Page(page))
    assert text.count("New product") == 49
    assert 'id="more" hidden' not in page
    assert "Free trial" in text
    assert "22 calls" in text
    assert "The latest 20 calls are shown." in text
    assert re.findall(r"Call (\d+) ", text)[:20] == [str(number) for number in range(3, 23)]
    assert len(re.findall(r"Call \d+ ", text)) == 20 + 49


def test_a_call_that_ends_after_it_was_forgotten_stays_forgotten(marketplace: LocalMarketplace) -> None:
    marketplace.delay = 1800
    token = marketplace.issue_token("new-product")

    async def forget(scope: Any, receive: Any, send: Any) -> None:
        async def forgetful(message: Any) -> None:
            marketplace.reset()
            await send(message)

        await marketplace(scope, receive, forgetful)

    ask_patiently(forget, token)

    assert marketplace.resolve_calls == []


def test_a_call_that_began_before_a_reset_does_not_appear_after_it(marketplace: LocalMarketplace) -> None:
    watched = Watched(marketplace)

    with serve(watched) as url, connect(url) as connection:
        request = signed_request(url, body_of(marketplace.issue_token("new-product")))
        connection.sendall(request[:-1])
        assert watched.begun.wait(timeout=60)
        marketplace.reset()
        connection.sendall(request[-1:])
        assert answer_on(connection).startswith("HTTP/1.1 400 ")
        assert marketplace.resolve_calls == []
        assert open_page(f"{url}/activity").preformatted == []
        with Aws(url) as aws:
            aws.resolve(marketplace.issue_token("free-trial"))

    assert [call.scenario for call in marketplace.resolve_calls] == ["free-trial"]


def test_a_call_can_be_examined_without_the_page(marketplace: LocalMarketplace, aws: Aws) -> None:
    token = marketplace.issue_token("expired")
    aws.refusal(token)

    (call,) = marketplace.resolve_calls

    assert (call.scenario, call.status, call.error, call.remark) == ("expired", 400, "ExpiredTokenException", "")
    assert call.request.token == f"{token[:6]}…{token[-4:]}"
    assert (call.request.access_key_id, call.request.attempt, call.request.max_attempts) == ("local", 1, 1)
    assert call.request.invocation_id
    assert call.started_at is not None
    assert call.started_at.tzinfo is not None
    assert call.started_at <= datetime.now().astimezone()
    assert call.seconds is not None
    assert not call.hung_up
    assert token not in repr(call)
    assert token not in str(call.request)


def test_the_page_runs_one_script_of_ours_and_nothing_from_elsewhere(url: str) -> None:
    response = httpx2.get(f"{url}/activity")

    page = Page(response.text)
    assert page.loads[1:] == ["static/storefront.css", "static/activity.css", "static/activity.js"]
    for path in page.loads[1:]:
        assert httpx2.get(f"{url}/{path}").status_code == 200
    assert re.findall(r"<script.*?>.*?<", response.text) == ['<script src="static/activity.js" defer><']
    policy = response.headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert {"style-src 'self'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.headers["cache-control"] == "no-store"


def test_without_script_there_is_a_link_to_look_again(url: str) -> None:
    assert re.search(r'<noscript>.*<a href="activity">Look again</a></noscript>', httpx2.get(f"{url}/activity").text)


def test_what_is_asked_about_a_subscription_stands_with_its_latest_registration(
    marketplace: LocalMarketplace, url: str, aws: Aws, reader: Reader
) -> None:
    aws.resolve(marketplace.issue_token("new-product"))
    token = marketplace.issue_token("new-product")
    customer = aws.resolve(token)
    license_filter = {"LICENSE_ARN": [customer["LicenseArn"]]}

    reader.page(Filter=license_filter)
    reader.describe(customer["Metadata"]["AgreementId"])
    reader.search(LicenseArn=customer["LicenseArn"])

    page = open_page(f"{url}/activity")
    assert f"New product {token[:6]}…{token[-4:]} 4 calls 200" in text_of(page)
    operations = re.findall(r"\d\d:\d\d:\d\d (\w+) Attempt 1 of 1", text_of(page))
    assert operations == [
        "ResolveCustomer",
        "GetEntitlements",
        "DescribeAgreement",
        "SearchAgreements",
        "ResolveCustomer",
    ]
    assert json.loads(page.preformatted[2].partition("\n\n")[2])["Filter"] == license_filter
    agreement = marketplace.agreement()
    assert {call.subscription for call in marketplace.calls} == {agreement.id}
    assert [call.scenario for call in marketplace.calls] == ["new-product"] * 5


def test_what_is_asked_about_a_subscription_that_never_registered_stands_by_itself(
    marketplace: LocalMarketplace, url: str, reader: Reader
) -> None:
    marketplace.issue_token("pay-as-you-go")

    reader.describe(marketplace.agreement().id)

    assert "Pay as you go 1 call 200" in text_of(open_page(f"{url}/activity"))


def test_what_is_asked_about_no_subscription_or_about_all_stands_by_its_operation(
    marketplace: LocalMarketplace, url: str, reader: Reader
) -> None:
    marketplace.issue_token("new-product")
    reader.rows(size=2)
    reader.search()
    with suppress(ClientError):
        reader.describe("agmt-1")

    text = text_of(open_page(f"{url}/activity"))

    assert "DescribeAgreement 1 call 404 ResourceNotFoundException" in text
    assert "SearchAgreements 1 call 200" in text
    assert "GetEntitlements 2 calls 200" in text


def test_the_token_for_the_next_page_is_shortened_in_request_and_answer(
    marketplace: LocalMarketplace, url: str, reader: Reader
) -> None:
    marketplace.issue_token("new-product")
    marketplace.issue_token("free-trial")
    first = reader.page(MaxResults=7)
    reader.page(NextToken=first["NextToken"])
    reader.search(size=1)

    page = open_page(f"{url}/activity")

    assert first["NextToken"] not in page.text
    tokens = re.findall(r'"[Nn]extToken": "(.*)"', "\n".join(page.preformatted))
    assert tokens == ["…"] * 4
