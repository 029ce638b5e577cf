import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, Page

from starlette_marketplace.local import ENDPOINTS, LocalMarketplace
from tests.support.chromium import open_chromium


@pytest.fixture
def environment(running_marketplace: tuple[LocalMarketplace, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What `starlette-marketplace local -- ...` sets."""
    _, url = running_marketplace
    for name, value in {
        **dict.fromkeys(ENDPOINTS, url),
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "MARKETPLACE_PRODUCT_CODES": "acmeanalytics,acmelegacy,acmepipelines,acmegateway",
        "MARKETPLACE_SECRET_KEY": "0123456789abcdef" * 2,
        "MARKETPLACE_HTTPS_ONLY": "false",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def nested_environment(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with the nested variables of a pydantic-settings model."""
    for name in ("SECRET_KEY", "PRODUCT_CODES", "HTTPS_ONLY"):
        monkeypatch.setenv(f"MARKETPLACE__{name}", os.environ[f"MARKETPLACE_{name}"])
        monkeypatch.delenv(f"MARKETPLACE_{name}")


@pytest.fixture
def storefront(running_marketplace: tuple[LocalMarketplace, str]) -> str:
    """The storefront's address, on another site than those of the programs."""
    _, url = running_marketplace
    return url.replace("127.0.0.1", "localhost")


# Playwright keeps an event loop in this thread for as long as it runs, and the tests elsewhere start their own.
@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with open_chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def context(chromium: Chromium) -> Iterator[BrowserContext]:
    """A buyer's browser."""
    with closing(chromium.new_context()) as context:
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()
