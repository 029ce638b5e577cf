import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_marketplace.local import SeenRequest
from starlette_marketplace.local.wire import AwsRequest
from tests.local.clients import body_of

TOKEN = "abcdef" + "+/" * 87 + "wx=="


def see(headers: dict[str, str], body: bytes) -> SeenRequest:
    return SeenRequest.of(AwsRequest.read(headers, body))


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (body_of(TOKEN), '{"RegistrationToken": "abcdef…wx=="}'),
        (body_of("short"), '{"RegistrationToken": "…"}'),
        (b'{"registrationToken": "%b"}' % TOKEN.encode(), '{"…": "abcdef…wx=="}'),
        (b'{"%b": true}' % TOKEN.encode(), '{"…": "…"}'),
        (b'{"RegistrationToken": ["%b"]}' % TOKEN.encode(), '{"RegistrationToken": "…"}'),
        (b'{"RegistrationToken": {"b": 1}, "c": 17}', '{"RegistrationToken": "…", "…": "…"}'),
        (b'{"RegistrationToken": null}', '{"RegistrationToken": null}'),
        (b'{"RegistrationToken": ""}', '{"RegistrationToken": ""}'),
        (b'"%b"' % TOKEN.encode(), "(not a JSON object)"),
        (TOKEN.encode(), "(not a JSON object)"),
        (b"", "(not a JSON object)"),
        (b"[" * 100_000, "(not a JSON object)"),
        (b"\xff", "(not a JSON object)"),
    ],
)
def test_a_body_is_shown_without_what_may_be_a_token(body: bytes, shown: str) -> None:
    assert see({}, body).text == f"POST / HTTP/1.1\n\n{shown}"


@pytest.mark.parametrize("header", ["user-agent", "amz-sdk-invocation-id", "amz-sdk-request", "x-amz-target", "host"])
def test_a_token_that_got_into_a_header_is_shortened_there_too(header: str) -> None:
    seen = see({header: f"a {TOKEN} b"}, body_of(TOKEN))

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
    seen = see({header: f"a {spelling} b"}, body)

    assert f"{header}: a {spelling[:6]}…{spelling[-4:]} b" in seen.text
    assert spelling[7:40] not in str(seen)


def test_a_token_whose_plus_signs_have_become_spaces_is_not_shown_either() -> None:
    broken = TOKEN.replace("+", " ")

    seen = see({"user-agent": broken}, body_of(broken))

    assert "user-agent: abcdef…wx==" in seen.text
    assert "/ / /" not in str(seen)


def test_a_short_token_is_not_shown_in_a_header_either() -> None:
    assert "user-agent: a … b" in see({"user-agent": "a s3cret b"}, body_of("s3cret")).text


def test_a_header_that_may_be_secret_is_not_shown() -> None:
    harmless = {"host": "localhost:8001", "content-length": "22", "x-amz-date": "20261123T030000Z", "accept": "*/*"}
    secret = {"cookie": "secret", "x-amz-content-sha256": "secret", "x": "secret", TOKEN: "secret"}

    seen = see({**harmless, **secret, "x-amz-security-token": "secret"}, b"")

    assert seen.text.split("\n")[1:-2] == [
        *(f"{name}: {value}" for name, value in harmless.items()),
        "x-amz-security-token: …",
    ]


SIGNATURE = f", SignedHeaders=host;{TOKEN}, Signature=" + "0" * 64


@pytest.mark.parametrize(
    ("authorization", "shown"),
    [
        (
            f"AWS4-HMAC-SHA256 Credential=local/20261123/us-east-1/aws-marketplace/aws4_request{SIGNATURE}",
            "AWS4-HMAC-SHA256 Credential=local/20261123/us-east-1/aws-marketplace/aws4_request, "
            "SignedHeaders=…, Signature=…",
        ),
        (
            f"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261123/eu-west-1/x.y/aws4_request{SIGNATURE}",
            "AWS4-HMAC-SHA256 Credential=AKIA…MPLE/20261123/eu-west-1/x.y/aws4_request, SignedHeaders=…, Signature=…",
        ),
        (f"AWS4-HMAC-SHA256 Credential=a/20261123/{'x' * 33}/y/aws4_request{SIGNATURE}", "…"),
        (f"AWS4-HMAC-SHA256 Credential=a/20261123/x/{'y' * 33}/aws4_request{SIGNATURE}", "…"),
        (f"AWS4-HMAC-SHA256 Credential={TOKEN}", "…"),
        ("Bearer secret", "…"),
        ("secret", "…"),
        ("secret secret", "…"),
        (TOKEN, "…"),
        ("", "…"),
    ],
)
def test_an_authorization_is_shown_without_what_proves_it(authorization: str, shown: str) -> None:
    seen = see({"authorization": authorization}, b"")

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
    seen = see({"amz-sdk-request": header}, b"")

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
    assert see({"user-agent": user_agent}, b"").sdk == sdk


def test_one_token_is_one_registration_and_no_token_is_none_of_them() -> None:
    first, again, other = (see({}, body_of(token)) for token in (TOKEN, TOKEN, TOKEN[::-1]))
    nothing, nothing_again = (see({}, b"") for _ in range(2))

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
    seen = see(headers, body)

    assert seen.text.encode().decode() == seen.text
    assert seen.token is None or seen.token.encode().decode() == seen.token


LICENSE = "arn:aws:license-manager::111122223333:license:l-0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("operation", "members", "shown"),
    [
        (
            "GetEntitlements",
            {
                "ProductCode": "acmeanalytics",
                "Filter": {
                    "LICENSE_ARN": [LICENSE, LICENSE.replace("license:", "")],
                    "CUSTOMER_AWS_ACCOUNT_ID": ["123456789012"],
                },
                "MaxResults": 5,
                "NextToken": None,
            },
            {
                "ProductCode": "acmeanalytics",
                "Filter": {
                    "LICENSE_ARN": [LICENSE, LICENSE.replace("license:", "")],
                    "CUSTOMER_AWS_ACCOUNT_ID": ["123456789012"],
                },
                "MaxResults": 5,
                "NextToken": None,
            },
        ),
        ("GetEntitlements", {"NextToken": TOKEN}, {"NextToken": "abcdef…wx=="}),
        ("GetEntitlements", {"NextToken": "short"}, {"NextToken": "…"}),
        ("GetEntitlements", {"NextToken": [TOKEN]}, {"NextToken": "…"}),
        ("GetEntitlements", {"ProductCode": TOKEN}, {"ProductCode": "abcdef…wx=="}),
        ("GetEntitlements", {"RegistrationToken": "s3cret"}, {"…": "…"}),
        ("GetEntitlements", {"Filter": {TOKEN: [TOKEN]}}, {"Filter": {"…": "…"}}),
        (
            "GetEntitlements",
            {"Filter": {"DIMENSION": [f"{LICENSE}{TOKEN}"]}},
            {"Filter": {"DIMENSION": ["arn:aw…wx=="]}},
        ),
        ("GetEntitlements", {"ProductCode": "\ud800"}, {"ProductCode": "?"}),
        ("DescribeAgreement", {"agreementId": "agmt-1"}, {"agreementId": "agmt-1"}),
        ("DescribeAgreement", {"agreementId": TOKEN}, {"agreementId": "abcdef…wx=="}),
        (
            "SearchAgreements",
            {"filters": [{"name": "Status", "values": ["ACTIVE"]}], "nextToken": TOKEN, "sort": {"sortBy": "EndTime"}},
            {
                "filters": [{"name": "Status", "values": ["ACTIVE"]}],
                "nextToken": "abcdef…wx==",
                "sort": {"sortBy": "EndTime"},
            },
        ),
        ("SearchAgreements", {"filters": [[[[[[[["deep"]]]]]]]]}, {"filters": [[[[[[["…"]]]]]]]}),
    ],
)
def test_of_other_operations_ids_are_shown_and_tokens_and_members_that_nobody_knows_are_not(
    operation: str, members: dict[str, object], shown: dict[str, object]
) -> None:
    seen = SeenRequest.of(AwsRequest.read({}, json.dumps(members).encode()), operation)

    assert json.loads(seen.text.partition("\n\n")[2]) == shown
    assert seen.token is None


def test_a_body_that_is_as_deep_as_json_can_be_is_shown() -> None:
    body = b'{"filters": ' + b"[" * 800 + b"]" * 800 + b"}"

    assert "…" in SeenRequest.of(AwsRequest.read({}, body), "SearchAgreements").text


@pytest.mark.parametrize(
    "target", ["AWSMPCommerceService_v20200301.DescribeAgreement", "AWSMPEntitlementService.GetEntitlements"]
)
def test_the_target_is_shown_whole(target: str) -> None:
    seen = SeenRequest.of(AwsRequest.read({"x-amz-target": target}, b""), target.partition(".")[2])

    assert f"x-amz-target: {target}\n" in seen.text


@given(
    st.sampled_from(["GetEntitlements", "DescribeAgreement", "SearchAgreements"]),
    st.dictionaries(
        st.sampled_from(["ProductCode", "Filter", "agreementId", "filters", "NextToken", "nextToken"]) | st.text(),
        st.recursive(values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)),
    ),
    st.lists(st.sampled_from(["Filter", "filters", "ProductCode", "values", TOKEN, "list"]), max_size=10),
)
def test_a_token_is_hidden_wherever_it_is_in_a_body(
    operation: str, members: dict[str, object], path: list[str]
) -> None:
    value: object = TOKEN
    for name in reversed(path):
        value = [value] if name == "list" else {name: value}

    seen = SeenRequest.of(AwsRequest.read({}, json.dumps({**members, "ProductCode": value}).encode()), operation)

    assert TOKEN not in seen.text
    assert seen.text.encode().decode() == seen.text
