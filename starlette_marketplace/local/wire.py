"""AWS's JSON protocol on the wire, signed with Signature Version 4."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from starlette.responses import JSONResponse

from .failures import NO_TOKEN, NOT_SIGNED, not_json, wrong_service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .failures import Failure

RESOLVE_CUSTOMER = "ResolveCustomer"
"""The name of the operation."""

Version: TypeAlias = Literal["1.0", "1.1"]
"""A version of AWS JSON."""

_SIGNING_NAME = "aws-marketplace"
_SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<access_key_id>[^/,\s]+)/(?P<date>\d{8})/(?P<region>[\w.-]{1,32})/"
    r"(?P<service>[\w.-]{1,32})/aws4_request\s*,\s*SignedHeaders=[^,\s]+\s*,\s*Signature=[0-9a-f]{64}",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Signature:
    """Who has signed a request and for what, without the signature itself."""

    access_key_id: str
    date: str
    region: str
    service: str


@dataclass(frozen=True, slots=True)
class AwsRequest:
    """A request in AWS's JSON protocol.

    Attributes:
        headers: Its headers, by their names in lower case.
        signature: Who has signed it; None when it has no whole signature.
        members: The JSON object in its body; None when there is none.
    """

    headers: Mapping[str, str] = field(repr=False)
    signature: Signature | None
    members: Mapping[str, object] | None = field(repr=False)

    @classmethod
    def read(cls, headers: Mapping[str, str], body: bytes) -> AwsRequest:
        """Read a request, whatever it is."""
        signature = _SIGNATURE.fullmatch(headers.get("authorization", ""))
        try:
            members = json.loads(body)
        except (ValueError, RecursionError):
            members = None
        return cls(
            headers,
            Signature(**signature.groupdict()) if signature else None,
            members if isinstance(members, dict) else None,
        )


def check_signature(request: AwsRequest) -> Failure | None:
    """Check what can be checked without the caller's secret key: that there is a signature, for the right service."""
    if request.signature is None:
        return NOT_SIGNED
    return None if request.signature.service == _SIGNING_NAME else wrong_service(_SIGNING_NAME)


def read_registration_token(request: AwsRequest) -> str | Failure:
    """Read the registration token out of a ResolveCustomer call."""
    if request.members is None:
        return not_json(RESOLVE_CUSTOMER)
    token = request.members.get("RegistrationToken")
    if not isinstance(token, str | None):
        return not_json(RESOLVE_CUSTOMER)
    return token or NO_TOKEN


class AwsJsonResponse(JSONResponse):
    """An answer in AWS JSON, with the request id that AWS gives every answer.

    Attributes:
        error: The `__type` of the error; None when the answer is not an error.
    """

    media_type = "application/x-amz-json-1.1"
    error: str | None = None

    def __init__(self, content: Mapping[str, object], status_code: int = 200) -> None:
        super().__init__(content, status_code, headers={"x-amzn-RequestId": str(uuid.uuid4())})

    def render(self, content: Mapping[str, object]) -> bytes:
        """Write it in ASCII: a request can hold lone surrogates, which an error quotes and UTF-8 cannot spell."""
        return json.dumps(content, separators=(",", ":")).encode()

    @classmethod
    def of_failure(cls, failure: Failure) -> AwsJsonResponse:
        """Say what failed, the way AWS does."""
        response = cls({"__type": failure.code, "message": failure.message, **failure.members}, failure.status)
        response.error = failure.code
        return response

    def speak(self, version: Version) -> None:
        """Say that it is in this version of AWS JSON, which differs in nothing else that is used here."""
        self.headers["content-type"] = f"application/x-amz-json-{version}"
