from contextlib import AbstractContextManager
from typing import Any

import boto3
import botocore
import httpx2
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

RESOLVE_CUSTOMER = "AWSMPMeteringService.ResolveCustomer"


class Aws(AbstractContextManager["Aws"]):
    """The real boto3 client, asking once."""

    def __init__(self, endpoint_url: str, *, signed: bool = True) -> None:
        config = Config(retries={"total_max_attempts": 1}, signature_version=None if signed else botocore.UNSIGNED)
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

    def resolve(self, token: str) -> dict[str, Any]:
        """Resolve a token, without what boto3 says about the response itself."""
        answer: dict[str, Any] = self._client.resolve_customer(RegistrationToken=token)
        assert answer.pop("ResponseMetadata")["RequestId"]
        return answer

    def refusal(self, token: str) -> tuple[str, int, str]:
        """Resolve a token in vain: the name of the exception's class, the HTTP status, the message."""
        with pytest.raises(ClientError) as caught:
            self._client.resolve_customer(RegistrationToken=token)
        response = caught.value.response
        metadata = response["ResponseMetadata"]
        assert metadata["RequestId"]
        return type(caught.value).__name__, metadata["HTTPStatusCode"], response["Error"]["Message"]


def signed_post(
    url: str, body: bytes, *, target: str = RESOLVE_CUSTOMER, signing_name: str = "aws-marketplace"
) -> httpx2.Response:
    """Post what boto3 would not."""
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
    request = AWSRequest("POST", f"{url}/", headers, body)
    SigV4Auth(Credentials("local", "local"), signing_name, "us-east-1").add_auth(request)
    return httpx2.post(f"{url}/", content=body, headers=dict(request.headers))
