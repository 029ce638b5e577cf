import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from starlette_marketplace import ExpiredTokenError, MarketplaceMiddleware, MarketplaceSettings
from starlette_marketplace.testing import FakeResolver, make_customer, registration_form

settings = MarketplaceSettings(secret_key="k" * 32, product_codes="acmeanalytics")
customer = make_customer(aws_account_id="123456789012")


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    resolver = FakeResolver({"good": customer, "old": ExpiredTokenError("too old")})
    app.add_middleware(MarketplaceMiddleware, settings=settings, resolver=resolver)
    return TestClient(app, base_url="https://testserver", follow_redirects=False)


def test_a_good_token_leads_to_the_signup_page(client: TestClient) -> None:
    response = client.post("/marketplace/register", data=registration_form("good"))
    assert response.status_code == 303
    assert response.headers["location"] == "/signup"


@pytest.mark.parametrize("token", ["old", "unknown"])
def test_any_other_token_is_refused(client: TestClient, token: str) -> None:
    assert client.post("/marketplace/register", data=registration_form(token)).status_code == 400
