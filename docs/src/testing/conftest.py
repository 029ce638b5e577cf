from collections.abc import Iterator

import pytest
from app import app
from fastapi.testclient import TestClient

from starlette_marketplace.testing import RunningMarketplace


@pytest.fixture
def client(local_marketplace: RunningMarketplace) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client
