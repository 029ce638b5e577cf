import json
from contextlib import AbstractContextManager
from typing import Any

import anyio
import boto3
import botocore
import httpx2
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from starlette.types import ASGIApp
from trio.testing import MockClock

RESOLVE_CUSTOMER = "AWSMPMeteringService.ResolveCustomer"


class Aws(AbstractContextManager["Aws"]):
    """The real boto3 client, asking once."""

    def __init__(self, endpoint_url: str, *, signed: bool = True, read_timeout: float = 60) -> None:
        config = Config(
            retries={"total_max_attempts": 1},
            read_timeout=read_timeout,
            signature_version=None if signed else botocore.UNSIGNED,
        )
        self._client: Any = boto3.client(
            "meteringmarketplace",
            endpoint_url=endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=config,
        )

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(self, token: str) -> dict[str, Any]:
        """Give all that boto3 gives."""
        answer: dict[str, Any] = self._client.resolve_customer(RegistrationToken=token)
        return answer

    def resolve(self, token: str) -> dict[str, Any]:
        """Resolve a token, without what boto3 says about the response itself."""
        answer = self.call(token)
        assert answer.pop("ResponseMetadata")["RequestId"]
        return answer

    def refusal(self, token: str) -> tuple[str, int, str]:
        """Resolve a token in vain: the error's code, the HTTP status, the message."""
        with pytest.raises(ClientError) as caught:
            self.call(token)
        response = caught.value.response
        metadata = response["ResponseMetadata"]
        assert metadata["RequestId"]
        return response["Error"]["Code"], metadata["HTTPStatusCode"], response["Error"]["Message"]


def body_of(token: str) -> bytes:
    return json.dumps({"RegistrationToken": token}).encode()


def signed_headers(
    url: str, body: bytes, *, target: str = RESOLVE_CUSTOMER, signing_name: str = "aws-marketplace"
) -> dict[str, str]:
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
    request = AWSRequest("POST", f"{url}/", headers, body)
    SigV4Auth(Credentials("local", "local"), signing_name, "us-east-1").add_auth(request)
    return dict(request.headers)


def signed_post(
    url: str, body: bytes, *, target: str = RESOLVE_CUSTOMER, signing_name: str = "aws-marketplace"
) -> httpx2.Response:
    """Post what boto3 would not."""
    headers = signed_headers(url, body, target=target, signing_name=signing_name)
    return httpx2.post(f"{url}/", content=body, headers=headers)


def signed_request(url: str, body: bytes, *, target: str = RESOLVE_CUSTOMER) -> bytes:
    """The same as bytes, after whose answer the server hangs up."""
    headers = {"Host": httpx2.URL(url).netloc.decode(), "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"{name}: {value}" for name, value in {**headers, **signed_headers(url, body, target=target)}.items()]
    return "\r\n".join(["POST / HTTP/1.1", *lines, "", ""]).encode() + body


def ask_patiently(
    marketplace: ASGIApp, question: str | bytes, *, target: str = RESOLVE_CUSTOMER
) -> tuple[httpx2.Response | None, float]:
    """Ask as boto3 does, and give up after an hour on a clock that jumps: the answer, and the seconds it took.

    The question is a token or a whole body.
    """
    url, body = "http://localhost", question if isinstance(question, bytes) else body_of(question)

    async def ask() -> tuple[httpx2.Response | None, float]:
        start, response = anyio.current_time(), None
        with anyio.move_on_after(3600):
            async with httpx2.AsyncClient(transport=httpx2.ASGITransport(marketplace), timeout=None) as client:
                response = await client.post(url, content=body, headers=signed_headers(url, body, target=target))
        return response, anyio.current_time() - start

    return anyio.run(ask, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
