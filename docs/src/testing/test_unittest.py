import os
import unittest
from unittest.mock import patch

from app import app
from fastapi.testclient import TestClient

from starlette_marketplace.testing import RunningMarketplace, run_local_marketplace


class RegistrationTest(unittest.TestCase):
    local_marketplace: RunningMarketplace

    @classmethod
    def setUpClass(cls) -> None:
        cls.local_marketplace = cls.enterClassContext(run_local_marketplace())

    def setUp(self) -> None:
        self.local_marketplace.reset()
        self.enterContext(patch.dict(os.environ, self.local_marketplace.environment(), clear=True))
        self.client = self.enterContext(TestClient(app))

    def test_a_buyer_comes_from_aws(self) -> None:
        page = self.client.post("/marketplace/register", data=self.local_marketplace.form("new-product"))
        assert f"AWS account ending in {self.local_marketplace.account_id[-4:]}" in page.text


if __name__ == "__main__":
    unittest.main()
