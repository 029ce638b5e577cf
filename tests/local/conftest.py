from collections.abc import Iterator

import pytest

from starlette_marketplace.local import LocalMarketplace
from tests.local.clients import Aws
from tests.local.readers import Reader
from tests.support.servers import serve


@pytest.fixture
def marketplace() -> LocalMarketplace:
    return LocalMarketplace()


@pytest.fixture
def url(marketplace: LocalMarketplace) -> Iterator[str]:
    with serve(marketplace) as base_url:
        yield base_url


@pytest.fixture
def aws(url: str) -> Iterator[Aws]:
    with Aws(url) as client:
        yield client


@pytest.fixture
def reader(url: str) -> Iterator[Reader]:
    with Reader(url) as clients:
        yield clients
