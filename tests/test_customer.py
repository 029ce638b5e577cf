import json
import pickle
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_marketplace import MarketplaceCustomer, Registration
from starlette_marketplace.customer import masked

ACCOUNT = "123456789012"
LICENSE = "arn:aws:license-manager::111122223333:license:l-0123456789abcdef"
NOW = datetime(2026, 11, 23, 12, 30, 15, 123456, UTC)

CUSTOMER = MarketplaceCustomer(aws_account_id=ACCOUNT, product_code="acme", license_arn=LICENSE)
LEGACY = MarketplaceCustomer(aws_account_id=ACCOUNT, product_code="acme", customer_identifier="aBcD1234")
REGISTRATION = Registration(
    customer=CUSTOMER, resolved_at=NOW, free_trial=True, hints={"x-amzn-marketplace-offer-type": "free-trial"}
)

identifiers = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)
customers = st.builds(
    MarketplaceCustomer,
    aws_account_id=st.from_regex("[0-9]{12}", fullmatch=True),
    product_code=identifiers,
    license_arn=identifiers,
    customer_identifier=st.none() | identifiers,
    agreement_id=st.none() | identifiers,
)
registrations = st.builds(
    Registration,
    customer=customers,
    resolved_at=st.datetimes(datetime(2026, 1, 1), datetime(2126, 1, 1), timezones=st.just(UTC)),
    free_trial=st.booleans(),
    hints=st.dictionaries(st.text(), st.text(), max_size=3),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


def json_copy(value: object) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("name", ["license_arn", "customer_identifier", "agreement_id"])
def test_an_empty_identifier_is_none(name: str) -> None:
    both: dict[str, Any] = {"license_arn": LICENSE, "customer_identifier": "aBcD1234", name: ""}

    customer = MarketplaceCustomer(aws_account_id=ACCOUNT, product_code="acme", **both)

    assert getattr(customer, name) is None


def test_the_key_is_the_license_and_for_legacy_products_product_and_account() -> None:
    assert CUSTOMER.key == LICENSE
    assert replace(CUSTOMER, customer_identifier="aBcD1234").key == LICENSE
    assert LEGACY.key == f"acme:{ACCOUNT}"
    assert replace(LEGACY, product_code="other").key != LEGACY.key


@pytest.mark.parametrize("name", [field.name for field in fields(MarketplaceCustomer)])
@pytest.mark.parametrize("value", ["a" * 513, "é", "a\nb", "a\x00", 123456789012, ["a"]], ids=repr)
def test_a_field_that_is_no_short_printable_text_is_refused_by_name(name: str, value: object) -> None:
    values: dict[str, Any] = {"aws_account_id": ACCOUNT, "product_code": "acme", "license_arn": LICENSE, name: value}

    with pytest.raises(ValueError, match=f"^{name} must be at most 512 printable ASCII characters"):
        MarketplaceCustomer(**values)


def test_a_field_may_have_512_characters() -> None:
    assert replace(CUSTOMER, license_arn="a" * 512).key == "a" * 512


@pytest.mark.parametrize("account", ["", "12345678901", "1234567890123", "12345678901a", " 23456789012", None])
def test_an_account_id_that_is_not_12_digits_is_refused(account: Any) -> None:
    with pytest.raises(ValueError, match="aws_account_id must be a string of 12 digits"):
        MarketplaceCustomer(aws_account_id=account, product_code="acme", license_arn=LICENSE)


def test_a_product_code_is_needed() -> None:
    with pytest.raises(ValueError, match="product_code must not be empty"):
        MarketplaceCustomer(aws_account_id=ACCOUNT, product_code="", license_arn=LICENSE)


@pytest.mark.parametrize("missing", [None, ""])
def test_a_license_or_a_customer_identifier_is_needed(missing: str | None) -> None:
    with pytest.raises(ValueError, match="one of license_arn and customer_identifier is needed"):
        MarketplaceCustomer(
            aws_account_id=ACCOUNT,
            product_code="acme",
            license_arn=missing,
            customer_identifier=missing,
            agreement_id="agmt-1",
        )


def test_two_agreements_of_one_account_have_keys_and_ids_of_their_own() -> None:
    customers = [CUSTOMER, replace(CUSTOMER, license_arn=f"{LICENSE}0"), LEGACY]

    assert len({customer.key for customer in customers}) == 3
    assert len({Registration(customer=customer, resolved_at=NOW).id for customer in customers}) == 3


def test_the_id_stays_the_same_when_the_same_agreement_arrives_again() -> None:
    again = Registration(customer=replace(CUSTOMER, agreement_id="agmt-1"), resolved_at=datetime.now(UTC))

    # Spelled out: another version of this package must still find the cookies of this one.
    assert again.id == REGISTRATION.id == "96f57da339d2e8f59f6ff0a4"


@given(registrations)
def test_a_registration_survives_json(registration: Registration) -> None:
    assert Registration.from_dict(json_copy(registration.to_dict())) == registration


@given(json_values)
def test_whatever_the_json_is_it_is_a_registration_or_a_value_error(data: Any) -> None:
    with pytest.raises(ValueError, match="not a registration"):
        Registration.from_dict(data)


@given(st.sampled_from(["customer", "resolved_at", "free_trial", "hints"]), json_values)
def test_json_with_one_odd_member_is_a_registration_or_a_value_error(name: str, value: object) -> None:
    data = json_copy(REGISTRATION.to_dict() | {name: value})
    try:
        registration = Registration.from_dict(data)
    except ValueError:
        return
    assert Registration.from_dict(json_copy(registration.to_dict())) == registration
    assert all(isinstance(hint, str) for hint in registration.hints.values())


@given(st.sampled_from([field.name for field in fields(MarketplaceCustomer)]) | st.text(), json_values)
def test_json_with_one_odd_member_of_the_customer_is_a_registration_or_a_value_error(name: str, value: object) -> None:
    data = json_copy(REGISTRATION.to_dict())
    data["customer"][name] = json_copy(value)
    try:
        registration = Registration.from_dict(data)
    except ValueError:
        return
    assert getattr(registration.customer, name) == (value or None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resolved_at", "2026-11-23"),
        ("resolved_at", float("nan")),
        ("resolved_at", float("inf")),
        ("resolved_at", 1e300),
        ("resolved_at", 10**15),
        ("free_trial", 1),
        ("customer", None),
        ("customer", {}),
        ("customer", {"account": ACCOUNT}),
        ("hints", [["a", "b"]]),
        ("hints", {"a": 1}),
    ],
)
def test_a_dict_that_did_not_come_from_a_registration_is_a_value_error(name: str, value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text of a bad customer is that of its own rules.
        Registration.from_dict(REGISTRATION.to_dict() | {name: value})


@pytest.mark.parametrize("name", ["customer", "resolved_at", "free_trial", "hints"])
def test_a_dict_that_lacks_a_member_is_a_value_error(name: str) -> None:
    data = REGISTRATION.to_dict()
    del data[name]

    with pytest.raises(ValueError, match="not a registration"):
        Registration.from_dict(data)


def test_the_time_comes_back_aware_and_in_utc() -> None:
    assert Registration.from_dict(REGISTRATION.to_dict()).resolved_at.tzinfo is UTC


@pytest.mark.parametrize("value", [CUSTOMER, REGISTRATION], ids=lambda value: type(value).__name__)
def test_customers_and_registrations_are_values(value: Any) -> None:
    for field in fields(value):
        with pytest.raises(FrozenInstanceError):
            setattr(value, field.name, None)
    assert pickle.loads(pickle.dumps(value)) == value
    assert {replace(value): 1}[value] == 1
    assert not hasattr(value, "__dict__")


def test_a_log_shows_the_last_four_digits_of_an_account() -> None:
    assert masked(ACCOUNT) == CUSTOMER.masked_account_id == "********9012"


def test_what_a_log_shows_of_a_registration_has_the_account_masked() -> None:
    assert ACCOUNT not in f"{REGISTRATION!r} {REGISTRATION}"
    assert f"aws_account_id='********9012', product_code={CUSTOMER.product_code!r}" in repr(REGISTRATION)
