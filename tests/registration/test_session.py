import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http.cookies import Morsel, SimpleCookie
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from itsdangerous import Signer, base64_decode, base64_encode
from starlette.requests import HTTPConnection
from starlette.responses import Response

from starlette_marketplace import MarketplaceCustomer, MarketplaceSettings, Registration
from starlette_marketplace.keys import Keys
from starlette_marketplace.registration.session import RegistrationSession

KEY = "k3y-0123456789abcdef0123456789ab"
NEW_KEY = "n3w-0123456789abcdef0123456789ab"
PURPOSE = "session"
NOW = 1_795_400_000.25
OTHERS = "session=abc; theme=dark; __Host-other-1=x"


def registration_of(name: str = "1", *, resolved_at: float = NOW, **changes: Any) -> Registration:
    customer = MarketplaceCustomer(
        aws_account_id="123456789012", product_code="acme", license_arn=f"arn:aws:license-manager:::l-{name}"
    )
    values: dict[str, Any] = {"customer": customer, "resolved_at": datetime.fromtimestamp(resolved_at, UTC)} | changes
    return Registration(**values)


def session_of(now: float = NOW, **changes: Any) -> RegistrationSession:
    values: dict[str, Any] = {"secret_key": KEY, "product_codes": "*"} | changes
    return RegistrationSession(MarketplaceSettings(**values), clock=lambda: now)


def morsel(response: Response) -> "Morsel[str]":
    (header,) = response.headers.getlist("set-cookie")
    (cookie,) = SimpleCookie(header).values()
    return cookie


def cookie_of(registration: Registration, session: RegistrationSession | None = None) -> tuple[str, str]:
    """The name and the value of the cookie that a registration is given."""
    response = Response()
    response.headers.append("Set-Cookie", (session or SESSION).cookie(registration))
    cookie = morsel(response)
    return cookie.key, cookie.value


def browser(*cookies: tuple[str, str] | str | bytes) -> HTTPConnection:
    """A request with these cookies."""
    texts = [f"{cookie[0]}={cookie[1]}" if isinstance(cookie, tuple) else cookie for cookie in cookies]
    header = b"; ".join(text if isinstance(text, bytes) else text.encode("latin-1") for text in texts)
    return HTTPConnection({"type": "http", "headers": [(b"cookie", header)]})


def signed(data: object, *, key: str = KEY, purpose: str = PURPOSE, digest: Any = hashlib.sha256) -> str:
    return signed_bytes(json.dumps(data).encode(), key=key, purpose=purpose, digest=digest)


def signed_bytes(payload: bytes, *, key: str = KEY, purpose: str = PURPOSE, digest: Any = hashlib.sha256) -> str:
    """The value of a cookie of this payload, under the name that `REGISTRATION` has."""
    derived = Keys(MarketplaceSettings(secret_key=key, product_codes="*"), purpose).newest()
    signer = Signer(derived, key_derivation="none", digest_method=digest)
    pair = signer.sign(f"__Host-marketplace-{REGISTRATION.id}={base64_encode(payload).decode()}")
    return pair.decode().partition("=")[2]


SESSION = session_of()
REGISTRATION = registration_of()
NAME, VALUE = cookie_of(REGISTRATION)


@pytest.mark.parametrize(
    ("changes", "name", "secure", "domain", "max_age"),
    [
        ({}, "__Host-marketplace-", True, "", "3600"),
        ({"session_domain": "seller.example"}, "__Secure-marketplace-", True, "seller.example", "3600"),
        ({"https_only": False}, "marketplace-", "", "", "3600"),
        ({"https_only": False, "session_domain": "seller.example"}, "marketplace-", "", "seller.example", "3600"),
        ({"session_cookie": "aws", "session_max_age": 60}, "__Host-aws-", True, "", "60"),
    ],
)
def test_the_settings_decide_on_name_and_attributes_and_removing_matches_them(
    changes: dict[str, Any], name: str, secure: str | bool, domain: str, max_age: str
) -> None:
    session, answer, goodbye = session_of(**changes), Response(), Response()

    answer.headers.append("Set-Cookie", session.cookie(REGISTRATION))
    session.delete(goodbye, REGISTRATION)

    given_cookie, removed = morsel(answer), morsel(goodbye)
    for cookie in (given_cookie, removed):
        assert cookie.key == name + REGISTRATION.id
        assert (cookie["secure"], cookie["domain"], cookie["path"]) == (secure, domain, "/")
        assert (cookie["httponly"], cookie["samesite"]) == (True, "lax")
    assert given_cookie["max-age"] == max_age
    assert (removed["max-age"], removed.value) == ("0", "")
    assert session.registrations(browser((given_cookie.key, given_cookie.value))) == [REGISTRATION]
    assert session.registrations(browser((removed.key, removed.value))) == []


def test_every_agreement_has_a_cookie_of_its_own_and_the_newest_comes_first() -> None:
    registrations = [registration_of(name, resolved_at=NOW - age) for name, age in (("1", 5), ("2", 1), ("3", 9))]
    connection = browser(*map(cookie_of, registrations))

    assert SESSION.registrations(connection) == [registrations[1], registrations[0], registrations[2]]
    assert [SESSION.registration(connection, each.id) for each in registrations] == registrations
    assert SESSION.registration(connection, registration_of("4").id) is None


def test_the_same_agreement_replaces_its_own_cookie() -> None:
    again = cookie_of(registration_of(resolved_at=NOW + 1))

    assert again[0] == NAME
    assert again[1] != VALUE


def test_a_registration_is_found_among_the_cookies_of_others() -> None:
    connection = browser(OTHERS, (NAME, VALUE), "a=b")

    assert SESSION.registrations(connection) == [REGISTRATION]
    assert SESSION.registration(connection, REGISTRATION.id) == REGISTRATION


def test_a_registration_keeps_all_that_is_known_of_it() -> None:
    registration = registration_of(free_trial=True, hints={"x-amzn-marketplace-offer-type": "free-trial é"})

    assert SESSION.registrations(browser(cookie_of(registration))) == [registration]


def test_the_cookie_says_what_the_registration_says_and_no_more() -> None:
    payload = VALUE.rsplit(".", 1)[0]
    text = json.loads(base64_decode(payload))

    assert text == json.loads(json.dumps(REGISTRATION.to_dict()))
    assert set(text) == {"customer", "resolved_at", "free_trial", "hints"}


def test_without_cookies_there_is_no_registration() -> None:
    connection = HTTPConnection({"type": "http", "headers": []})

    assert SESSION.registrations(connection) == []
    assert SESSION.registration(connection, REGISTRATION.id) is None


def is_unreadable(*cookies: tuple[str, str] | str | bytes, session: RegistrationSession = SESSION) -> bool:
    connection = browser(*cookies)
    return session.registrations(connection) == [] and session.registration(connection, REGISTRATION.id) is None


# The last character has two bits that base64 does not use, and its decoder takes '+/' for '-_'.
@given(st.integers(0, len(VALUE) - 2), st.characters(max_codepoint=255))
def test_a_cookie_with_another_character_in_it_does_not_count(position: int, character: str) -> None:
    assume(VALUE[position] not in (character, {"+": "-", "/": "_"}.get(character)))

    assert is_unreadable((NAME, VALUE[:position] + character + VALUE[position + 1 :]))


@given(st.integers(0, len(VALUE) - 1), st.integers(0, len(VALUE) - 1))
def test_a_piece_of_a_cookie_does_not_count(start: int, end: int) -> None:
    assert is_unreadable((NAME, VALUE[start:end]))


def test_a_cookie_under_the_name_of_another_does_not_count() -> None:
    other_name, other_value = cookie_of(registration_of("2"))

    assert is_unreadable((NAME, other_value), (other_name, VALUE))


def test_a_registration_of_an_app_whose_name_begins_with_ours_is_not_ours() -> None:
    theirs = session_of(session_cookie="marketplace-beta")
    name, value = cookie_of(REGISTRATION, theirs)

    assert is_unreadable((name, value))
    assert SESSION.registration(browser((name, value)), f"beta-{REGISTRATION.id}") is None
    assert theirs.registrations(browser((name, value))) == [REGISTRATION]


def test_a_registration_for_a_product_that_is_not_ours_does_not_count() -> None:
    registration = registration_of()
    cookie = browser(cookie_of(registration))
    for product_codes, found in (("acme", [registration]), ("acme-pro,acm", []), ("other,acme", [registration])):
        session = session_of(product_codes=product_codes)
        assert session.registrations(cookie) == found
        assert session.registration(cookie, registration.id) == (found[0] if found else None)


def test_a_registration_without_a_license_does_not_count_once_the_product_is_no_legacy_one() -> None:
    customer = MarketplaceCustomer(aws_account_id="123456789012", product_code="acme", customer_identifier="c-1")
    registration = registration_of(customer=customer)
    cookie = browser(cookie_of(registration))
    for legacy_product_codes, found in (("*", [registration]), ("old,acme", [registration]), ("old", []), ((), [])):
        assert session_of(legacy_product_codes=legacy_product_codes).registrations(cookie) == found


def test_a_cookie_of_another_name_does_not_count() -> None:
    suffix = NAME.removeprefix("__Host-")

    assert is_unreadable((suffix, VALUE), (f"__Secure-{suffix}", VALUE), (f"x{NAME}", VALUE), (f"{NAME}0", VALUE))


@pytest.mark.parametrize(
    "changes",
    [
        {"key": NEW_KEY},
        {"purpose": "token"},
        {"digest": hashlib.sha1},
    ],
)
def test_a_cookie_that_was_signed_otherwise_does_not_count(changes: dict[str, Any]) -> None:
    data = REGISTRATION.to_dict()

    assert not is_unreadable((NAME, signed(data)))
    assert is_unreadable((NAME, signed(data, **changes)))


def test_a_cookie_without_a_signature_does_not_count() -> None:
    payload = VALUE.rsplit(".", 1)[0]

    assert is_unreadable((NAME, payload))
    assert is_unreadable((NAME, f"{payload}."))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)


@given(json_values | st.dictionaries(st.sampled_from(list(REGISTRATION.to_dict())), json_values))
def test_a_signature_alone_does_not_make_a_registration(data: object) -> None:
    assert is_unreadable((NAME, signed(data)))


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"[" * 100_000], ids=["empty", "half", "no text", "deep"])
def test_a_signed_value_that_is_not_json_does_not_count(payload: bytes) -> None:
    assert is_unreadable((NAME, signed_bytes(payload)))


@pytest.mark.parametrize(
    ("age", "counts"), [(0, True), (3600, True), (3600.001, False), (1e12, False), (-30, True), (-30.001, False)]
)
def test_a_registration_lasts_for_the_maximum_age_and_does_not_come_from_the_future(age: float, counts: bool) -> None:
    assert is_unreadable((NAME, VALUE), session=session_of(NOW + age)) is not counts


def test_the_maximum_age_is_the_one_of_now_and_not_that_of_the_cookie() -> None:
    assert is_unreadable((NAME, VALUE), session=session_of(NOW + 61, session_max_age=60))
    assert not is_unreadable((NAME, VALUE), session=session_of(NOW + 60, session_max_age=60))


def test_a_key_that_fell_back_still_verifies_and_no_longer_signs() -> None:
    rotated = session_of(secret_key=NEW_KEY, secret_key_fallbacks=KEY)
    without = session_of(secret_key=NEW_KEY)

    assert rotated.registrations(browser((NAME, VALUE))) == [REGISTRATION]
    assert is_unreadable((NAME, VALUE), session=without)
    assert without.registrations(browser(cookie_of(REGISTRATION, rotated))) == [REGISTRATION]
    assert is_unreadable(cookie_of(REGISTRATION, rotated))


def test_a_cookie_that_was_made_against_a_local_marketplace_does_not_count_in_production() -> None:
    staging = session_of(endpoint_url="http://localhost:8001")
    cookie = cookie_of(REGISTRATION, staging)

    assert staging.registrations(browser(cookie)) == [REGISTRATION]
    assert is_unreadable(cookie)
    assert is_unreadable((NAME, VALUE), session=staging)
    assert is_unreadable(cookie, session=session_of(endpoint_url="http://localhost:8002"))


# What str.strip removes, and so Starlette's parser of cookies; browsers take all but the control characters in a name.
@pytest.mark.parametrize("before", ["\xa0", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\xa0 \t\xa0"])
@pytest.mark.parametrize("after", ["", "\xa0"])
def test_a_cookie_that_a_subdomain_has_planted_past_the_prefix_does_not_count(before: str, after: str) -> None:
    planted = f"{before}{NAME}{after}={VALUE}"

    assert is_unreadable(planted)
    assert is_unreadable(f"a=b; {planted}; c=d")
    assert is_unreadable(f"{NAME}={before}{VALUE}")
    assert SESSION.registrations(browser(f"{planted};\t{NAME}={VALUE} ")) == [REGISTRATION]


def test_cookies_in_several_headers_are_all_read() -> None:
    other = registration_of("2", resolved_at=NOW - 1)
    headers = [(b"cookie", "=".join(cookie_of(each)).encode()) for each in (REGISTRATION, other)]
    connection = HTTPConnection({"type": "http", "headers": headers})

    assert SESSION.registrations(connection) == [REGISTRATION, other]


def test_of_two_cookies_of_one_name_the_newest_that_holds_counts() -> None:
    older = registration_of(resolved_at=NOW - 5)
    for cookies in ([cookie_of(older), (NAME, VALUE)], [(NAME, VALUE), cookie_of(older), (NAME, "forged")]):
        assert SESSION.registrations(browser(*cookies)) == [REGISTRATION]
        assert SESSION.registration(browser(*cookies), REGISTRATION.id) == REGISTRATION


def test_a_huge_cookie_does_not_count() -> None:
    assert is_unreadable((NAME, "a" * 1_000_000))
    assert is_unreadable((NAME, VALUE + "a" * 1_000_000))
    assert is_unreadable((NAME, f".{base64.urlsafe_b64encode(bytes(100_000)).decode()}.{VALUE.rsplit('.', 1)[1]}"))


def test_among_three_hundred_cookies_the_one_that_holds_is_found() -> None:
    forged = [(f"{NAME[:-3]}{number:03}", VALUE) for number in range(300)]

    assert SESSION.registrations(browser(*forged, (NAME, VALUE))) == [REGISTRATION]


@settings(deadline=None)
@given(st.binary(max_size=100), st.lists(st.binary(max_size=20), max_size=5))
def test_whatever_bytes_come_as_cookies_there_is_no_registration_in_them(value: bytes, more: Sequence[bytes]) -> None:
    name = NAME.encode()

    assert is_unreadable(b"%s=%s" % (name, value), *more)
    assert is_unreadable(b"%s=%s" % (name[:-2], value), b'%s="%s"' % (name, value), *more)
    assert SESSION.registration(browser(*more), value.decode("latin-1")) is None


@given(
    st.dictionaries(st.text(min_size=1, max_size=40), st.text(max_size=216), max_size=10),
    st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=512), min_size=3, max_size=3),
    st.sampled_from([{}, {"session_cookie": "a" * 64, "session_domain": "seller.example"}]),
)
@settings(deadline=None)
def test_the_cookie_is_never_larger_than_browsers_take(
    hints: dict[str, str], identifiers: list[str], changes: dict[str, Any]
) -> None:
    license_arn, customer_identifier, agreement_id = identifiers
    customer = replace(
        REGISTRATION.customer,
        license_arn=license_arn or "l-1",
        customer_identifier=customer_identifier,
        agreement_id=agreement_id,
    )
    session, registration = session_of(**changes), registration_of(customer=customer, hints=hints)
    name, value = cookie_of(registration, session)

    (found,) = session.registrations(browser((name, value)))
    assert len(name) + len(value) <= 4096
    assert found in (registration, replace(registration, hints={}))


def test_hints_are_left_out_when_the_cookie_would_be_too_large() -> None:
    noise = "".join(hashlib.sha512(bytes([number])).hexdigest() for number in range(60))
    sizes: list[int] = []
    for length in range(2000, 4000):
        registration = registration_of(hints={"x-amzn-marketplace-a": noise[:length]}, free_trial=True)
        cookie = cookie_of(registration)
        (found,) = SESSION.registrations(browser(cookie))
        if found != registration:
            assert found == registration_of(free_trial=True)
            break
        sizes.append(sum(map(len, cookie)))

    # Up to the last byte that browsers take, or almost: base64 grows by four.
    assert 4090 <= max(sizes) <= 4096


def test_the_clock_is_the_real_one_unless_told_otherwise() -> None:
    session = RegistrationSession(MarketplaceSettings(secret_key=KEY, product_codes="*"))
    fresh = registration_of(resolved_at=datetime.now(UTC).timestamp())

    assert session.registrations(browser(cookie_of(fresh, session))) == [fresh]
    assert is_unreadable(cookie_of(registration_of(resolved_at=0), session), session=session)
