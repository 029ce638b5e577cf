"""Whatever AWS answers to the two questions, the caller gets the error that says why, and the seller what to do."""

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from starlette.responses import HTMLResponse, Response

from starlette_marketplace import (
    AccessDeniedError,
    AgreementNotFoundError,
    AwsUnavailableError,
    ConfigurationError,
    CredentialsError,
    MarketplaceError,
    ThrottledError,
)
from starlette_marketplace.subscriptions.reader import AwsReader
from tests.support.aws import CUSTOMER, FakeAws, answer, described, failure, reader_of
from tests.support.fakes import FakeTimer
from tests.support.network import Fault, network, refusing
from tests.support.servers import serve

pytestmark = pytest.mark.usefixtures("environment")

Ask = Callable[[AwsReader], object]


def ask_for_entitlements(reader: AwsReader) -> object:
    return reader.get_entitlements(CUSTOMER)


def ask_for_agreement(reader: AwsReader) -> object:
    return reader.get_agreement("agmt-1")


SETTING: dict[Ask, str] = {
    ask_for_entitlements: "entitlement_endpoint_url",
    ask_for_agreement: "agreement_endpoint_url",
}
both = pytest.mark.parametrize("ask", [ask_for_entitlements, ask_for_agreement])


def error_of(ask: Ask, url: str, **changes: Any) -> MarketplaceError:
    with pytest.raises(MarketplaceError) as caught:
        ask(reader_of(url, **changes))
    return caught.value


def answered(ask: Ask, *answers: Response) -> MarketplaceError:
    with serve(FakeAws(*answers), lifespan="off") as url:
        return error_of(ask, url)


@both
@pytest.mark.parametrize(
    ("response", "expected", "advice"),
    [
        (failure("ThrottlingException"), ThrottledError, "ask AWS Support to raise the limit"),
        (failure("ThrottlingException", 429), ThrottledError, "ask AWS Support to raise the limit"),
        (failure("InternalServiceErrorException", 500), AwsUnavailableError, "give AWS Support the request id"),
        (failure("InternalServerException", 500), AwsUnavailableError, "give AWS Support the request id"),
        (failure("ExpiredTokenException"), CredentialsError, "Renew them"),
        (failure("UnrecognizedClientException"), CredentialsError, "Renew them"),
        (failure("InvalidSignatureException"), CredentialsError, "check this machine's clock"),
        (failure("NewException"), AwsUnavailableError, "Try again in a moment"),
        (HTMLResponse("<h1>503</h1>", 503), AwsUnavailableError, "Try again in a moment"),
        (HTMLResponse("<h1>403</h1>", 403), AwsUnavailableError, "_endpoint_url and the proxies on the way"),
        (HTMLResponse("<h1>Log in</h1>"), AwsUnavailableError, "_endpoint_url and the proxies on the way"),
    ],
)
def test_what_either_service_may_answer(
    ask: Ask, response: Response, expected: type[MarketplaceError], advice: str
) -> None:
    error = answered(ask, response)
    assert type(error) is expected
    assert advice in str(error)
    assert set(re.findall(r"\w*endpoint_url", str(error))) <= {SETTING[ask]}


def test_a_question_about_entitlements_that_aws_does_not_take() -> None:
    error = answered(ask_for_entitlements, failure("InvalidParameterException"))
    assert type(error) is ConfigurationError
    assert "Check that the customer came from this product" in str(error)


def test_entitlements_that_may_not_be_read() -> None:
    error = answered(ask_for_entitlements, failure("AccessDeniedException"))
    assert type(error) is AccessDeniedError
    assert 'Allow the action aws-marketplace:GetEntitlements on the resource "*"' in str(error)
    assert isinstance(error.__cause__, ClientError)
    assert "GetEntitlements: AccessDeniedException, HTTP 400, AWS request id request-1" in str(error)


def test_an_agreement_that_may_not_be_read_may_be_that_of_a_partner() -> None:
    error = answered(ask_for_agreement, failure("AccessDeniedException", 403))
    assert type(error) is AccessDeniedError
    assert "Allow the action aws-marketplace:DescribeAgreement" in str(error)
    assert "a partner has resold the product" in str(error)


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "ValidationException"])
def test_an_agreement_that_is_not_there(code: str) -> None:
    assert type(answered(ask_for_agreement, failure(code, 404))) is AgreementNotFoundError


@both
def test_nobody_who_listens_is_not_reached(ask: Ask) -> None:
    with refusing() as url:
        error = error_of(ask, url)
    assert type(error) is AwsUnavailableError
    assert "AWS was not reached" in str(error)


@both
@pytest.mark.parametrize("fault", Fault)
def test_a_fault_of_the_network_is_never_taken_for_an_answer(ask: Ask, fault: Fault) -> None:
    good_for_both = FakeAws(answer(described() | {"Entitlements": []}))
    with serve(good_for_both, lifespan="off") as url, network(url) as to_aws:
        ask(reader_of(to_aws.url))
        to_aws.suffer(fault)
        timeout = 0.25 if "SILENCE" in fault.name else 30.0
        error = error_of(ask, to_aws.url, connect_timeout=timeout, read_timeout=timeout)
        to_aws.mend()
    assert type(error) is AwsUnavailableError


@both
def test_credentials_that_were_refused_are_looked_up_again(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    aws, timer = FakeAws(failure("ExpiredTokenException")), FakeTimer()
    with serve(aws, lifespan="off") as url:
        reader = reader_of(url, timer=timer)
        client = reader._connection.client()
        timer.now += 11
        with pytest.raises(CredentialsError):
            ask(reader)
        assert reader._connection.client() is not client
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


def test_both_services_are_asked_after_one_look_up_of_credentials(caplog: pytest.LogCaptureFixture) -> None:
    aws = FakeAws(answer({}), failure("ResourceNotFoundException", 404))
    with serve(aws, lifespan="off") as url:
        reader = reader_of(url)
        assert reader.get_entitlements(CUSTOMER) == ()
        with pytest.raises(AgreementNotFoundError):
            reader.get_agreement("agmt-1")
    assert len(aws.calls) == 2
    assert len([record for record in caplog.records if "Identities come from" in record.getMessage()]) == 1
