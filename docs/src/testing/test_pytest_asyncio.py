import httpx2
import pytest
from app import app

from starlette_marketplace.testing import RunningMarketplace, add_registration


@pytest.mark.asyncio
async def test_a_buyer_comes_from_aws(local_marketplace: RunningMarketplace) -> None:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver", follow_redirects=True) as client:
        page = await client.post("/marketplace/register", data=local_marketplace.form("new-product"))
        assert f"AWS account ending in {local_marketplace.account_id[-4:]}" in page.text

        registration = add_registration(client)
        page = await client.get("/signup")
        assert f"AWS account ending in {registration.customer.aws_account_id[-4:]}" in page.text
