from datetime import UTC, datetime, timedelta

import active
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from starlette_marketplace import (
    Entitlement,
    MarketplaceMiddleware,
    MarketplaceSettings,
    ThrottledError,
)
from starlette_marketplace.testing import (
    FakeReader,
    add_registration,
    make_agreement,
    make_customer,
)

settings = MarketplaceSettings(secret_key="k" * 32, product_codes="*", cache_ttl=0)


@pytest.mark.parametrize(("minutes", "status"), [(59, 200), (61, 403)])
def test_a_contract_has_an_hour_of_grace(minutes: int, status: int) -> None:
    reader = FakeReader()
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware, settings=settings, reader=reader)
    app.include_router(active.app.router)
    client = TestClient(app)

    customer = make_customer(agreement_id="agmt-1")
    users = Entitlement(dimension="users", value=25, expires_at=None)
    reader.entitlements[customer.key] = [users]
    registration = add_registration(client, settings, customer=customer)
    typed = {"email": "ada@buyer.example", "registration_id": registration.id}
    api_key = client.post("/signup", data=typed).text.rpartition(" ")[2]
    client.headers["Authorization"] = f"Bearer {api_key}"
    assert client.get("/reports").status_code == 200

    ended = datetime.now(UTC) - timedelta(minutes=minutes)
    users = Entitlement(dimension="users", value=25, expires_at=ended)
    reader.entitlements[customer.key] = [users]
    reader.agreements["agmt-1"] = make_agreement(id="agmt-1", status="EXPIRED")
    assert client.get("/reports").status_code == status

    reader.entitlements[customer.key] = ThrottledError("AWS is throttling.")
    assert client.get("/reports").status_code == status
