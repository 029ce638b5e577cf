import pytest
from fastapi.testclient import TestClient

from starlette_marketplace.testing import RunningMarketplace, ScenarioName


@pytest.mark.parametrize(
    ("scenario", "status"), [("expired", 400), ("invalid", 400), ("wrong-product", 403), ("throttled", 503)]
)
def test_a_buyer_who_cannot_sign_up_is_told_why(
    scenario: ScenarioName, status: int, client: TestClient, local_marketplace: RunningMarketplace
) -> None:
    page = client.post("/marketplace/register", data=local_marketplace.form(scenario))
    assert page.status_code == status
    assert not client.cookies
