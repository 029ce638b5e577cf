"""A request and its answer as they were on the wire, without what is secret in them."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from .answers import NoResponse
from .tokens import shorten
from .wire import RESOLVE_CUSTOMER, read_registration_token

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from starlette.responses import Response

    from .wire import AwsRequest, Signature

# Nothing else is shown: any other header may hold a secret, as a cookie and the hash of a body with a token do.
_HARMLESS_HEADERS = {
    "accept",
    "accept-encoding",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "connection",
    "content-length",
    "content-type",
    "date",
    "host",
    "user-agent",
    "x-amz-date",
    "x-amz-target",
    "x-amz-user-agent",
}
_SECRET_HEADERS = {"authorization", "x-amz-security-token"}

# Nothing else is shown of a body: a member of another name may hold a token by mistake.
_MEMBERS = {
    RESOLVE_CUSTOMER: {"RegistrationToken"},
    "GetEntitlements": {
        "ProductCode",
        "Filter",
        "LICENSE_ARN",
        "CUSTOMER_AWS_ACCOUNT_ID",
        "CUSTOMER_IDENTIFIER",
        "DIMENSION",
        "MaxResults",
        "NextToken",
    },
    "DescribeAgreement": {"agreementId"},
    "SearchAgreements": {
        "catalog",
        "filters",
        "name",
        "values",
        "sort",
        "sortBy",
        "sortOrder",
        "maxResults",
        "nextToken",
    },
}
_TOKENS = {"RegistrationToken", "NextToken", "nextToken"}

# Long words that are no tokens: license ARNs in both forms, and what X-Amz-Target says.
_HARMLESS_WORD = re.compile(
    r"(arn:)?aws[\w-]*:license-manager:[\w-]*:\d{12}:(license:)?l-[0-9a-f]{1,64}|AWSMP[A-Za-z]+(_v\d{8})?\.[A-Za-z]+",
    re.ASCII,
)

# No request that AWS understands is nested as deeply.
_DEEPEST = 8

# As long as a token: maybe one, or one that is spelled in another way.
_LONG_WORD = re.compile(r"\S{40,}")

_ATTEMPT = re.compile(r"(?:^|;)\s*attempt=(\d{1,3})\b", re.ASCII)
_MAXIMUM = re.compile(r"(?:^|;)\s*max=(\d{1,3})\b", re.ASCII)
_LANGUAGE = re.compile(r"\blang/([A-Za-z+.-]{1,20})(?:#([\w.]{1,20}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request that was made, without what is secret in it.

    Attributes:
        token: The registration token, shortened; None when there is none that can be read.
        registration: The same for all requests with one token, and of no use to find it.
        access_key_id: Who signed the request, shortened where it is long; None without a whole signature.
        sdk: What the User-Agent says of the SDK and its language.
        attempt: Which attempt of its invocation this is, if the SDK says so.
        max_attempts: How many attempts the SDK will make, if it says so.
        invocation_id: What the SDK calls the invocation whose attempt this is.
        text: The request as HTTP.
    """

    token: str | None = None
    registration: str = ""
    access_key_id: str | None = None
    sdk: str = ""
    attempt: int | None = None
    max_attempts: int | None = None
    invocation_id: str | None = None
    text: str = ""

    @classmethod
    def of(cls, request: AwsRequest, operation: str = RESOLVE_CUSTOMER, *, path: str = "/") -> SeenRequest:
        """Keep what may be shown of a request for this operation."""
        token = read_registration_token(request) if operation == RESOLVE_CUSTOMER else None
        secret = token if isinstance(token, str) else ""
        headers = _show_headers(request, secret)
        attempts = headers.get("amz-sdk-request", "")
        shown_path = "/".join(map(_shorten_words, path.split("/")))
        lines = [f"POST {shown_path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return cls(
            token=_shorten(secret) if secret else None,
            registration=_hide(secret or secrets.token_hex(16)),
            access_key_id=_shorten_key(request.signature) if request.signature else None,
            sdk=_name_sdk(headers.get("user-agent", "")),
            attempt=_number(_ATTEMPT, attempts),
            max_attempts=_number(_MAXIMUM, attempts),
            invocation_id=headers.get("amz-sdk-invocation-id"),
            text="\n".join([*lines, "", _show_body(request, _MEMBERS.get(operation, set()))]),
        )


_SECRET = secrets.token_bytes(16)


def _hide(token: str) -> str:
    return hashlib.blake2b(token.encode(errors="surrogatepass"), key=_SECRET, digest_size=8).hexdigest()


def show_answer(response: Response) -> str:
    """Show an answer as HTTP, its JSON on several lines."""
    if isinstance(response, NoResponse):
        return ""
    headers = (f"{name.decode()}: {value.decode()}" for name, value in response.raw_headers)
    status = f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}"
    return "\n".join([status, *headers, "", _indent(bytes(response.body).decode())])


def _show_headers(request: AwsRequest, secret: str) -> dict[str, str]:
    shown = {}
    for name, value in request.headers.items():
        if name in _HARMLESS_HEADERS:
            # A token whose `+` have become spaces is no long word.
            known = value.replace(secret, _shorten(secret)) if secret else value
            shown[name] = _shorten_words(known)
        elif name in _SECRET_HEADERS:
            shown[name] = "…"
    if request.signature:
        signed = request.signature
        scope = f"{_shorten_key(signed)}/{signed.date}/{signed.region}/{signed.service}/aws4_request"
        shown["authorization"] = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=…, Signature=…"
    return shown


def _show_body(request: AwsRequest, names: AbstractSet[str]) -> str:
    if request.members is None:
        return "(not a JSON object)"
    return json.dumps(_show_members(request.members, names, _DEEPEST), ensure_ascii=False)


def _show_members(members: Mapping[str, object], names: AbstractSet[str], depth: int) -> dict[str, object]:
    return {
        name if name in names else "…": _show_value(value, names, depth - 1)
        if name in names - _TOKENS
        else _hide_value(value)
        for name, value in members.items()
    }


def _show_value(value: object, names: AbstractSet[str], depth: int) -> object:
    if isinstance(value, dict) and depth:
        return _show_members(value, names, depth)
    if isinstance(value, list) and depth:
        return [_show_value(each, names, depth - 1) for each in value]
    if isinstance(value, str):
        return _shorten_words(_spell(value))
    return "…" if isinstance(value, dict | list) else value


def _hide_value(value: object) -> object:
    return value and (_shorten(value) if isinstance(value, str) else "…")


def _shorten_words(text: str) -> str:
    return _LONG_WORD.sub(lambda word: word[0] if _HARMLESS_WORD.fullmatch(word[0]) else shorten(word[0]), text)


def _shorten(text: str) -> str:
    return _spell(shorten(text))


def _spell(text: str) -> str:
    # JSON can spell lone surrogates, and a page cannot.
    return text.encode(errors="replace").decode()


def _shorten_key(signature: Signature) -> str:
    key = signature.access_key_id
    return key if len(key) <= 8 else f"{key[:4]}…{key[-4:]}"


def _name_sdk(user_agent: str) -> str:
    product = user_agent.split(" ")[0]
    language = _LANGUAGE.search(user_agent)
    if language is None:
        return product
    return f"{product}, {language[1]} {language[2] or ''}".rstrip()


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return int(found[1]) if found else None


def _indent(body: str) -> str:
    try:
        members = json.loads(body)
    except ValueError:
        return body
    tokens = {name: shorten(members[name]) for name in ("NextToken", "nextToken") if name in members}
    return _spell(json.dumps({**members, **tokens}, indent=2, ensure_ascii=False))
