from app import accounts
from fastapi.testclient import TestClient

from starlette_marketplace.testing import RunningMarketplace, add_registration


def test_a_buyer_comes_from_aws(client: TestClient, local_marketplace: RunningMarketplace) -> None:
    page = client.post("/marketplace/register", data=local_marketplace.form("new-product"))
    assert page.url.path == "/signup"
    assert f"AWS account ending in {local_marketplace.account_id[-4:]}" in page.text


def test_a_buyer_whose_link_has_expired_gets_help(client: TestClient, local_marketplace: RunningMarketplace) -> None:
    page = client.post("/marketplace/register", data=local_marketplace.form("expired"))
    assert page.status_code == 400
    assert "This link has expired" in page.text
    assert len(local_marketplace.resolve_calls) == 1


def test_the_signup_page_shows_the_aws_account(client: TestClient) -> None:
    registration = add_registration(client)
    page = client.get("/signup")
    assert f"AWS account ending in {registration.customer.aws_account_id[-4:]}" in page.text


def test_a_customer_signs_up_once(client: TestClient) -> None:
    registration = add_registration(client)
    form = {"email": "ada@buyer.example", "registration_id": registration.id}
    assert client.post("/signup", data=form).text == "Welcome, ada@buyer.example!"
    assert accounts[registration.customer.key] == "ada@buyer.example"
    assert not client.cookies

    add_registration(client, customer=registration.customer)
    assert client.post("/signup", data=form).status_code == 409
