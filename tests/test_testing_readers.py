import pytest

from starlette_marketplace import AgreementNotFoundError, Entitlement, Marketplace, MarketplaceSettings, ThrottledError
from starlette_marketplace.testing import FakeReader, make_agreement, make_customer

pytestmark = pytest.mark.anyio

SETTINGS = MarketplaceSettings(secret_key="k" * 32, product_codes="*")
CUSTOMER = make_customer()


async def test_a_fake_reader_answers_as_it_was_told() -> None:
    users = Entitlement(dimension="users", value=25, expires_at=None)
    agreement = make_agreement()
    reader = FakeReader({CUSTOMER.key: [users]}, {agreement.id: agreement})
    marketplace = Marketplace(SETTINGS, reader=reader)
    assert await marketplace.get_entitlements(CUSTOMER) == (users,)
    assert await marketplace.get_agreement(agreement.id) == agreement
    assert reader.calls == [CUSTOMER.key, agreement.id]


async def test_a_fake_reader_raises_as_it_was_told() -> None:
    reader = FakeReader({CUSTOMER.key: ThrottledError("slow down")}, {"agmt-1": ThrottledError("slow down")})
    marketplace = Marketplace(SETTINGS, reader=reader)
    with pytest.raises(ThrottledError):
        await marketplace.get_entitlements(CUSTOMER)
    with pytest.raises(ThrottledError):
        await marketplace.get_agreement("agmt-1")


async def test_to_a_fake_reader_others_have_nothing() -> None:
    marketplace = Marketplace(SETTINGS, reader=FakeReader())
    assert await marketplace.get_entitlements(CUSTOMER) == ()
    with pytest.raises(AgreementNotFoundError, match="Add it to agreements"):
        await marketplace.get_agreement("agmt-1")


def test_a_made_up_agreement_is_another_one_each_time_and_is_active() -> None:
    first, second = make_agreement(), make_agreement(status="CANCELLED", ends_at=None)
    assert first.id != second.id
    assert first.initial_id == first.id
    assert first.ends_at is not None
    assert first.starts_at < first.ends_at
    assert (first.status, second.status, second.ends_at) == ("ACTIVE", "CANCELLED", None)
