import os
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from app import app
from fastapi.testclient import TestClient

from starlette_marketplace.testing import RunningMarketplace


@pytest.fixture(scope="session", autouse=True)
def environment(local_marketplace_server: RunningMarketplace) -> Iterator[None]:
    with patch.dict(os.environ, local_marketplace_server.environment(), clear=True):
        yield


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client
