import base64
import codecs
import contextlib
import itertools
import json
import math
import string
import traceback
from collections.abc import Sequence
from urllib.parse import quote, quote_plus, urlencode

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from python_multipart.multipart import MultipartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from starlette_marketplace import (
    MalformedRequestError,
    MissingTokenError,
    RequestError,
    RequestTooLargeError,
    UnsupportedMediaTypeError,
)
from starlette_marketplace.registration.form import RegistrationForm, read_form

pytestmark = pytest.mark.anyio

TOKEN = base64.b64encode(bytes(range(191, 256)) + b"\xfb\xef\xbe" + bytes(68)).decode()
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=frontier"
JSON = "application/json"
OFFER_TYPE = "x-amzn-marketplace-offer-type"
LIMIT = 16_384

tokens = st.text(string.ascii_letters + string.digits + "+/=.:_-", min_size=1, max_size=512)


class Upload:
    """The body as a server hands it on, chunk by chunk; None is a browser that leaves."""

    def __init__(self, *chunks: bytes | None) -> None:
        self.chunks = chunks
        self.received = 0

    async def __call__(self) -> Message:
        chunk = self.chunks[self.received]
        self.received += 1
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": self.received < len(self.chunks)}


async def read(
    body: bytes | Upload, content_type: str | bytes = URLENCODED, *, limit: int = LIMIT, **headers: str
) -> RegistrationForm:
    typed = content_type.encode() if isinstance(content_type, str) else content_type
    others = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", typed), *others]}
    upload = body if isinstance(body, Upload) else Upload(body)
    return await read_form(Request(scope, upload), max_body_size=limit, deadline=math.inf)


def part(name: str, value: str, more: str = "") -> str:
    return f'--frontier\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'


def multipart(*parts: str) -> bytes:
    return "".join([*parts, "--frontier--\r\n"]).encode()


def urlencoded_form(token: str) -> bytes:
    return urlencode({"x-amzn-marketplace-token": token}).encode()


def multipart_form(token: str) -> bytes:
    return multipart(part("x-amzn-marketplace-token", token))


def json_form(token: str) -> bytes:
    return json.dumps({"RegistrationToken": token}).encode()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (urlencoded_form(TOKEN), URLENCODED),
        (urlencoded_form(TOKEN), f"{URLENCODED}; charset=UTF-8"),
        (urlencoded_form(TOKEN), f" {URLENCODED.upper()} ;charset=utf-8"),
        (f"x-amzn-marketplace-token={TOKEN}".encode(), URLENCODED),
        (f"a=b&x-amzn-marketplace-token={quote(TOKEN, safe='')}&a=c&d".encode(), URLENCODED),
        (multipart_form(TOKEN), MULTIPART),
        (multipart_form(TOKEN), f"{MULTIPART.replace('multipart', 'MultiPart')}; charset=UTF-8"),
        (multipart(part("a", "b"), part("x-amzn-marketplace-token", TOKEN), part("a", "c")), MULTIPART),
        (json_form(TOKEN), JSON),
        (json_form(TOKEN), f"{JSON}; charset=utf-8"),
        (json.dumps({"x-amzn-marketplace-token": TOKEN, "a": [{"RegistrationToken": "b"}]}).encode(), JSON),
    ],
)
async def test_the_token_is_read_from_every_kind_of_form(body: bytes, content_type: str) -> None:
    form = await read(body, content_type)

    assert form == RegistrationForm(token=TOKEN, free_trial=False, hints={})


async def test_a_plus_is_a_plus_whether_it_was_encoded_or_not() -> None:
    assert len(TOKEN) == 184
    assert "+" in TOKEN
    assert b"%2B" in urlencoded_form(TOKEN)
    assert (await read(urlencoded_form("a+b/c=="))).token == "a+b/c=="
    assert (await read(b"x-amzn-marketplace-token=a+b/c==")).token == "a+b/c=="
    assert (await read(multipart_form("a b"), MULTIPART)).token == "a+b"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", URLENCODED),
        (b"a=b", URLENCODED),
        (b"x-amzn-marketplace-token", URLENCODED),
        (b"x-amzn-marketplace-token=", URLENCODED),
        (b"X-Amzn-Marketplace-Token=a", URLENCODED),
        (b"", JSON),
        (b"", MULTIPART),
        (multipart(), MULTIPART),
        (multipart_form(""), MULTIPART),
        (b"{}", JSON),
        (json_form(""), JSON),
        (json.dumps({"RegistrationToken ": TOKEN}).encode(), JSON),
    ],
)
async def test_a_form_without_a_token_is_missing_it(body: bytes, content_type: str) -> None:
    with pytest.raises(MissingTokenError):
        await read(body, content_type)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(urlencoded_form("a") + b"&" + urlencoded_form(TOKEN), URLENCODED, id="two tokens"),
        pytest.param(urlencoded_form("") + b"&" + urlencoded_form(TOKEN), URLENCODED, id="two tokens, one empty"),
        pytest.param(urlencoded_form(TOKEN) + b"&" + urlencoded_form(TOKEN), URLENCODED, id="one token twice"),
        pytest.param(urlencoded_form(TOKEN) + b"&a=%FF", URLENCODED, id="percent-encoded bytes that are not UTF-8"),
        pytest.param(urlencoded_form(TOKEN) + b"&a=\xff", URLENCODED, id="bytes that are not UTF-8"),
        pytest.param(urlencoded_form(TOKEN) + b"%0A", URLENCODED, id="control character"),
        pytest.param(urlencoded_form(f"{TOKEN}é"), URLENCODED, id="letter that is not ASCII"),
        pytest.param(urlencoded_form(TOKEN) + b"&a=b" * 100, URLENCODED, id="101 fields"),
        pytest.param(
            multipart(part("x-amzn-marketplace-token", "a"), part("x-amzn-marketplace-token", TOKEN)),
            MULTIPART,
            id="multipart: two tokens",
        ),
        pytest.param(multipart_form(TOKEN), "multipart/form-data", id="multipart: no boundary"),
        pytest.param(multipart_form(TOKEN), "multipart/form-data; boundary=other", id="multipart: another boundary"),
        pytest.param(
            multipart(part("x-amzn-marketplace-token", TOKEN, '; filename="a"')), MULTIPART, id="multipart: token file"
        ),
        pytest.param(
            multipart(part("x-amzn-marketplace-token", TOKEN), part("a", "b", '; filename="a"')),
            MULTIPART,
            id="multipart: file",
        ),
        pytest.param(
            multipart(part("x-amzn-marketplace-token", TOKEN)).replace(b"name=", b"title="),
            MULTIPART,
            id="multipart: nameless",
        ),
        pytest.param(
            multipart(part("x-amzn-marketplace-token", TOKEN), *[part("a", "b")] * 100),
            MULTIPART,
            id="multipart: 101 fields",
        ),
        pytest.param(multipart_form(f"{TOKEN}é"), MULTIPART, id="multipart: letter that is not ASCII"),
        pytest.param(f'{{"RegistrationToken": "{TOKEN}"'.encode(), JSON, id="JSON: cut off"),
        pytest.param(f'["{TOKEN}"]'.encode(), JSON, id="JSON: list"),
        pytest.param(f'"{TOKEN}"'.encode(), JSON, id="JSON: string"),
        pytest.param(b"null", JSON, id="JSON: null"),
        pytest.param(b'\xff{"RegistrationToken": "a"}', JSON, id="JSON: not UTF-8"),
        pytest.param(
            f'{{"RegistrationToken": "a", "RegistrationToken": "{TOKEN}"}}'.encode(), JSON, id="JSON: two tokens"
        ),
        pytest.param(
            f'{{"RegistrationToken": "a", "x-amzn-marketplace-token": "{TOKEN}"}}'.encode(),
            JSON,
            id="JSON: two tokens by two names",
        ),
        pytest.param(b'{"a":' * 3000 + f'"{TOKEN}'.encode(), JSON, id="JSON: deep object"),
        pytest.param(b'{"a":' + b"[" * 16_000, JSON, id="JSON: deep list"),
        pytest.param(b'{"a": ' + b"1" * 5000 + b"}", JSON, id="JSON: number of 5000 digits"),
        *[
            pytest.param(json.dumps({"RegistrationToken": value}).encode(), JSON, id=f"JSON: token {value!r}")
            for value in (None, 5, True, [TOKEN], {"RegistrationToken": TOKEN})
        ],
    ],
)
async def test_a_form_that_cannot_be_understood_is_malformed_and_its_token_shows_nowhere(
    body: bytes, content_type: str
) -> None:
    with pytest.raises(MalformedRequestError) as caught:
        await read(body, content_type)

    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caught.value.message
    assert TOKEN not in shown
    assert TOKEN[:20] not in shown
    # A parser's error holds the whole body.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "parameters",
    [
        "boundary=frontier",
        'boundary="frontier"',
        "  Boundary=frontier\t ;  charset=utf-8",
        'charset=utf-8;BOUNDARY="frontier";a=b',
        "charset=undefined; boundary=frontier",
        "charset=a\x00b; boundary=frontier; charset=utf-16",
    ],
)
async def test_of_the_content_type_the_boundary_alone_counts(parameters: str) -> None:
    assert (await read(multipart_form(TOKEN), f"multipart/form-data;{parameters}")).token == TOKEN


@pytest.mark.parametrize("boundary", ["-" * 69 + "x", "'()+_,-./:=?", "a b"])
async def test_every_boundary_that_rfc_2046_allows_is_taken(boundary: str) -> None:
    body = multipart_form(TOKEN).replace(b"frontier", boundary.encode())

    assert (await read(body, f'multipart/form-data; boundary="{boundary}"')).token == TOKEN


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "boundary=",
        'boundary=""',
        "boundary=" + "x" * 71,
        'boundary="a ',
        'boundary="a "',
        "boundary=a\xe9",
        "aboundary=a",
    ],
)
async def test_a_boundary_that_rfc_2046_does_not_allow_is_malformed(parameters: str) -> None:
    with pytest.raises(MalformedRequestError, match="boundary"):
        await read(multipart_form(TOKEN), f"multipart/form-data;{parameters}".encode("latin-1"))


@pytest.mark.parametrize(
    "parameters",
    [
        "boundary=" + "x" * 10_000_000,
        'boundary="' + "\\" * 10_000_000,
        "; boundary" * 1_000_000,
        ";boundary=" + " " * 10_000_000,
        'boundary="' + " " * 10_000_000 + '"',
        "boundary=x" + " " * 10_000_000 + "y",
        ";" * 10_000_000 + "boundary=frontier",
        "charset=" + "z" * 10_000_000 + "; boundary=frontier",
    ],
    ids=["long", "backslashes", "many", "spaces", "quoted spaces", "spaces behind", "semicolons", "charset"],
)
async def test_a_huge_content_type_takes_no_time_and_names_no_codec(parameters: str) -> None:
    """Python remembers each name that no codec has, for ever; some parsers take quadratic time, which is hours here."""
    asked: list[str] = []

    def look_up(name: str) -> None:
        asked.append(name)

    codecs.register(look_up)
    try:
        with contextlib.suppress(MalformedRequestError):
            await read(multipart_form(TOKEN), f"multipart/form-data; {parameters}")
    finally:
        codecs.unregister(look_up)
    assert asked == []


async def test_the_parser_logs_nothing_from_frames_that_hold_the_body(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(MalformedRequestError):
        await read(b"xx" + multipart_form(TOKEN), MULTIPART)
    assert not caplog.records
    # Forms of the app itself are logged as before.
    parser = MultipartParser(b"frontier")
    with contextlib.suppress(ValueError):
        parser.write(b"xx" + multipart_form(TOKEN))
    assert caplog.records


async def test_a_multipart_form_that_is_cut_off_has_its_whole_token_or_none() -> None:
    body = multipart(part("x-amzn-marketplace-token", TOKEN), part("a", "b"))
    read_whole = 0
    for length in range(len(body)):
        try:
            form = await read(body[:length], MULTIPART)
        except RequestError:
            continue
        assert form.token == TOKEN
        read_whole += 1
    assert 0 < read_whole < len(body) - 200


async def test_a_form_within_a_multipart_form_is_not_looked_into() -> None:
    inner = multipart_form(TOKEN).decode().replace("frontier", "inner")
    nested = part("a", inner).replace("\r\n\r\n", "\r\nContent-Type: multipart/mixed; boundary=inner\r\n\r\n", 1)

    with pytest.raises(MissingTokenError):
        await read(multipart(nested), MULTIPART)


@pytest.mark.parametrize("content_length", [str(LIMIT + 1), "9" * 5000])
async def test_a_body_that_announces_to_be_too_large_is_not_received(content_length: str) -> None:
    upload = Upload()

    with pytest.raises(RequestTooLargeError, match="larger than 16384 bytes"):
        await read(upload, content_length=content_length)

    assert upload.received == 0


@pytest.mark.parametrize("headers", [{}, {"content_length": "5"}, {"content_length": "-1"}, {"content_length": "²"}])
async def test_a_body_that_turns_out_to_be_too_large_is_received_up_to_there(headers: dict[str, str]) -> None:
    upload = Upload(*[b"a" * 10] * 10)

    with pytest.raises(RequestTooLargeError, match="larger than 35 bytes"):
        await read(upload, limit=35, **headers)

    assert upload.received == 4


async def test_a_body_at_the_limit_is_read() -> None:
    body = urlencoded_form(TOKEN)
    length = str(len(body))

    assert (await read(body, limit=len(body), content_length=length)).token == TOKEN
    with pytest.raises(RequestTooLargeError):
        await read(body, limit=len(body) - 1)


async def test_a_multipart_field_may_fill_the_body() -> None:
    body = multipart(part("a", "b" * 15_000), part("x-amzn-marketplace-token", TOKEN))

    assert (await read(body, MULTIPART)).token == TOKEN


@pytest.mark.parametrize("content_length", ["", "1", "soon", "-1", "²", "+5", "1, 1"])
async def test_a_content_length_that_is_wrong_does_not_matter(content_length: str) -> None:
    assert (await read(urlencoded_form(TOKEN), content_length=content_length)).token == TOKEN


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "gzip, identity", ""])
async def test_a_compressed_body_is_unsupported_and_not_received(encoding: str) -> None:
    upload = Upload()

    with pytest.raises(UnsupportedMediaTypeError):
        await read(upload, content_encoding=encoding)

    assert upload.received == 0


async def test_identity_is_no_compression() -> None:
    assert (await read(urlencoded_form(TOKEN), content_encoding="Identity")).token == TOKEN


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/xml", "multipart/mixed; boundary=frontier", ";"]
)
async def test_another_media_type_is_unsupported_and_not_received(content_type: str) -> None:
    upload = Upload()

    with pytest.raises(UnsupportedMediaTypeError):
        await read(upload, content_type)

    assert upload.received == 0


async def test_a_request_without_a_media_type_is_unsupported() -> None:
    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}

    with pytest.raises(UnsupportedMediaTypeError):
        await read_form(Request(scope, Upload()), max_body_size=LIMIT, deadline=math.inf)


@pytest.mark.parametrize("content_type", [URLENCODED, MULTIPART, JSON])
async def test_a_browser_that_leaves_has_left(content_type: str) -> None:
    with pytest.raises(ClientDisconnect):
        await read(Upload(urlencoded_form(TOKEN), None), content_type)


async def test_a_body_that_never_arrives_is_not_waited_for_for_ever() -> None:
    """Servers wait so where a middleware outside of ours has read the body."""
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", URLENCODED.encode())]}

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    with pytest.raises(MalformedRequestError, match=r"did not arrive before the deadline\..* a middleware"):
        await read_form(Request(scope, receive), max_body_size=LIMIT, deadline=anyio.current_time() + 0.01)


@pytest.mark.parametrize("message", [{"type": "http.news"}, {"type": "http.request", "body": b"", "more_body": True}])
async def test_messages_without_end_that_bring_nothing_do_not_outlast_the_deadline(message: Message) -> None:
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", URLENCODED.encode())]}

    async def receive() -> Message:
        return message

    with pytest.raises(MalformedRequestError, match="did not arrive before the deadline"):
        await read_form(Request(scope, receive), max_body_size=LIMIT, deadline=anyio.current_time() + 0.01)


async def test_messages_of_other_types_are_skipped_and_do_not_end_the_body() -> None:
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", URLENCODED.encode())]}
    upload = Upload(urlencoded_form(TOKEN)[:9], urlencoded_form(TOKEN)[9:])
    news: list[Message] = [
        {"type": "http.news"},
        {"type": "http.news", "body": b"&x-amzn-marketplace-token=other", "more_body": False},
        {"type": "websocket.disconnect"},
    ]

    messages = [news[0], await upload(), news[1], news[2], await upload()]

    async def receive() -> Message:
        return messages.pop(0)

    form = await read_form(Request(scope, receive), max_body_size=LIMIT, deadline=math.inf)
    assert form.token == TOKEN


async def test_the_form_may_come_in_any_number_of_pieces() -> None:
    pieces = [bytes([byte]) for byte in urlencoded_form(TOKEN)]

    assert (await read(Upload(b"", *pieces, b""))).token == TOKEN


@pytest.mark.parametrize(
    ("fields", "free_trial"),
    [
        ([(OFFER_TYPE, "free-trial")], True),
        ([(OFFER_TYPE, "Free-Trial")], False),
        ([(OFFER_TYPE, "")], False),
        ([("offer-type", "free-trial")], False),
        ([(OFFER_TYPE, "paid"), (OFFER_TYPE, "free-trial")], False),
        ([], False),
    ],
)
async def test_a_free_trial_is_what_the_offer_type_says(fields: list[tuple[str, str]], free_trial: bool) -> None:
    body = urlencode([*fields, ("x-amzn-marketplace-token", TOKEN)]).encode()

    assert (await read(body)).free_trial is free_trial


async def test_hints_are_the_other_fields_of_aws() -> None:
    fields = {
        "x-amzn-marketplace-token": TOKEN,
        OFFER_TYPE: "free-trial",
        "x-amzn-marketplace-agreement-id": "agmt-1",
        "email": "buyer@example.com",
    }
    hints = {OFFER_TYPE: "free-trial", "x-amzn-marketplace-agreement-id": "agmt-1"}

    assert (await read(urlencode(fields).encode())).hints == hints
    assert (await read(multipart(*[part(*field) for field in fields.items()]), MULTIPART)).hints == hints
    assert (await read(json.dumps(fields | {"x-amzn-marketplace-a": 5}).encode(), JSON)).hints == hints


async def test_all_that_aws_is_known_to_send_are_hints_together() -> None:
    fields = {
        OFFER_TYPE: "free-trial",
        "x-amzn-marketplace-agreement-id": "agmt-1mnkzfq0vhgq2q3vkp6x8o6h2",
        "x-amzn-marketplace-product-id": "prod-abcdefghijklm",
        "x-amzn-marketplace-fulfillment-url": "https://app.acme.example/marketplace/register?listing=analytics",
    }

    assert (await read(urlencode({"x-amzn-marketplace-token": TOKEN, **fields}).encode())).hints == fields


async def test_hints_are_512_bytes_in_the_cookie_at_most_and_the_first_of_a_name_counts() -> None:
    long, short = "x-amzn-marketplace-long", "x-amzn-marketplace-s"
    room = 512 * 3 // 4 - len(f'{{"{long}":"","{short}":"c"}}')
    fields = [
        ("x-amzn-marketplace-token", TOKEN),
        (long, "a" * 384),
        (long, "a" * room),
        (long, "b"),
        *[(f"x-amzn-marketplace-{number}", "a" * 9) for number in range(20)],
        (short, "cc"),
        (short, "c"),
    ]

    hints = (await read(urlencode(fields).encode())).hints

    assert list(hints) == [long, short]
    assert len(base64.b64encode(json.dumps(hints, separators=(",", ":")).encode())) == 512


@pytest.mark.parametrize(
    "name", ["x-amzn-marketplace-token ", "x-amzn-marketplace-", "x-amzn-marketplace-\u00e9", "X-a"]
)
async def test_other_names_are_no_hints(name: str) -> None:
    form = await read(urlencode([("x-amzn-marketplace-token", TOKEN), (name, "a")]).encode())

    assert form.hints == {}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"RegistrationToken": "a", "x-amzn-marketplace-a": "\\ud800"}', JSON),
        ('{"RegistrationToken": "a", "x-amzn-marketplace-a": "é"}'.encode(), JSON),
        (b'{"RegistrationToken": "a", "x-amzn-marketplace-\\ud800": "a"}', JSON),
    ],
)
async def test_hints_are_text_that_can_be_written(body: bytes, content_type: str) -> None:
    """A lone surrogate would break the host's template or database; others take up to twelve bytes in the cookie."""
    try:
        form = await read(body, content_type)
    except MalformedRequestError:
        return
    assert form.hints == {}


async def test_the_token_is_not_in_the_repr_of_the_form() -> None:
    form = await read(urlencoded_form(TOKEN) + f"&{OFFER_TYPE}=free-trial".encode())

    assert TOKEN not in f"{form!r} {form}"
    assert "free-trial" in repr(form)


@settings(deadline=None)
@given(tokens)
@example(TOKEN)
def test_every_token_comes_through_every_form_as_it_was(token: str) -> None:
    bodies = [
        (urlencoded_form(token), URLENCODED),
        (f"x-amzn-marketplace-token={quote_plus(token)}".encode(), URLENCODED),
        (multipart_form(token), MULTIPART),
        (json_form(token), JSON),
    ]

    async def read_all() -> list[str]:
        return [(await read(body, content_type)).token for body, content_type in bodies]

    assert anyio.run(read_all) == [token] * 4


fragments = st.sampled_from(
    [
        b"x-amzn-marketplace-token",
        b"x-amzn-marketplace-a",
        b"=",
        b"&",
        b"a",
        b"%2B",
        b"%",
        b"--frontier",
        b"--",
        b"\r\n",
        b'Content-Disposition: form-data; name="x-amzn-marketplace-token"',
        b"Content-Disposition: form-data; name*=utf-8''a",
        b"; filename=a",
        b'{"RegistrationToken":',
        b'"',
        b"}",
        b"[",
        b"\\ud800",
        b"+2AA-",
    ]
)
bodies = st.binary(max_size=100) | st.lists(fragments | st.binary(max_size=4), max_size=15).map(b"".join)
parameters = st.lists(
    st.sampled_from(["boundary=frontier", 'boundary="frontier', "boundary=", "boundary*=utf-8''a", ""])
    | st.sampled_from(["ascii", "utf-7", "utf-16", "idna", "punycode", "hex", "undefined", "unicode_escape"]).map(
        "charset={}".format
    )
    | st.text(max_size=10),
    max_size=3,
)
content_types = st.builds(
    lambda media_type, rest: ";".join([media_type, *rest]).encode(),
    st.sampled_from([URLENCODED, "multipart/form-data", JSON]) | st.text(max_size=10),
    parameters,
) | st.binary(max_size=30)


@settings(deadline=None, max_examples=400)
@given(
    bodies, content_types, st.lists(st.integers(0, 100), max_size=4), st.booleans(), st.text("0123456789-", max_size=3)
)
def test_whatever_is_sent_is_a_form_or_a_request_error(
    body: bytes, content_type: bytes, cuts: Sequence[int], leaves: bool, content_length: str
) -> None:
    bounds = [0, *sorted(cuts), len(body)]
    chunks = [body[start:end] for start, end in itertools.pairwise(bounds)]
    upload = Upload(*chunks, *([None] if leaves else []))

    async def read_it() -> RegistrationForm | None:
        try:
            return await read(upload, content_type, limit=120, content_length=content_length)
        except (RequestError, ClientDisconnect):
            return None

    form = anyio.run(read_it)

    assert form is None or (form.token.isascii() and form.token.isprintable() and " " not in form.token != "")
