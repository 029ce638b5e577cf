import re
from collections.abc import Iterator

import pytest
from active import app
from fastapi.testclient import TestClient

from starlette_marketplace.testing import RunningMarketplace, ScenarioName


@pytest.fixture
def client(
    local_marketplace: RunningMarketplace, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    monkeypatch.setenv("MARKETPLACE_CACHE_TTL", "0")  # your app keeps no answer
    with TestClient(app) as client:
        yield client


def sign_up(client: TestClient, form: dict[str, str]) -> None:
    page = client.post("/marketplace/register", data=form)
    registration_id = re.search('name="registration_id" value="(.+)"', page.text)
    assert registration_id
    typed = {"email": "ada@buyer.example", "registration_id": registration_id[1]}
    api_key = client.post("/signup", data=typed).text.rpartition(" ")[2]
    client.headers["Authorization"] = f"Bearer {api_key}"


@pytest.mark.parametrize("scenario", ["new-product", "free-trial", "pay-as-you-go"])
def test_a_customer_works_until_the_subscription_is_cancelled(
    scenario: ScenarioName,
    client: TestClient,
    local_marketplace: RunningMarketplace,
) -> None:
    sign_up(client, local_marketplace.form(scenario))
    assert client.get("/reports").status_code == 200
    local_marketplace.cancel()
    assert client.get("/reports").status_code == 403


def test_a_customer_waits_for_the_license(
    client: TestClient, local_marketplace: RunningMarketplace
) -> None:
    sign_up(client, local_marketplace.form("not-yet-entitled"))
    assert "still preparing" in client.get("/reports").json()["detail"]
    local_marketplace.prepare()
    assert client.get("/reports").status_code == 200


def test_a_renewal_locks_nobody_out(
    client: TestClient, local_marketplace: RunningMarketplace
) -> None:
    sign_up(client, local_marketplace.form("new-product"))
    local_marketplace.renew(new_license=True)
    assert client.get("/reports").status_code == 200


def test_nobody_is_locked_out_while_aws_fails(
    client: TestClient, local_marketplace: RunningMarketplace
) -> None:
    sign_up(client, local_marketplace.form("new-product"))
    local_marketplace.marketplace.error_rate = 1.0
    assert client.get("/reports").status_code == 200
