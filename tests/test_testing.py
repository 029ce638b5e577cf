import pytest
from starlette.testclient import TestClient

from starlette_marketplace import ExpiredTokenError, InvalidTokenError, MarketplaceSettings
from starlette_marketplace.testing import FakeResolver
from tests.fakes import CUSTOMER
from tests.hosts import LANDING, fastapi_middleware, form


def test_a_fake_resolver_answers_what_it_was_given() -> None:
    resolver = FakeResolver({"good": CUSTOMER, "old": ExpiredTokenError("too old")})
    assert resolver.resolve("good") == CUSTOMER
    with pytest.raises(ExpiredTokenError, match="too old"):
        resolver.resolve("old")
    with pytest.raises(InvalidTokenError):
        resolver.resolve("junk")
    assert resolver.calls == ["good", "old", "junk"]


def test_a_host_tests_its_signup_page_with_it() -> None:
    settings = MarketplaceSettings(secret_key="k" * 32, product_codes="acmeanalytics")
    app = fastapi_middleware(settings=settings, resolver=FakeResolver({"good": CUSTOMER}))
    with TestClient(app, base_url="https://app.example") as client:
        assert client.post(LANDING, data=form("good")).json()["customer"]["license_arn"] == CUSTOMER.license_arn
