"""AWS on a socket, with answers that a test decides, and a resolver that asks it."""

import gzip
import json
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from starlette_marketplace import (
    MarketplaceCustomer,
    MarketplaceError,
    MarketplaceSettings,
)
from starlette_marketplace.aws import Connection
from starlette_marketplace.clocks import monotonic
from starlette_marketplace.registration.resolver import AwsResolver
from starlette_marketplace.subscriptions.reader import AwsReader
from tests.support.servers import serve

TOKEN = "aT0ken+with/all==" * 8
ACCOUNT = "123456789012"
LICENSE = "arn:aws:license-manager::111122223333:license:l-0123456789abcdef"
ROLE = "arn:aws:iam::210987654321:role/resolver"
IDENTITY = {
    "CustomerAWSAccountId": ACCOUNT,
    "ProductCode": "acme",
    "LicenseArn": LICENSE,
    "Metadata": {"AgreementId": "agmt-1"},
}
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
CUSTOMER = MarketplaceCustomer(aws_account_id=ACCOUNT, product_code="acme", license_arn=LICENSE, agreement_id="agmt-1")


class Call:
    """A request that AWS received."""

    def __init__(self, request: Request, body: bytes) -> None:
        self.client = request.client
        self.headers = request.headers
        self.body = body

    @property
    def credential(self) -> list[str]:
        """Key id, day, region, service and the end of the credential scope."""
        match = re.search("Credential=([^,]+)", self.headers["authorization"])
        assert match
        return match[1].split("/")


class FakeAws:
    """An AWS service that gives these answers one after the other, and the last one for ever."""

    def __init__(self, *answers: Response) -> None:
        self._answers = answers
        self.calls: list[Call] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.calls.append(Call(request, await request.body()))
        await self.answer(len(self.calls) - 1)(scope, receive, send)

    def answer(self, number: int) -> Response:
        return self._answers[min(number, len(self._answers) - 1)]


def answer(content: Mapping[str, object] = IDENTITY, status: int = 200) -> Response:
    headers = {"x-amzn-RequestId": "request-1"}
    return JSONResponse(content, status, headers, media_type="application/x-amz-json-1.1")


def described(**members: Any) -> dict[str, Any]:
    """The agreement agmt-1 as DescribeAgreement answers it, with these members, or without those that are None."""
    given = {
        "agreementId": "agmt-1",
        "acceptor": {"accountId": ACCOUNT},
        "proposer": {"accountId": "111122223333"},
        "startTime": START.timestamp(),
        "endTime": END.timestamp(),
        "acceptanceTime": START.timestamp() - 60,
        "agreementType": "PurchaseAgreement",
        "proposalSummary": {"resources": [{"id": "prod-abc", "type": "SaaSProduct"}], "offerId": "offer-1"},
        "status": "ACTIVE",
        "initialAgreementId": "agmt-0",
        "endTimeBehavior": {"type": "RENEW"},
    }
    return {name: value for name, value in (given | members).items() if value is not None}


def failure(code: str, status: int = 400, message: str = "No") -> Response:
    return answer({"__type": code, "message": message}, status)


def resolver_of(url: str | None, *, timer: Callable[[], float] = monotonic, **changes: Any) -> AwsResolver:
    values: dict[str, Any] = {"endpoint_url": url, "max_attempts": 1} | changes
    return AwsResolver(MarketplaceSettings(secret_key="k" * 32, product_codes="*", **values), timer=timer)


def reader_of(url: str | None, *, timer: Callable[[], float] = monotonic, **changes: Any) -> AwsReader:
    """A reader that finds all services of AWS Marketplace at this address."""
    urls = dict.fromkeys(("endpoint_url", "entitlement_endpoint_url", "agreement_endpoint_url"), url)
    values: dict[str, Any] = {**urls, "max_attempts": 1} | changes
    settings = MarketplaceSettings(secret_key="k" * 32, product_codes="*", **values)
    return AwsReader(Connection(settings, timer=timer), settings, timer=timer)


def error_of(resolver: AwsResolver, token: str = TOKEN) -> MarketplaceError:
    """The error of a resolution, which does not show the token."""
    with pytest.raises(MarketplaceError) as caught:
        resolver.resolve(token)
    assert token not in "".join(traceback.format_exception(caught.value))
    for frame, _ in traceback.walk_tb(caught.value.__traceback__):
        if frame.f_globals["__name__"].startswith("starlette_marketplace"):
            assert token not in repr(frame.f_locals)
    return caught.value


class FakeSts(FakeAws):
    """The service that roles are assumed with: credentials KEY0, KEY1 and so on, the first good for some seconds."""

    def __init__(self, *, first_lifetime: float = 3600) -> None:
        super().__init__()
        self._first_lifetime = first_lifetime

    def answer(self, number: int) -> Response:
        expiration = datetime.now(UTC) + timedelta(seconds=self._first_lifetime if number == 0 else 3600)
        return Response(
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            f"<AccessKeyId>KEY{number}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>"
            f"<SessionToken>session{number}</SessionToken><Expiration>{expiration:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>",
            media_type="text/xml",
        )


def sts_failure(code: str, status: int = 403) -> Response:
    error = (
        f"<Error><Type>Sender</Type><Code>{code}</Code><Message>No</Message></Error><RequestId>request-2</RequestId>"
    )
    return Response(f"<ErrorResponse>{error}</ErrorResponse>", status, media_type="text/xml")


def connect_with_a_botocore_that_does_not_know_agreements(
    settings: MarketplaceSettings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path("meteringmarketplace", "2016-01-14", "service-2.json")
    _forget(model, "ResolveCustomerResult", "Metadata", folder)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_DATA_PATH", str(folder))
        AwsResolver(settings).connect()


def read_with_a_botocore_that_does_not_know_trials(
    settings: MarketplaceSettings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path("marketplace-agreement", "2020-03-01", "service-2.json")
    _forget(model, "DescribeAgreementOutput", "freeTrialSummary", folder)
    with serve(FakeAws(answer(described())), lifespan="off") as url, monkeypatch.context() as patch:
        patch.setenv("AWS_DATA_PATH", str(folder))
        elsewhere = replace(settings, endpoint_url=url, agreement_endpoint_url=url)
        AwsReader(Connection(elsewhere), elsewhere).get_agreement("agmt-1")


def _forget(model: Path, shape: str, member: str, folder: Path) -> None:
    """Put a copy of a model of botocore into `folder`, without a member of one of its shapes."""
    with gzip.open(Path(botocore.__file__).parent / "data" / model.with_suffix(".json.gz")) as file:
        content = json.load(file)
    content["shapes"][shape]["members"].pop(member, None)
    copy = folder / model
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(json.dumps(content))
