"""AWS Security Token Service: whose credentials a call is signed with, and credentials of a role.

Nothing is remembered. Credentials of a role say in their session token which role they are of, and other access keys
belong to the account whose 12 digits they end in, or else to that of the seller. To see how an app fails:

- the access key ids `unknown` and `expired` are refused;
- the role name `denied` cannot be assumed, and `guarded` only with an external id.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from starlette.responses import Response

from .failures import Failure
from .products import SELLER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256\s+Credential=([^/,\s]+)/\d{8}/[^/,\s]+/sts/aws4_request\b")
_ROLE = re.compile(r"arn:(?P<partition>[a-z-]+):iam::(?P<account>\d{12}):role/(?:.*/)?(?P<name>[^/]+)")

_NOT_SIGNED = Failure("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
_REFUSED = {
    "unknown": Failure("InvalidClientTokenId", "The security token included in the request is invalid.", 403),
    "expired": Failure("ExpiredToken", "The security token included in the request is expired", 403),
}


def is_sts_call(request: Request) -> bool:
    """Whether a POST is one of the query protocol, which AWS Marketplace Metering does not speak."""
    return request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")


async def answer_sts_call(request: Request) -> Response:
    """Answer GetCallerIdentity and AssumeRole."""
    signed = _CREDENTIAL.match(request.headers.get("authorization", ""))
    if signed is None:
        return _failed(_NOT_SIGNED)
    access_key_id = signed[1]
    if access_key_id in _REFUSED:
        return _failed(_REFUSED[access_key_id])
    caller = _caller(access_key_id, request.headers.get("x-amz-security-token", ""))
    call = {name: values[0] for name, values in parse_qs((await request.body()).decode("latin-1")).items()}
    match call.get("Action", ""):
        case "GetCallerIdentity":
            account = caller.split(":")[4]
            return _answered("GetCallerIdentity", {"Arn": caller, "UserId": access_key_id, "Account": account})
        case "AssumeRole":
            return _assume_role(caller, call)
        case action:
            version = call.get("Version", "")
            return _failed(Failure("InvalidAction", f"Could not find operation {action} for version {version}"))


def _caller(access_key_id: str, session_token: str) -> str:
    try:
        arn = base64.urlsafe_b64decode(session_token).decode()
    except (binascii.Error, ValueError):
        arn = ""
    if re.fullmatch(r"arn:[a-z-]+:sts::\d{12}:assumed-role/[^/]+/[^/]+", arn):
        return arn
    account = re.search(r"\d{12}$", access_key_id)
    return f"arn:aws:iam::{account[0] if account else SELLER}:user/local"


def _assume_role(caller: str, call: Mapping[str, str]) -> Response:
    arn, session = call.get("RoleArn", ""), call.get("RoleSessionName", "")
    role = _ROLE.fullmatch(arn)
    if role is None or not re.fullmatch(r"[\w+=,.@-]{2,64}", session, re.ASCII):
        return _failed(Failure("ValidationError", "AssumeRole needs the RoleArn of a role and a RoleSessionName"))
    if role["name"] == "denied" or (role["name"] == "guarded" and not call.get("ExternalId")):
        refusal = f"User: {caller} is not authorized to perform: sts:AssumeRole on resource: {arn}"
        return _failed(Failure("AccessDenied", refusal, 403))
    assumed = f"arn:{role['partition']}:sts::{role['account']}:assumed-role/{role['name']}/{session}"
    credentials = {
        "AccessKeyId": f"ASIA{secrets.token_hex(8).upper()}",
        "SecretAccessKey": secrets.token_urlsafe(30),
        "SessionToken": base64.urlsafe_b64encode(assumed.encode()).decode(),
        "Expiration": (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    user = {"AssumedRoleId": f"AROALOCAL:{session}", "Arn": assumed}
    return _answered("AssumeRole", {"Credentials": credentials, "AssumedRoleUser": user})


def _answered(action: str, result: Mapping[str, object]) -> Response:
    metadata = {"RequestId": str(uuid.uuid4())}
    content = _xml({f"{action}Result": result, "ResponseMetadata": metadata})
    return _xml_response(f"{action}Response", content, 200)


def _failed(failure: Failure) -> Response:
    error = {"Type": "Sender", "Code": failure.code, "Message": failure.message}
    return _xml_response("ErrorResponse", _xml({"Error": error, "RequestId": str(uuid.uuid4())}), failure.status)


def _xml_response(name: str, content: str, status: int) -> Response:
    return Response(f'<{name} xmlns="{_NAMESPACE}">{content}</{name}>', status, media_type="text/xml")


def _xml(members: Mapping[str, object]) -> str:
    return "".join(
        f"<{name}>{_xml(value) if isinstance(value, dict) else escape(str(value))}</{name}>"
        for name, value in members.items()
    )
