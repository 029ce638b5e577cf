"""Reading the registration POST: a bounded body, one token in it, whatever else is there as hints.

Parsers' errors are not chained: they hold the body, and with it the token.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import parse_qsl

import anyio
import anyio.lowlevel
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from ..errors import (
    MalformedRequestError,
    MissingTokenError,
    RequestTooLargeError,
    UnsupportedMediaTypeError,
)

_is_parsing: ContextVar[bool] = ContextVar("starlette_marketplace.is_parsing", default=False)

_PREFIX = "x-amzn-marketplace-"
_TOKEN_FIELD = _PREFIX + "token"
_OFFER_TYPE_FIELD = _PREFIX + "offer-type"
_JSON_TOKEN_FIELD = "RegistrationToken"  # noqa: S105 - the name of the field, not a token
_MAX_FIELDS = 100
# RFC 2046, section 5.1.1: at most 70 characters, of these; in quotes also a space that is not the last one. Neighboring
# parts of the pattern never match the same character, so it takes linear time.
_BCHARS = r"0-9A-Za-z'()+_,./:=?\-"
_BOUNDARY = re.compile(
    rf""";[ \t]*boundary=(?:"([{_BCHARS} ]{{0,69}}[{_BCHARS}])"|([{_BCHARS}]{{1,70}}))[ \t]*(?:;|$)""",
    re.IGNORECASE | re.ASCII,
)
# Bytes of all hints in the cookie: without a limit, a few registrations would make requests larger than servers take.
_MAX_HINTS_SIZE = 512
_HINT_NAME = re.compile(_PREFIX + "[a-z0-9-]+")


@dataclass(frozen=True, slots=True)
class RegistrationForm:
    """What the buyer's browser sent: the token, to be resolved, and hints that prove nothing."""

    token: str
    free_trial: bool
    hints: Mapping[str, str]

    @property
    def fields(self) -> dict[str, str]:
        """The fields to send when the buyer tries again."""
        return {_TOKEN_FIELD: self.token, **self.hints}

    def __repr__(self) -> str:
        return f"RegistrationForm(free_trial={self.free_trial!r}, hints={self.hints!r})"


async def read_form(request: Request, *, max_body_size: int, deadline: float) -> RegistrationForm:
    """Read the POST that AWS Marketplace makes the buyer's browser send.

    Args:
        request: The request, its body not read yet.
        max_body_size: Bytes; nothing is read beyond them.
        deadline: When the body must have arrived, by `anyio.current_time()`.

    Raises:
        MissingTokenError: No token, or an empty one.
        MalformedRequestError: Several tokens, a bad encoding, or a body that cannot be parsed or does not arrive.
        RequestTooLargeError: The body is larger than `max_body_size`.
        UnsupportedMediaTypeError: Neither a form nor JSON, or a compressed body.
        starlette.requests.ClientDisconnect: The browser left before it had sent everything.
    """
    if header(request, b"content-encoding", default="identity").lower() != "identity":
        raise UnsupportedMediaTypeError("The body is compressed.")
    parse = _PARSERS.get(media_type(request))
    if parse is None:
        raise UnsupportedMediaTypeError("The body is neither a form nor JSON.")
    with anyio.CancelScope(deadline=deadline) as scope:
        body = await _read_body(request, max_body_size)
    if scope.cancelled_caught:
        # Servers wait for a body without limit, and for one that was read already they wait until the browser leaves.
        raise MalformedRequestError(
            "The body did not arrive before the deadline.",
            "If the buyer's connection was not slow, look for a middleware outside of this one that reads the body.",
        )
    if not body:
        raise MissingTokenError("The body is empty.", "Look for a middleware outside of this one that reads the body.")
    return _registration_form(await parse(request, body))


def media_type(request: Request) -> str:
    """The media type of the body in lower case, without its parameters; empty when the request names none."""
    return header(request, b"content-type").partition(";")[0].strip().lower()


def header(request: Request, name: bytes, *, default: str = "") -> str:
    """The first header of that name, which is in lower case; `default` when there is none.

    `request.headers` decodes every name for every look-up, which is a tenth of what a cached registration costs.
    """
    for each, value in request.scope["headers"]:
        if each == name:
            text: str = value.decode("latin-1")
            return text
    return default


async def _read_body(request: Request, max_body_size: int) -> bytes:
    length = header(request, b"content-length")
    if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > max_body_size):
        raise RequestTooLargeError(f"The body is larger than {max_body_size} bytes.")
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        # ASGI wants other types of messages to be ignored.
        if message["type"] == "http.request":
            body += message.get("body", b"")
            if len(body) > max_body_size:
                raise RequestTooLargeError(f"The body is larger than {max_body_size} bytes.")
            if not message.get("more_body", False):
                return bytes(body)
        # The deadline holds for messages without end that need no waiting, too.
        await anyio.lowlevel.checkpoint()


async def _parse_urlencoded(_: Request, body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise MalformedRequestError("The form is not UTF-8, or has too many fields.") from None


async def _parse_multipart(request: Request, body: bytes) -> list[tuple[str, str]]:
    # The parser gets a boundary and nothing else of the header: Python keeps every name of a charset that it has not
    # found, and some parsers take quadratic time for long parameters.
    boundary = _BOUNDARY.search(header(request, b"content-type"))
    if boundary is None:
        raise MalformedRequestError("The multipart body has no boundary, or one that RFC 2046 does not allow.")
    headers = Headers({"Content-Type": f'multipart/form-data; boundary="{boundary[1] or boundary[2]}"'})
    # The parser logs what it does not understand, from frames that hold the body.
    logging.getLogger("python_multipart.multipart").addFilter(_is_not_ours)
    parsing = _is_parsing.set(True)
    try:
        # Not request.form(), whose generator is left open by a body that cannot be parsed; trio warns of that.
        async with aclosing(_in_one_piece(body)) as stream:
            parser = MultiPartParser(headers, stream, max_files=0, max_fields=_MAX_FIELDS, max_part_size=len(body) + 1)
            form = await parser.parse()
    except (MultiPartException, ValueError):
        raise MalformedRequestError("The multipart body cannot be parsed.") from None
    finally:
        _is_parsing.reset(parsing)
    return [(name, value) for name, value in form.multi_items() if isinstance(value, str)]


def _is_not_ours(_: logging.LogRecord) -> bool:
    return not _is_parsing.get()


async def _in_one_piece(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


async def _parse_json(_: Request, body: bytes) -> list[tuple[str, str]]:
    try:
        members = json.loads(body.decode(), object_pairs_hook=_Members)
    except (ValueError, RecursionError):
        raise MalformedRequestError("The JSON cannot be parsed.") from None
    if not isinstance(members, _Members):
        raise MalformedRequestError("The JSON is not an object.")
    fields = []
    for name, value in members:
        if name == _JSON_TOKEN_FIELD and not isinstance(value, str):
            raise MalformedRequestError(f"{_JSON_TOKEN_FIELD} is not a string.")
        if isinstance(value, str):
            fields.append((_TOKEN_FIELD if name == _JSON_TOKEN_FIELD else name, value))
    return fields


class _Members(list[tuple[str, object]]):
    """The members of a JSON object, duplicates included."""


_PARSERS = {
    "application/x-www-form-urlencoded": _parse_urlencoded,
    "multipart/form-data": _parse_multipart,
    "application/json": _parse_json,
}


def _registration_form(fields: list[tuple[str, str]]) -> RegistrationForm:
    tokens = [value for name, value in fields if name == _TOKEN_FIELD]
    if len(tokens) > 1:
        raise MalformedRequestError("The form has more than one registration token.")
    # A raw '+' in a urlencoded body parses to a space, which is in no token.
    token = "".join(tokens).replace(" ", "+")
    if not token:
        raise MissingTokenError("The form has no registration token.")
    if not (token.isascii() and token.isprintable()):
        raise MalformedRequestError("The registration token has characters that no token has.")
    hints: dict[str, str] = {}
    for name, value in fields:
        is_hint = name != _TOKEN_FIELD and _HINT_NAME.fullmatch(name) and value.isascii() and value.isprintable()
        if is_hint and name not in hints and _size_in_cookie(hints | {name: value}) <= _MAX_HINTS_SIZE:
            hints[name] = value
    return RegistrationForm(token=token, free_trial=hints.get(_OFFER_TYPE_FIELD) == "free-trial", hints=hints)


def _size_in_cookie(hints: dict[str, str]) -> float:
    """Bytes that the hints take as JSON in base64."""
    return len(json.dumps(hints, separators=(",", ":"))) * 4 / 3
