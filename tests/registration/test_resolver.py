import gc
import gzip
import json
import logging
import re
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
import botocore
import pytest
from botocore.exceptions import ClientError
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from starlette_marketplace import (
    AccessDeniedError,
    AwsUnavailableError,
    ConfigurationError,
    CredentialsError,
    DisabledApiError,
    ExpiredTokenError,
    IncompleteAnswerError,
    InvalidTokenError,
    MarketplaceError,
    RegionError,
    SettingsError,
    ThrottledError,
    UnavailableError,
    __version__,
)
from starlette_marketplace.local import LocalMarketplace
from starlette_marketplace.registration.resolver import _customer
from tests.support.aws import (
    CUSTOMER,
    IDENTITY,
    LICENSE,
    ROLE,
    TOKEN,
    FakeAws,
    FakeSts,
    answer,
    error_of,
    failure,
    resolver_of,
    sts_failure,
)
from tests.support.fakes import FakeTimer
from tests.support.servers import serve

pytestmark = pytest.mark.usefixtures("environment")


def answered(*answers: Response) -> MarketplaceError:
    """The error that this answer of AWS becomes."""
    with serve(FakeAws(*answers), lifespan="off") as url:
        return error_of(resolver_of(url))


@pytest.mark.parametrize("scenario", ["new-product", "free-trial", "wrong-product"])
def test_a_buyer_of_a_new_product_is_known_by_license_and_agreement(scenario: str) -> None:
    marketplace = LocalMarketplace()
    with serve(marketplace) as url:
        customer = resolver_of(url).resolve(marketplace.issue_token(scenario))

    assert customer.aws_account_id == marketplace.buyer.account_id
    assert customer.product_code == ("someoneelse" if scenario == "wrong-product" else "acmeanalytics")
    assert customer.key == customer.license_arn
    assert re.fullmatch("arn:aws:license-manager:.+", customer.key)
    assert re.fullmatch("agmt-.+", customer.agreement_id or "")
    assert customer.customer_identifier is None


def test_a_buyer_of_a_legacy_product_is_known_by_product_and_account() -> None:
    marketplace = LocalMarketplace()
    with serve(marketplace) as url:
        customer = resolver_of(url).resolve(marketplace.issue_token("legacy-product"))

    assert customer.key == f"acmelegacy:{marketplace.buyer.account_id}"
    assert customer.customer_identifier
    assert customer.license_arn is customer.agreement_id is None


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("expired", ExpiredTokenError),
        ("invalid", InvalidTokenError),
        ("throttled", ThrottledError),
        ("expired-credentials", CredentialsError),
    ],
)
def test_a_scenario_that_fails_is_the_error_that_says_why(scenario: str, expected: type[MarketplaceError]) -> None:
    marketplace = LocalMarketplace()
    with serve(marketplace) as url:
        error = error_of(resolver_of(url), marketplace.issue_token(scenario))

    assert type(error) is expected
    assert isinstance(error.__cause__, ClientError)


@pytest.mark.parametrize(
    ("response", "expected", "text"),
    [
        (
            failure("InvalidTokenException"),
            InvalidTokenError,
            "InvalidTokenException, HTTP 400, AWS request id request-1",
        ),
        (failure("com.amazonaws.marketplace#InvalidTokenException"), InvalidTokenError, ": InvalidTokenException,"),
        (failure("InvalidTokenException:http://aws/"), InvalidTokenError, ": InvalidTokenException,"),
        (failure("ExpiredTokenException"), ExpiredTokenError, "ExpiredTokenException, HTTP 400"),
        (failure("ExpiredTokenException", 403), CredentialsError, "Renew them, and check this machine's clock"),
        (
            failure("ExpiredTokenException", 400, "The Security Token included in the request is expired"),
            CredentialsError,
            "AWS rejected our credentials",
        ),
        (failure("UnrecognizedClientException"), CredentialsError, "AWS rejected our credentials"),
        (failure("InvalidSignatureException", 403), CredentialsError, "AWS rejected our credentials"),
        (failure("AccessDeniedException"), AccessDeniedError, "Allow the action aws-marketplace:ResolveCustomer"),
        (failure("AccessDenied", 403), AccessDeniedError, "Allow the action aws-marketplace:ResolveCustomer"),
        (failure("DisabledApiException"), DisabledApiError, "Change region_name"),
        (failure("ThrottlingException"), ThrottledError, "ThrottlingException, HTTP 400"),
        (Response(status_code=429), ThrottledError, "HTTP 429"),
        (failure("InternalServiceErrorException", 500), AwsUnavailableError, "HTTP 500"),
        (HTMLResponse("<h1>Unavailable</h1>", 503), AwsUnavailableError, "HTTP 503, AWS request id none"),
        (HTMLResponse("<h1>Moved</h1>", 301), AwsUnavailableError, "Something else answered in place of AWS"),
        (failure("ValidationException"), InvalidTokenError, "ValidationException, HTTP 400"),
        (failure("SomethingNewException"), AwsUnavailableError, "AWS failed (ResolveCustomer: SomethingNewException"),
        *(
            (HTMLResponse("<h1>No</h1>", status), AwsUnavailableError, "Check endpoint_url and the proxies on the way")
            for status in (302, 401, 403, 404, 407, 418)
        ),
        *(
            (failure(code), CredentialsError, "Renew them, and check this machine's clock")
            for code in (
                "ExpiredToken",
                "IncompleteSignature",
                "IncompleteSignatureException",
                "InvalidAccessKeyId",
                "InvalidClientTokenId",
                "MissingAuthenticationToken",
                "MissingAuthenticationTokenException",
                "OptInRequired",
                "RequestExpired",
                "SignatureDoesNotMatch",
            )
        ),
        *(
            (failure(code), AccessDeniedError, "Allow the action aws-marketplace:ResolveCustomer")
            for code in ("NotAuthorized", "UnauthorizedOperation")
        ),
        *(
            (failure(code), ThrottledError, "ask AWS Support to raise the limit")
            for code in (
                "RequestLimitExceeded",
                "RequestThrottledException",
                "SlowDown",
                "ThrottledException",
                "Throttling",
                "TooManyRequestsException",
            )
        ),
    ],
    ids=lambda value: bytes(value.body).decode() if isinstance(value, Response) else None,
)
def test_an_error_of_aws_is_the_error_that_says_whom_it_concerns(
    response: Response, expected: type[MarketplaceError], text: str
) -> None:
    error = answered(response)

    assert type(error) is expected
    assert text in str(error)
    assert isinstance(error.__cause__, ClientError)


@pytest.mark.parametrize("status", [400, 500])
def test_an_error_that_quotes_the_token_goes_no_further(status: int) -> None:
    error = answered(failure("InvalidTokenException", status, f"Registration token {TOKEN} is invalid"))

    assert type(error) is InvalidTokenError
    assert TOKEN not in f"{error.__cause__} {vars(error.__cause__)}"


def test_what_quotes_the_request_in_place_of_a_code_is_not_shown() -> None:
    response = failure("AWS4-HMAC-SHA256 Credential=KEY, Signature=0123", 403)
    response.headers["x-amzn-requestid"] = "Signature=0123"

    assert "(ResolveCustomer: an unreadable code, HTTP 403, AWS request id unreadable)" in str(answered(response))


@pytest.mark.parametrize("headers", [{"x-amzn-requestid": TOKEN}, {"x-echo": TOKEN}])
def test_a_token_that_is_quoted_elsewhere_goes_no_further_either(headers: dict[str, str]) -> None:
    response = failure(f"No{TOKEN}", 500)
    response.headers.update(headers)
    error = answered(response)

    assert type(error) is AwsUnavailableError
    assert TOKEN not in f"{error} {vars(error)} {error.__cause__} {vars(error.__cause__)}"


@pytest.mark.parametrize("response", [failure("TOKEN-0123456789"), answer({"ProductCode": "acme"}), answer({})])
def test_a_token_that_could_be_a_code_or_a_request_id_goes_no_further_either(response: Response) -> None:
    token = "TOKEN-0123456789"
    response.headers["x-amzn-requestid"] = token
    with serve(FakeAws(response), lifespan="off") as url:
        error = error_of(resolver_of(url), token)

    assert token not in f"{error} {error.args} {vars(error)} {error.__cause__}"


@pytest.mark.parametrize("request_id", ["a\r\n2026-11-25 INFO all is well", "Signature=0123", "\x1b[2J", "a" * 65])
def test_a_request_id_that_is_none_is_not_shown(request_id: str) -> None:
    """The header cannot carry all of these, and what makes boto3's answer may be something else than a header."""
    with pytest.raises(IncompleteAnswerError, match=r"\(AWS request id unreadable\)"):
        _customer({"ResponseMetadata": {"RequestId": request_id}, "ProductCode": "acme"})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"LicenseArn": None}, "one of license_arn and customer_identifier"),
        ({"LicenseArn": "", "CustomerIdentifier": ""}, "one of license_arn and customer_identifier"),
        ({"CustomerAWSAccountId": None}, "aws_account_id must be a string of 12 digits"),
        ({"CustomerAWSAccountId": ""}, "aws_account_id must be a string of 12 digits"),
        ({"CustomerAWSAccountId": "12345"}, "aws_account_id must be a string of 12 digits"),
        ({"CustomerAWSAccountId": 123456789012}, "aws_account_id must be"),
        ({"ProductCode": None}, "product_code must not be empty"),
        ({"ProductCode": ""}, "product_code must not be empty"),
        ({"LicenseArn": "é"}, "license_arn must be"),
    ],
)
def test_an_answer_that_does_not_identify_the_customer_is_incomplete(changes: dict[str, object], text: str) -> None:
    error = answered(answer({**IDENTITY, **changes}))

    assert type(error) is IncompleteAnswerError
    assert text in str(error)


@pytest.mark.parametrize(
    "body", ["", "{}", '{"Unknown": "member"}', "<h1>Please log in to the network</h1>", '{"CustomerAWSAccountId"']
)
def test_an_answer_with_nothing_in_it_is_aws_not_being_available(body: str) -> None:
    error = answered(PlainTextResponse(body))

    assert type(error) is AwsUnavailableError
    assert "The answer from AWS is empty (AWS request id " in str(error)


@pytest.mark.parametrize(
    "response",
    [
        PlainTextResponse("[]"),
        PlainTextResponse("null"),
        PlainTextResponse('"text"'),
        answer({**IDENTITY, "Metadata": "text"}),
        PlainTextResponse("G\u00e4ste-WLAN".encode("latin-1")),
        Response(b"not compressed", headers={"Content-Encoding": "gzip"}),
        Response(gzip.compress(json.dumps(IDENTITY).encode(), mtime=0)[:40], headers={"Content-Encoding": "gzip"}),
    ],
    ids=lambda response: repr(response.body),
)
def test_an_answer_that_cannot_be_read_is_aws_not_being_available(response: Response) -> None:
    error = answered(response)

    assert type(error) is AwsUnavailableError
    assert "check endpoint_url and the proxies on the way" in str(error)


@pytest.mark.parametrize("response", [b"", b"SSH-2.0-server\r\n", b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\n{"])
def test_a_server_that_hangs_up_is_aws_not_being_available(response: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:

        def answer_and_hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                while TOKEN.encode() not in connection.recv(65_536, socket.MSG_PEEK):
                    pass
                connection.recv(65_536)
                connection.sendall(response)

        served = threads.submit(answer_and_hang_up)
        error = error_of(resolver_of(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        served.result()

    assert type(error) is AwsUnavailableError


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Metadata": None}, None),
        ({"Metadata": {}}, None),
        ({"Metadata": {"AgreementId": None}}, None),
        ({"Metadata": {"AgreementId": ""}}, None),
        ({"CustomerIdentifier": None}, "agmt-1"),
        ({"CustomerIdentifier": ""}, "agmt-1"),
    ],
)
def test_what_the_answer_leaves_out_is_none(changes: dict[str, object], expected: str | None) -> None:
    with serve(FakeAws(answer({**IDENTITY, **changes})), lifespan="off") as url:
        customer = resolver_of(url).resolve(TOKEN)

    assert customer.agreement_id == expected
    assert customer.customer_identifier is None
    assert customer.key == LICENSE


def test_the_call_says_what_to_resolve_and_who_asks() -> None:
    aws = FakeAws(answer())
    with serve(aws, lifespan="off") as url:
        assert resolver_of(url).resolve(TOKEN) == CUSTOMER

    (call,) = aws.calls
    assert json.loads(call.body) == {"RegistrationToken": TOKEN}
    assert call.headers["x-amz-target"] == "AWSMPMeteringService.ResolveCustomer"
    assert re.fullmatch(
        rf"Boto3/\S+ lang/python#\S+ starlette-marketplace/{__version__} Botocore/\S+", call.headers["user-agent"]
    )
    assert call.credential[0] == "OWNKEY"
    assert call.credential[2:] == ["us-east-1", "aws-marketplace", "aws4_request"]


def test_the_address_may_come_from_the_environment_of_aws(environment: pytest.MonkeyPatch) -> None:
    with serve(FakeAws(answer()), lifespan="off") as url:
        environment.setenv("AWS_ENDPOINT_URL_MARKETPLACE_METERING", url)
        assert resolver_of(None).resolve(TOKEN) == CUSTOMER


@pytest.mark.parametrize(
    ("variables", "config", "changes", "region"),
    [
        ({}, "", {}, "us-east-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "", {}, "eu-west-1"),
        ({}, "[default]\nregion = eu-west-2\n", {}, "eu-west-2"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "", {"region_name": "eu-north-1"}, "eu-north-1"),
    ],
)
def test_the_region_is_the_setting_then_that_of_aws_then_the_first(
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: dict[str, str],
    config: str,
    changes: dict[str, Any],
    region: str,
) -> None:
    (tmp_path / "config").write_text(config)
    for name, value in variables.items():
        environment.setenv(name, value)
    aws = FakeAws(answer())
    with serve(aws, lifespan="off") as url:
        resolver_of(url, **changes).resolve(TOKEN)

    assert aws.calls[0].credential[2] == region


def test_a_profile_brings_its_credentials_and_its_region(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[profile seller]\nregion = eu-west-1\naws_access_key_id = PROFILEKEY\naws_secret_access_key = secret\n"
    )
    aws = FakeAws(answer())
    with serve(aws, lifespan="off") as url:
        resolver_of(url, profile_name="seller").resolve(TOKEN)

    key_id, _, region, *_ = aws.calls[0].credential
    assert (key_id, region) == ("PROFILEKEY", "eu-west-1")


def test_a_profile_that_does_not_exist_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(SettingsError, match=r"\(seller\) could not be found\. Set profile_name to a profile"):
        resolver_of("http://127.0.0.1:1", profile_name="seller").connect()


def test_a_region_that_is_no_name_of_one_is_named() -> None:
    with pytest.raises(RegionError, match="Set region_name to a region such as us-east-1"):
        resolver_of("http://127.0.0.1:1", region_name="us-east-1.example.com/").connect()


@pytest.mark.parametrize("changes", [{}, {"role_arn": ROLE}])
@pytest.mark.parametrize("region", ["us east 1", "us-east-1\n", "us-east-1 ", "\tus-east-1", "us-east-1\u200b"])
@pytest.mark.parametrize("source", ["environment", "file"])
def test_white_space_in_the_region_of_the_aws_configuration_is_named(
    environment: pytest.MonkeyPatch, tmp_path: Path, source: str, region: str, changes: dict[str, Any]
) -> None:
    """botocore itself lets a newline at the end pass, and fails when it makes a request."""
    if source == "environment":
        environment.setenv("AWS_DEFAULT_REGION", region)
    else:
        # The file takes white space off the ends of a value, and a value may go on in the next line.
        (tmp_path / "config").write_text(f"[default]\nregion = x\n  {region.strip()}\n", encoding="utf-8")

    with pytest.raises(RegionError, match="The AWS region is not a valid name"):
        resolver_of("http://127.0.0.1:1", **changes).connect()


@pytest.mark.parametrize(
    ("region", "is_known"), [("us-east-1", True), ("cn-northwest-1", True), ("us-gov-west-1", False)]
)
def test_a_region_without_the_service_is_warned_about(
    caplog: pytest.LogCaptureFixture, region: str, is_known: bool
) -> None:
    resolver_of(None, region_name=region).connect()

    warned = f"AWS Marketplace Metering is not known to be in the region {region}: set region_name" in caplog.text
    assert warned is not is_known


def test_a_region_does_not_matter_where_the_address_is_given(caplog: pytest.LogCaptureFixture) -> None:
    resolver_of("http://127.0.0.1:1", region_name="us-gov-west-1").connect()

    assert "AWS Marketplace Metering is not known" not in caplog.text


def test_credentials_that_aws_refused_are_looked_for_again_after_a_moment(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def renew(key_id: str) -> None:
        (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id={key_id}\naws_secret_access_key=secret\n")

    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    renew("OLDKEY")
    aws, timer = FakeAws(*[failure("UnrecognizedClientException")] * 3, answer()), FakeTimer()
    with serve(aws, lifespan="off") as url:
        resolver = resolver_of(url, timer=timer)
        error_of(resolver)
        renew("NEWKEY")
        timer.now += 9.9
        error_of(resolver)
        timer.now += 0.2
        error_of(resolver)
        assert resolver.resolve(TOKEN) == CUSTOMER

    assert [call.credential[0] for call in aws.calls] == ["OLDKEY", "OLDKEY", "OLDKEY", "NEWKEY"]


def test_connecting_asks_nothing_and_finds_missing_credentials(environment: pytest.MonkeyPatch) -> None:
    aws = FakeAws(answer())
    with serve(aws, lifespan="off") as url:
        resolver_of(url).connect()
        environment.delenv("AWS_ACCESS_KEY_ID")
        with pytest.raises(CredentialsError, match="No AWS credentials were found"):
            resolver_of(url).connect()

    assert aws.calls == []


def test_credentials_that_appear_later_are_found(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    timer = FakeTimer()
    with serve(FakeAws(answer()), lifespan="off") as url:
        resolver = resolver_of(url, timer=timer)
        assert type(error_of(resolver)) is CredentialsError

        environment.setenv("AWS_ACCESS_KEY_ID", "OWNKEY")
        timer.now += 10
        assert resolver.resolve(TOKEN) == CUSTOMER


def half_a_key(environment: pytest.MonkeyPatch, _: Path) -> None:
    environment.delenv("AWS_SECRET_ACCESS_KEY")


def failing_process(environment: pytest.MonkeyPatch, folder: Path) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    (folder / "config").write_text("[default]\ncredential_process = false\n")


def missing_sso_login(environment: pytest.MonkeyPatch, folder: Path) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.setenv("HOME", str(folder))
    (folder / "config").write_text(
        "[default]\nsso_account_id = 123456789012\nsso_role_name = a\nsso_region = us-east-1\n"
        "sso_start_url = http://127.0.0.1:1/\n"
    )


@pytest.mark.parametrize("mistake", [half_a_key, failing_process, missing_sso_login])
def test_credentials_that_cannot_be_had_are_for_the_seller_to_mend(
    environment: pytest.MonkeyPatch, tmp_path: Path, mistake: Callable[[pytest.MonkeyPatch, Path], None]
) -> None:
    mistake(environment, tmp_path)

    error = error_of(resolver_of("http://127.0.0.1:1"))

    assert type(error) is CredentialsError


@pytest.mark.parametrize("changes", [{}, {"role_arn": ROLE}])
@pytest.mark.parametrize(
    ("variables", "config"),
    [
        ({}, "[default\n"),
        ({}, f"[default]\nrole_arn = {ROLE}\nsource_profile = missing\n"),
        ({}, f"[default]\nrole_arn = {ROLE}\ncredential_source = Nowhere\n"),
        ({"AWS_STS_REGIONAL_ENDPOINTS": "nowhere"}, ""),
        ({"AWS_DEFAULTS_MODE": "nonsense"}, ""),
    ],
)
def test_a_mistake_in_the_configuration_of_aws_is_for_the_seller_to_mend(
    environment: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], config: str, changes: dict[str, Any]
) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    (tmp_path / "config").write_text(config)
    for name, value in variables.items():
        environment.setenv(name, value)

    error = error_of(resolver_of("http://127.0.0.1:1", **changes))

    assert isinstance(error, ConfigurationError)


@pytest.mark.parametrize(
    ("name", "changes"), [("AWS_ENDPOINT_URL_MARKETPLACE_METERING", {}), ("AWS_ENDPOINT_URL_STS", {"role_arn": ROLE})]
)
def test_an_address_in_the_environment_of_aws_that_is_none_is_for_the_seller_to_mend(
    environment: pytest.MonkeyPatch, name: str, changes: dict[str, Any]
) -> None:
    environment.setenv(name, "nowhere")

    assert isinstance(error_of(resolver_of(None, **changes)), ConfigurationError)


def test_an_address_where_nobody_answers_is_not_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    error = error_of(resolver_of(f"http://127.0.0.1:{port}"))

    assert type(error) is AwsUnavailableError
    assert "AWS was not reached (EndpointConnectionError). Try again in a moment; if the problem persists, " in str(
        error
    )


def test_a_server_that_never_answers_is_given_up_after_the_read_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        error = error_of(resolver_of(url, read_timeout=0.0625))

    assert type(error) is AwsUnavailableError
    assert "AWS was not reached (ReadTimeoutError)" in str(error)


def test_a_server_that_takes_no_connection_is_given_up_after_the_connect_timeout() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):  # Nobody accepts: once the backlog is full, the kernel lets others wait.
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        error = error_of(resolver_of(f"http://127.0.0.1:{address[1]}", connect_timeout=0.0625))

    assert type(error) is AwsUnavailableError
    assert "AWS was not reached (ConnectTimeoutError)" in str(error)


@pytest.mark.parametrize("max_attempts", [1, 2])
def test_aws_is_asked_as_often_as_the_settings_say_whatever_its_own_configuration(
    environment: pytest.MonkeyPatch, max_attempts: int
) -> None:
    environment.setenv("AWS_MAX_ATTEMPTS", "4")
    environment.setenv("AWS_RETRY_MODE", "legacy")
    aws = FakeAws(failure("InternalServiceErrorException", 500))
    with serve(aws, lifespan="off") as url:
        resolver = resolver_of(url, max_attempts=max_attempts)
        error = error_of(resolver)

    assert type(error) is AwsUnavailableError
    assert len(aws.calls) == max_attempts
    assert resolver._connection.client().metering.meta.config.retries == {
        "mode": "standard",
        "total_max_attempts": max_attempts,
    }


def test_an_error_that_passes_is_not_seen() -> None:
    aws = FakeAws(failure("ThrottlingException"), answer())
    with serve(aws, lifespan="off") as url:
        assert resolver_of(url, max_attempts=2).resolve(TOKEN) == CUSTOMER


@pytest.mark.parametrize("response", [failure("InvalidTokenException"), failure("ExpiredTokenException")])
def test_a_verdict_on_the_token_is_final(response: Response) -> None:
    aws = FakeAws(response)
    with serve(aws, lifespan="off") as url:
        error_of(resolver_of(url, max_attempts=2))

    assert len(aws.calls) == 1


class Crowd(FakeAws):
    """AWS that answers only when so many calls are there."""

    def __init__(self, size: int) -> None:
        super().__init__(answer())
        self._size = size
        self._arrived = 0
        self._complete = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        complete = self._complete
        self._arrived += 1
        if self._arrived % self._size == 0:
            self._complete = anyio.Event()
            complete.set()
        await complete.wait()
        await super().__call__(scope, receive, send)


def test_every_thread_keeps_a_connection_to_aws() -> None:
    size = 12  # More than botocore keeps by itself.
    aws = Crowd(size)
    with serve(aws, lifespan="off") as url, ThreadPoolExecutor(size) as threads:
        resolver = resolver_of(url, max_concurrency=size)
        for _ in range(2):
            assert list(threads.map(resolver.resolve, [TOKEN] * size)) == [CUSTOMER] * size

    assert len(aws.calls) == 2 * size
    assert len({call.client for call in aws.calls}) == size


@pytest.fixture
def old_botocore(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The model of a botocore that does not know Metadata yet."""
    name = Path("meteringmarketplace", "2016-01-14", "service-2.json")
    with gzip.open(Path(botocore.__file__).parent / "data" / name.with_suffix(".json.gz")) as file:
        model = json.load(file)
    del model["shapes"][model["operations"]["ResolveCustomer"]["output"]["shape"]]["members"]["Metadata"]
    copy = tmp_path / "models" / name
    copy.parent.mkdir(parents=True)
    copy.write_text(json.dumps(model))
    environment.setenv("AWS_DATA_PATH", str(tmp_path / "models"))


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """All that was said, but for the endpoint of these tests."""
    messages = [record.getMessage() for record in caplog.records if record.name == "starlette_marketplace"]
    return [message for message in messages if not message.startswith("Identities come from http://127.0.0.1:")]


@pytest.mark.usefixtures("old_botocore")
def test_a_botocore_that_is_too_old_for_agreements_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with serve(FakeAws(answer()), lifespan="off") as url:
        customer = resolver_of(url).resolve(TOKEN)

    assert customer.key == LICENSE
    assert customer.agreement_id is None
    assert warnings_in(caplog) == [
        f"botocore {botocore.__version__} does not know Metadata.AgreementId, so agreement_id will be None: "
        "upgrade botocore to 1.43.111 or newer"
    ]


def test_a_botocore_that_knows_agreements_needs_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="starlette_marketplace")
    with serve(FakeAws(answer()), lifespan="off") as url:
        assert resolver_of(url).resolve(TOKEN).agreement_id == "agmt-1"

    assert warnings_in(caplog) == []


@pytest.mark.usefixtures("old_botocore")
def test_threads_that_call_first_at_once_make_one_client(caplog: pytest.LogCaptureFixture) -> None:
    start = threading.Barrier(8)
    with serve(FakeAws(answer()), lifespan="off") as url, ThreadPoolExecutor(8) as threads:
        resolver = resolver_of(url)

        def resolve(_: int) -> str:
            start.wait()
            return resolver.resolve(TOKEN).key

        assert list(threads.map(resolve, range(8))) == [LICENSE] * 8

    # It is said when a client is made.
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize("changes", [{}, {"role_arn": ROLE}])
def test_a_client_that_is_made_anew_does_not_read_the_models_of_aws_again(
    environment: pytest.MonkeyPatch, changes: Any
) -> None:
    """One is made every ten seconds for as long as AWS refuses the credentials, or for every buyer without any."""
    aws, timer = FakeAws(failure("UnrecognizedClientException")), FakeTimer()
    with serve(aws, lifespan="off") as url, serve(FakeSts(), lifespan="off") as sts_url:
        environment.setenv("AWS_ENDPOINT_URL_STS", sts_url)
        resolver = resolver_of(url, timer=timer, **changes)
        resolver.connect()
        gc.collect()
        gc.disable()
        try:
            before = sys.getallocatedblocks()
            for _ in range(3):
                timer.now += 11
                error_of(resolver)
            # The models of one client are more than 80 000.
            assert sys.getallocatedblocks() - before < 40_000
        finally:
            gc.enable()


def test_a_role_is_assumed_once_and_the_call_is_signed_with_its_credentials(
    environment: pytest.MonkeyPatch,
) -> None:
    aws, sts = FakeAws(answer()), FakeSts()
    with serve(aws, lifespan="off") as url, serve(sts, lifespan="off") as sts_url:
        environment.setenv("AWS_ENDPOINT_URL_STS", sts_url)
        resolver = resolver_of(url, role_arn=ROLE, role_external_id="shared", region_name="eu-west-1")
        assert [resolver.resolve(TOKEN) for _ in range(2)] == [CUSTOMER] * 2

    (assumed,) = sts.calls
    fields = {name: values for name, values in parse_qs(assumed.body.decode()).items() if name != "Version"}
    assert fields == {
        "Action": ["AssumeRole"],
        "RoleArn": [ROLE],
        "RoleSessionName": ["starlette-marketplace"],
        "ExternalId": ["shared"],
    }
    assert (assumed.credential[0], assumed.credential[2]) == ("OWNKEY", "eu-west-1")
    assert [call.credential[0] for call in aws.calls] == ["KEY0"] * 2
    assert {call.headers["x-amz-security-token"] for call in aws.calls} == {"session0"}


def test_a_role_without_an_external_id_is_assumed_without_one(environment: pytest.MonkeyPatch) -> None:
    sts = FakeSts()
    with serve(FakeAws(answer()), lifespan="off") as url, serve(sts, lifespan="off") as sts_url:
        environment.setenv("AWS_ENDPOINT_URL_STS", sts_url)
        resolver_of(url, role_arn=ROLE).resolve(TOKEN)

    assert "ExternalId" not in parse_qs(sts.calls[0].body.decode())


def test_a_role_is_assumed_again_before_its_credentials_expire(environment: pytest.MonkeyPatch) -> None:
    aws, sts, timer = FakeAws(answer()), FakeSts(first_lifetime=60), FakeTimer()
    with serve(aws, lifespan="off") as url, serve(sts, lifespan="off") as sts_url:
        environment.setenv("AWS_ENDPOINT_URL_STS", sts_url)
        resolver = resolver_of(url, timer=timer, role_arn=ROLE)
        for _ in range(3):
            resolver.resolve(TOKEN)
            timer.now += 10

    assert len(sts.calls) == 2
    assert [call.credential[0] for call in aws.calls] == ["KEY0", "KEY1", "KEY1"]


@pytest.mark.parametrize(
    ("response", "expected", "text"),
    [
        (sts_failure("AccessDenied"), AccessDeniedError, "The role cannot be assumed (AssumeRole: AccessDenied"),
        (sts_failure("ExpiredToken"), CredentialsError, "AWS refused us credentials (AssumeRole: ExpiredToken"),
        (sts_failure("ExpiredTokenException", 400), CredentialsError, "(AssumeRole: ExpiredTokenException"),
        (sts_failure("InvalidClientTokenId"), CredentialsError, "AssumeRole: InvalidClientTokenId"),
        (sts_failure("ServiceUnavailable", 503), AwsUnavailableError, "AssumeRole: ServiceUnavailable"),
    ],
)
def test_a_role_that_cannot_be_assumed_is_named(
    environment: pytest.MonkeyPatch, response: Response, expected: type[MarketplaceError], text: str
) -> None:
    aws = FakeAws(answer())
    with serve(aws, lifespan="off") as url, serve(FakeAws(response), lifespan="off") as sts_url:
        environment.setenv("AWS_ENDPOINT_URL_STS", sts_url)
        error = error_of(resolver_of(url, role_arn=ROLE))

    assert type(error) is expected
    assert text in str(error)
    assert isinstance(error.__cause__, ClientError)
    assert aws.calls == []


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<Error><Code></Code></Error>", "(AssumeRole: an unreadable code, HTTP 403, AWS request id none)"),
        ("<Error><Type>Sender</Type></Error>", "(AssumeRole: an unreadable code, HTTP 403, AWS request id none)"),
        ("", "(AssumeRole: an unreadable code, HTTP 403, AWS request id none)"),
        ("<Error><Code>No</Code></Error><RequestId/>", "(AssumeRole: No, HTTP 403, AWS request id none)"),
        ("<RequestId><a/></RequestId>", "(AssumeRole: an unreadable code, HTTP 403, AWS request id unreadable)"),
        ("<Error><Code><a/></Code></Error>", "The look-up of AWS credentials failed (TypeError)"),
        ("<Error/>", "The look-up of AWS credentials failed (AttributeError)"),
    ],
)
def test_a_role_that_is_refused_for_no_reason_that_can_be_read_is_an_error_of_ours(
    environment: pytest.MonkeyPatch, content: str, text: str
) -> None:
    response = Response(f"<ErrorResponse>{content}</ErrorResponse>", 403, media_type="text/xml")
    with serve(FakeAws(response), lifespan="off") as sts_url:
        environment.setenv("AWS_ENDPOINT_URL_STS", sts_url)
        error = error_of(resolver_of("http://127.0.0.1:1", role_arn=ROLE))

    assert text in str(error)


def test_a_role_needs_credentials_to_be_assumed_with_and_waits_for_them(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    with serve(FakeAws(answer()), lifespan="off") as url, serve(FakeSts(), lifespan="off") as sts_url:
        environment.setenv("AWS_ENDPOINT_URL_STS", sts_url)
        timer = FakeTimer()
        resolver = resolver_of(url, timer=timer, role_arn=ROLE)
        with pytest.raises(CredentialsError, match="No AWS credentials were found"):
            resolver.connect()

        environment.setenv("AWS_ACCESS_KEY_ID", "OWNKEY")
        timer.now += 10
        assert resolver.resolve(TOKEN) == CUSTOMER


@pytest.mark.parametrize("sts", [FakeAws(HTMLResponse("<h1>Please log in")), FakeSts(first_lifetime=-3600)])
def test_a_role_whose_credentials_cannot_be_used_is_an_error_of_ours(
    environment: pytest.MonkeyPatch, sts: FakeAws
) -> None:
    with serve(sts, lifespan="off") as sts_url:
        environment.setenv("AWS_ENDPOINT_URL_STS", sts_url)
        error = error_of(resolver_of("http://127.0.0.1:1", role_arn=ROLE))

    assert isinstance(error, UnavailableError | ConfigurationError)


@pytest.mark.parametrize("code", ["ExpiredTokenException", "InvalidIdentityToken", "AccessDenied"])
def test_a_pod_whose_own_identity_is_refused_is_for_the_seller_to_mend(
    environment: pytest.MonkeyPatch, tmp_path: Path, code: str
) -> None:
    (tmp_path / "identity").write_text("a web identity")
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "identity"))
    environment.setenv("AWS_ROLE_ARN", ROLE)
    with serve(FakeAws(sts_failure(code, 400)), lifespan="off") as sts_url:
        environment.setenv("AWS_ENDPOINT_URL_STS", sts_url)
        error = error_of(resolver_of("http://127.0.0.1:1"))

    assert isinstance(error, ConfigurationError)
    assert f"AssumeRoleWithWebIdentity: {code}" in str(error)
    assert "aws-marketplace:ResolveCustomer" not in str(error)


def test_a_pod_without_its_identity_is_for_the_seller_to_mend(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "missing"))
    environment.setenv("AWS_ROLE_ARN", ROLE)

    assert isinstance(error_of(resolver_of("http://127.0.0.1:1")), ConfigurationError)
