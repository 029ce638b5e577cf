import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from starlette_marketplace import MarketplaceSettings
from starlette_marketplace.local import LocalMarketplace
from starlette_marketplace.testing import RunningMarketplace, run_local_marketplace
from tests.support.moto_server import moto_server
from tests.support.network import Network, network
from tests.support.redis_server import RedisServer, redis_server


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("A skipped test is a failure in CI.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# What a fixture needs on the machine.
MARKS = {"chromium": "browser", "started_redis": "service", "own_server": "service"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in MARKS.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARKS[fixture])


@pytest.fixture(scope="session")
def served_marketplace() -> Iterator[RunningMarketplace]:
    with run_local_marketplace() as served:
        yield served


@pytest.fixture(scope="session")
def running_marketplace(served_marketplace: RunningMarketplace) -> tuple[LocalMarketplace, str]:
    return served_marketplace.marketplace, served_marketplace.url


@pytest.fixture
def marketplace(served_marketplace: RunningMarketplace) -> LocalMarketplace:
    served_marketplace.reset()
    return served_marketplace.marketplace


@pytest.fixture
def settings(running_marketplace: tuple[LocalMarketplace, str], monkeypatch: pytest.MonkeyPatch) -> MarketplaceSettings:
    """Settings of a host, with the local marketplace in the place of AWS."""
    _, url = running_marketplace
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return MarketplaceSettings(
        secret_key="k" * 32,
        product_codes=("acmeanalytics", "acmelegacy"),
        endpoint_url=url,
        max_attempts=1,
        support_url="mailto:support@acme.example",
    )


@pytest.fixture
def to_aws(served_marketplace: RunningMarketplace) -> Iterator[Network]:
    """The network between a host and the local marketplace, to be given faults."""
    with network(served_marketplace.url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def started_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(started_redis: RedisServer) -> RedisServer:
    """A Redis with nothing in it."""
    with started_redis.client() as client:
        client.flushall()
        client.script_flush()
    return started_redis


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis to be changed and killed."""
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """AWS credentials in the environment, and nothing else of AWS on this machine."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OWNKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return monkeypatch
