"""A ResolveCustomer request and its answer as they were on the wire, without what is secret in them."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING

from .answers import NoResponse
from .tokens import shorten
from .wire import read_registration_token, read_signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from .wire import Signature

# Any other, such as a session token of the caller's credentials or the hash of a body with a token, may be secret.
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
_MOST_HEADERS = 50
_MOST_OF_A_VALUE = 300
# A name that is longer may be a token in the wrong place.
_MOST_OF_A_NAME = 32
_MOST_OF_A_BODY = 4_000

# As long as a token: maybe one, or one that is spelled in another way.
_LONG_WORD = re.compile(r"\S{40,}")
_SCHEME = re.compile(r"(?:AWS4-HMAC-SHA256|Basic|Bearer) ")
_SCOPE = re.compile(r"[a-z0-9-]{1,32}")
_HEADER_NAMES = re.compile(r"[a-z0-9-]{1,32}(?:;[a-z0-9-]{1,32})*")

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
    def read(cls, path: str, headers: Mapping[str, str], body: bytes) -> SeenRequest:
        """Keep what may be shown of a request."""
        token = read_registration_token(body)
        secret = token if isinstance(token, str) else ""
        shown = {
            _show_name(name): _show_header(name, value, secret)
            for name, value in islice(headers.items(), _MOST_HEADERS)
        }
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in shown.items())]
        signature = read_signature(headers.get("authorization", ""))
        attempts = shown.get("amz-sdk-request", "")
        return cls(
            token=_printable(shorten(secret)) if secret else None,
            registration=_hide(secret or secrets.token_hex(16)),
            access_key_id=_shorten_key(signature.access_key_id) if signature else None,
            sdk=_name_sdk(shown.get("user-agent", "")),
            attempt=_number(_ATTEMPT, attempts),
            max_attempts=_number(_MAXIMUM, attempts),
            invocation_id=shown.get("amz-sdk-invocation-id"),
            text="\n".join([*lines, "", _show_request_body(body)]),
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


def _show_request_body(body: bytes) -> str:
    # A body that we cannot read may hold a token anywhere.
    unreadable = f"({len(body)} bytes that are not a JSON object)"
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return unreadable
    if not isinstance(document, dict):
        return unreadable
    shown = {_show_name(name): _show(value) for name, value in document.items()}
    return _printable(json.dumps(shown, ensure_ascii=False)[:_MOST_OF_A_BODY])


def _show_name(name: str) -> str:
    return name if len(name) <= _MOST_OF_A_NAME else shorten(name)


def _show_header(name: str, value: str, secret: str) -> str:
    if name == "authorization":
        return _show_authorization(value)
    if name not in _HARMLESS_HEADERS:
        return "…"
    # A token whose `+` have become spaces is no long word.
    known = value.replace(secret, shorten(secret)) if len(secret) > _MOST_OF_A_NAME else value
    return _LONG_WORD.sub(lambda word: shorten(word[0]), known)[:_MOST_OF_A_VALUE]


def _printable(text: str) -> str:
    """Without the lone surrogates that JSON can spell and a page cannot."""
    return text.encode(errors="replace").decode()


def _show(value: object) -> object:
    if isinstance(value, str):
        return shorten(value) if value else ""
    return value if value is None or isinstance(value, bool) else "…"


def _show_authorization(authorization: str) -> str:
    signature = read_signature(authorization)
    if signature:
        return _show_signature(signature)
    scheme = _SCHEME.match(authorization)
    return f"{scheme[0] if scheme else ''}…"


def _show_signature(signature: Signature) -> str:
    region, service = (part if _SCOPE.fullmatch(part) else "…" for part in (signature.region, signature.service))
    headers = signature.headers if _HEADER_NAMES.fullmatch(signature.headers) else "…"
    scope = f"{_shorten_key(signature.access_key_id)}/{signature.date}/{region}/{service}/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={headers[:_MOST_OF_A_VALUE]}, Signature=…"


def _shorten_key(access_key_id: str) -> str:
    return access_key_id if len(access_key_id) <= 8 else f"{access_key_id[:4]}…{access_key_id[-4:]}"


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
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return body
