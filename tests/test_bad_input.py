"""Whatever is sent to the landing URL, the answer is one of the design, and never an error of the server."""

import gzip
import itertools
import json
from dataclasses import replace
from urllib.parse import urlencode

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_marketplace import MarketplaceSettings
from tests.support.fakes import CUSTOMER, FakeResolver
from tests.support.hosts import HOSTS, LANDING, Host, browser, form
from tests.support.servers import serve
from tests.support.sockets import URLENCODED, answer_on, connect, head_of

ANSWERS = {200, 303, 400, 413, 415}

TOKEN = "x-amzn-marketplace-token"
SETTINGS = MarketplaceSettings(secret_key="k" * 32, product_codes="*", max_body_size=400)
HOSTS_TO_TRY = [host(settings=SETTINGS, resolver=FakeResolver({"good": CUSTOMER})) for host in HOSTS]

media_types = st.sampled_from(
    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "application/json", "text/plain", ""]
)
charsets = st.sampled_from(["", "; charset=UTF-8", "; charset=latin-1", "; charset=utf-16", "; charset=none", ";"])
header_values = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=20)
headers = st.dictionaries(
    st.sampled_from(
        ["accept", "content-length", "content-encoding", "transfer-encoding", "cookie", "host", "origin", "expect", "x"]
    ),
    header_values
    | st.sampled_from(
        ["0", "1", "-1", "999999", "identity", "gzip", "chunked", "application/json", "text/html", "null"]
    ),
)
texts = st.text(max_size=12) | st.sampled_from(["good", "a b", "\x00", '"><script>', "a" * 500])
names = st.sampled_from([TOKEN, "x-amzn-marketplace-offer-type", "RegistrationToken", "x-amzn-marketplace-<b>"]) | texts
members = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
)
fields = st.lists(st.tuples(names, texts), max_size=4)
bodies = st.one_of(
    st.binary(max_size=500),
    fields.map(lambda pairs: urlencode(pairs, errors="surrogatepass").encode()),
    fields.map(
        lambda pairs: (
            "".join(
                f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in pairs
            ).encode(errors="surrogatepass")
            + b"--b--\r\n"
        )
    ),
    members.map(lambda value: json.dumps(value).encode()),
    st.lists(st.tuples(names, members), max_size=4).map(
        lambda pairs: (
            "{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}"
        ).encode()
    ),
)


def answer_to(
    app: ASGIApp, sent: list[tuple[str, str]], body: bytes, cuts: list[int], *, leaves: bool
) -> list[Message]:
    """What the app sends to a POST whose body comes in pieces, from a browser that may leave before the last."""
    bounds = [0, *sorted(cuts), len(body)]
    pieces = [body[start:end] for start, end in itertools.pairwise(bounds)]
    incoming: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": leaves or number < len(pieces) - 1}
        for number, piece in enumerate(pieces)
    ]
    answered: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        answered.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": LANDING,
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent],
    }
    anyio.run(app, scope, receive, send)
    return answered


@pytest.mark.parametrize("app", HOSTS_TO_TRY, ids=[host.__name__ for host in HOSTS])
@hypothesis_settings(deadline=None, max_examples=150)
@given(
    body=bodies,
    media_type=media_types,
    charset=charsets,
    more=headers,
    cuts=st.lists(st.integers(0, 400), max_size=3),
    leaves=st.booleans(),
)
def test_whatever_is_posted_the_answer_is_one_of_the_design(
    app: ASGIApp, body: bytes, media_type: str, charset: str, more: dict[str, str], cuts: list[int], leaves: bool
) -> None:
    answered = answer_to(app, [("content-type", media_type + charset), *more.items()], body, cuts, leaves=leaves)
    start, *rest = answered
    assert start["status"] in ANSWERS
    kinds = dict(start["headers"])
    assert kinds[b"cache-control"] == b"no-store"
    content = b"".join(message.get("body", b"") for message in rest)
    if leaves and not content and start["status"] == 400:
        assert b"set-cookie" not in kinds
        return
    if start["status"] == 303:
        assert kinds[b"location"] == b"/signup"
    elif kinds[b"content-type"] == b"application/json":
        assert json.loads(content)["success"] is (start["status"] == 200)
    else:
        assert b"Reference <code>" in content
        assert b"<script" not in content
    assert (b"set-cookie" in kinds) == (start["status"] in (200, 303))


pytestmark = pytest.mark.anyio


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest) -> Host:
    made: Host = request.param
    return made


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"RegistrationToken": "good"}', 200),
        ('{"RegistrationToken": "good", "RegistrationToken": "good"}', 400),
        ('{"RegistrationToken": {"RegistrationToken": "good"}}', 400),
        ('[{"RegistrationToken": "good"}]', 400),
        ('"good"', 400),
        ("null", 400),
        ("[" * 8_000 + "]" * 8_000, 400),
        ('{"a":' * 2_500 + "1" + "}" * 2_500, 400),
        (f'{{"RegistrationToken": "good", "n": {"9" * 10_000}}}', 400),
        (f'{{"RegistrationToken": "good", "text": "{"x" * 20_000}"}}', 413),
        ('{"RegistrationToken": "good", "n": NaN}', 200),
        ('\ufeff{"RegistrationToken": "good"}', 400),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_json_that_is_deep_huge_duplicated_or_no_object_is_refused(
    host: Host, settings: MarketplaceSettings, body: str, status: int
) -> None:
    async with browser(host(settings=settings, resolver=FakeResolver())) as buyer:
        response = await buyer.post(LANDING, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status
    assert response.json()["success"] is (status == 200)


async def test_a_compressed_body_is_refused(host: Host, settings: MarketplaceSettings) -> None:
    async with browser(host(settings=settings, resolver=FakeResolver())) as buyer:
        response = await buyer.post(
            LANDING,
            content=gzip.compress(urlencode(form("good")).encode()),
            headers={"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"},
        )
    assert response.status_code == 415


def reading_first(app: ASGIApp, *, passes_on: bool) -> ASGIApp:
    """A middleware around `app` that reads the body, and passes on an empty one or lets `app` wait for it."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()

        async def empty() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        await app(scope, empty if passes_on else receive, send)

    return outer


@pytest.mark.parametrize(("passes_on", "code"), [(True, "MISSING_TOKEN"), (False, "MALFORMED_REQUEST")])
def test_a_body_that_was_read_already_is_missed_and_the_log_says_where_to_look(
    host: Host, settings: MarketplaceSettings, caplog: pytest.LogCaptureFixture, passes_on: bool, code: str
) -> None:
    impatient = replace(settings, deadline=0.1)
    app = reading_first(host(settings=impatient, resolver=FakeResolver()), passes_on=passes_on)
    with serve(app, lifespan="off") as url:
        response = httpx2.post(url + LANDING, data=form("good"), headers={"Accept": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, code)
    assert "middleware" in caplog.text


CHUNKED = "Transfer-Encoding: chunked"
GOOD = b"x-amzn-marketplace-token=good"


def chunk(body: bytes) -> bytes:
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(head_of(URLENCODED, f"Content-Length: {len(GOOD)}") + GOOD, 303, id="as it should be"),
        pytest.param(head_of(URLENCODED, CHUNKED) + chunk(GOOD[:9]) + chunk(GOOD[9:]) + chunk(b""), 303, id="chunked"),
        pytest.param(head_of(URLENCODED, "Content-Length: 5") + GOOD, 400, id="length too short"),
        pytest.param(head_of(URLENCODED, "Content-Length: 200") + GOOD, 400, id="length too long"),
        pytest.param(head_of(URLENCODED, "Content-Length: 17000"), 413, id="length over the limit"),
        pytest.param(head_of(URLENCODED, CHUNKED) + chunk(b"x" * 17_000), 413, id="chunks over the limit"),
        pytest.param(head_of(URLENCODED, CHUNKED) + chunk(GOOD), 400, id="no last chunk"),
        pytest.param(head_of(URLENCODED), 400, id="no body"),
        # These do not reach the host: the server refuses them.
        pytest.param(head_of(URLENCODED, "Content-Length: -1") + GOOD, 400, id="negative length"),
        pytest.param(head_of(URLENCODED, "Content-Length: x") + GOOD, 400, id="length that is none"),
        pytest.param(head_of(URLENCODED, "Content-Length: 5", "Content-Length: 29") + GOOD, 400, id="two lengths"),
    ],
)
def test_on_the_wire_too_the_answer_is_one_of_the_design(
    host: Host, settings: MarketplaceSettings, sent: bytes, status: int
) -> None:
    arrives = status != 400
    app = host(settings=settings if arrives else replace(settings, deadline=0.2), resolver=FakeResolver())
    with serve(app) as url:
        with connect(url) as connection:
            connection.sendall(sent)
            assert answer_on(connection).startswith(f"HTTP/1.1 {status} ")
        assert httpx2.get(url + LANDING).status_code == 200


def test_a_browser_that_leaves_in_the_middle_of_its_body_troubles_nobody(
    host: Host, settings: MarketplaceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(host(settings=settings, resolver=FakeResolver())) as url:
        with connect(url) as connection:
            connection.sendall(head_of(URLENCODED, "Content-Length: 200") + GOOD)
        assert httpx2.post(url + LANDING, data=form("good")).status_code == 303
    assert "Exception" not in caplog.text
