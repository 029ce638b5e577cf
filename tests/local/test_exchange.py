import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_marketplace.local import SeenRequest
from tests.local.clients import body_of

TOKEN = "abcdef" + "+/" * 87 + "wx=="


def shown_body(body: bytes) -> str:
    return SeenRequest.read("/", {}, body).text.partition("\n\n")[2]


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (body_of(TOKEN), '{"RegistrationToken": "abcdef…wx=="}'),
        (body_of("short"), '{"RegistrationToken": "…"}'),
        (b'{"registrationToken": "%b"}' % TOKEN.encode(), '{"registrationToken": "abcdef…wx=="}'),
        (b'{"%b": true}' % TOKEN.encode(), '{"abcdef…wx==": true}'),
        (b'{"RegistrationToken": ["%b"]}' % TOKEN.encode(), '{"RegistrationToken": "…"}'),
        (b'{"a": {"b": 1}, "c": 17, "d": null, "e": ""}', '{"a": "…", "c": "…", "d": null, "e": ""}'),
        (b'"%b"' % TOKEN.encode(), "(186 bytes that are not a JSON object)"),
        (TOKEN.encode(), "(184 bytes that are not a JSON object)"),
        (b"", "(0 bytes that are not a JSON object)"),
        (b"[" * 100_000, "(100000 bytes that are not a JSON object)"),
        (b"\xff", "(1 bytes that are not a JSON object)"),
    ],
)
def test_a_body_is_shown_without_what_may_be_a_token(body: bytes, shown: str) -> None:
    assert shown_body(body) == shown


def test_a_long_body_is_cut() -> None:
    assert len(shown_body(json.dumps({str(number): True for number in range(10_000)}).encode())) == 4_000


@pytest.mark.parametrize("header", ["user-agent", "amz-sdk-invocation-id", "amz-sdk-request", "x-amz-target", "host"])
def test_a_token_that_got_into_a_header_is_shortened_there_too(header: str) -> None:
    seen = SeenRequest.read("/", {header: f"a {TOKEN} b"}, body_of(TOKEN))

    assert f"{header}: a abcdef…wx== b" in seen.text
    assert TOKEN not in str(seen)


@pytest.mark.parametrize("header", ["user-agent", "host", "content-type", "amz-sdk-request"])
@pytest.mark.parametrize(
    "spelling",
    [
        TOKEN,
        quote(TOKEN, safe=""),
        quote(TOKEN, safe="").lower(),
        quote(quote(TOKEN, safe=""), safe=""),
        "".join(f"%{byte:02x}" for byte in TOKEN.encode()),
    ],
    ids=["as it is", "encoded", "in lower case", "encoded twice", "every letter encoded"],
)
@pytest.mark.parametrize("body", [body_of(TOKEN), b"", body_of("another")], ids=["its body", "no body", "another body"])
def test_a_token_in_a_header_is_shown_in_no_spelling(header: str, spelling: str, body: bytes) -> None:
    seen = SeenRequest.read("/", {header: f"a {spelling} b"}, body)

    assert f"{header}: a {spelling[:6]}…{spelling[-4:]} b" in seen.text
    assert spelling[7:40] not in str(seen)


def test_a_token_whose_plus_signs_have_become_spaces_is_not_shown_either() -> None:
    broken = TOKEN.replace("+", " ")

    seen = SeenRequest.read("/", {"user-agent": broken}, body_of(broken))

    assert "user-agent: abcdef…wx==" in seen.text
    assert "/ / /" not in str(seen)


def test_a_long_header_is_cut() -> None:
    seen = SeenRequest.read("/", {"user-agent": "ab " * 1000}, b"")

    assert seen.text.split("\n")[1:-2] == ["user-agent: " + "ab " * 100]


def test_of_a_header_that_may_be_secret_only_the_name_is_shown() -> None:
    harmless = {"host": "localhost:8001", "content-length": "22", "x-amz-date": "20261123T030000Z", "accept": "*/*"}
    secret = {"x-amz-security-token": "secret", "cookie": "secret", "x-amz-content-sha256": "secret", "x": "secret"}

    seen = SeenRequest.read("/", {**harmless, **secret, TOKEN: "secret"}, b"")

    assert seen.text.split("\n")[1:-2] == [
        *(f"{name}: {value}" for name, value in harmless.items()),
        *(f"{name}: …" for name in secret),
        "abcdef…wx==: …",
    ]


def test_the_first_fifty_headers_are_shown() -> None:
    seen = SeenRequest.read("/", {str(number): "" for number in range(1000)}, b"")

    assert seen.text.split("\n")[1:-2] == [f"{number}: …" for number in range(50)]


SIGNATURE = ", SignedHeaders=host;x-amz-date, Signature=" + "0" * 64


@pytest.mark.parametrize(
    ("authorization", "shown"),
    [
        (
            f"AWS4-HMAC-SHA256 Credential=local/20261123/us-east-1/aws-marketplace/aws4_request{SIGNATURE}",
            "AWS4-HMAC-SHA256 Credential=local/20261123/us-east-1/aws-marketplace/aws4_request, "
            "SignedHeaders=host;x-amz-date, Signature=…",
        ),
        (
            f"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261123/{'x' * 64}/{'y' * 64}/aws4_request,"
            f"SignedHeaders=host;{TOKEN},Signature={'0' * 64}",
            "AWS4-HMAC-SHA256 Credential=AKIA…MPLE/20261123/…/…/aws4_request, SignedHeaders=…, Signature=…",
        ),
        (f"AWS4-HMAC-SHA256 Credential={TOKEN}", "AWS4-HMAC-SHA256 …"),
        ("Bearer secret", "Bearer …"),
        ("secret", "…"),
        ("secret secret", "…"),
        (TOKEN, "…"),
        ("", "…"),
    ],
)
def test_an_authorization_is_shown_without_what_proves_it(authorization: str, shown: str) -> None:
    seen = SeenRequest.read("/", {"authorization": authorization}, b"")

    assert seen.text.split("\n")[1] == f"authorization: {shown}"


@pytest.mark.parametrize(
    ("header", "attempt", "maximum"),
    [
        ("attempt=1; max=3", 1, 3),
        ("attempt=2", 2, None),
        ("ttl=20261123T030000Z; attempt=3;max=5", 3, 5),
        ("max=4", None, 4),
        ("attempt=x; max=99999", None, None),
        ("noattempt=1", None, None),
        ("attempt=٣", None, None),
    ],
)
def test_which_attempt_it_is_is_read_where_the_sdk_says_so(
    header: str, attempt: int | None, maximum: int | None
) -> None:
    seen = SeenRequest.read("/", {"amz-sdk-request": header}, b"")

    assert (seen.attempt, seen.max_attempts) == (attempt, maximum)


@pytest.mark.parametrize(
    ("user_agent", "sdk"),
    [
        ("Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux lang/python#3.11.7 md/x", "Boto3/1.44.5, python 3.11.7"),
        ("aws-sdk-js/3.1137.0 ua/2.1 os/linux lang/js md/nodejs#20.20.2", "aws-sdk-js/3.1137.0, js"),
        ("curl/8.0", "curl/8.0"),
        ("", ""),
    ],
)
def test_the_user_agent_tells_sdk_and_language(user_agent: str, sdk: str) -> None:
    assert SeenRequest.read("/", {"user-agent": user_agent}, b"").sdk == sdk


def test_one_token_is_one_registration_and_no_token_is_none_of_them() -> None:
    first, again, other = (SeenRequest.read("/", {}, body_of(token)) for token in (TOKEN, TOKEN, TOKEN[::-1]))
    nothing, nothing_again = (SeenRequest.read("/", {}, b"") for _ in range(2))

    names = [seen.registration for seen in (first, again, other, nothing, nothing_again)]
    assert names[0] == names[1]
    assert len(set(names)) == 4
    assert nothing.token is None


latin = st.characters(codec="latin-1")
values = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(), max_size=2)


@given(
    st.dictionaries(st.sampled_from(["authorization", "user-agent", "amz-sdk-request"]), st.text(alphabet=latin)),
    st.binary() | st.dictionaries(st.just("RegistrationToken") | st.text(), values).map(json.dumps).map(str.encode),
)
def test_whatever_is_sent_can_be_put_into_a_page(headers: dict[str, str], body: bytes) -> None:
    seen = SeenRequest.read("/", headers, body)

    assert seen.text.encode().decode() == seen.text
    assert seen.token is None or seen.token.encode().decode() == seen.token
