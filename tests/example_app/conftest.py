from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, Page
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from example_app.app import create_app
from starlette_marketplace.local import LocalMarketplace
from tests.example_app.browser import Browser
from tests.example_app.wiretap import MoodyAws, Wiretap
from tests.support.chromium import open_chromium
from tests.support.servers import serve


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'acme.db'}"


@pytest.fixture(autouse=True)
def settings(
    running_marketplace: tuple[LocalMarketplace, str], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment of the app, with the local marketplace in the place of AWS."""
    _, url = running_marketplace
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "DATABASE_URL": database_url,
        "SESSION_SECRET": "s" * 32,
        "SESSION_HTTPS_ONLY": "false",
        "MARKETPLACE_SECRET_KEY": "only for tests " * 3,
        "MARKETPLACE_PRODUCT_CODES": "acmeanalytics,acmelegacy,acmepipelines,acmegateway",
        "MARKETPLACE_ENDPOINT_URL": url,
        "MARKETPLACE_ENTITLEMENT_ENDPOINT_URL": url,
        "MARKETPLACE_AGREEMENT_ENDPOINT_URL": url,
        # A machine under load takes long to make its first clients, and a plan that is late is unknown.
        "PLAN_PATIENCE": "60",
        "MARKETPLACE_HTTPS_ONLY": "false",
        "MARKETPLACE_PRODUCT_NAME": "Acme Analytics",
        "MARKETPLACE_LOGO_URL": "/static/icon.svg",
        "MARKETPLACE_SUPPORT_URL": "mailto:support@acme.example",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def aws(settings: None, marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch) -> Iterator[MoodyAws]:
    """AWS on a bad day. Ask for it before `app_url` and whatever needs that one."""
    aws = MoodyAws(marketplace)
    with serve(aws) as url:
        monkeypatch.setenv("MARKETPLACE_ENDPOINT_URL", url)
        monkeypatch.setenv("MARKETPLACE_MAX_ATTEMPTS", "1")
        yield aws


@pytest.fixture
def wiretap(settings: None) -> Wiretap:
    """The app, and what browsers sent it."""
    return Wiretap(create_app())


@pytest.fixture
def app_url(wiretap: Wiretap) -> Iterator[str]:
    with serve(wiretap) as url:
        yield url


@pytest.fixture
def open_browser(app_url: str) -> Iterator[Callable[[], Browser]]:
    """Opens one browser after the other on the running app."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(Browser(app_url)))


@pytest.fixture
def browser(open_browser: Callable[[], Browser]) -> Browser:
    return open_browser()


@pytest.fixture
def database(app_url: str, database_url: str) -> Iterator[Session]:
    """The app's database, seen from outside."""
    engine = create_engine(database_url)
    with Session(engine) as db:
        yield db
    engine.dispose()


@pytest.fixture
def storefront(running_marketplace: tuple[LocalMarketplace, str], marketplace: LocalMarketplace, app_url: str) -> str:
    """The storefront's address, on another site than the app's."""
    _, url = running_marketplace
    marketplace.registration_url = f"{app_url}/marketplace/register"
    address = url.replace("127.0.0.1", "localhost")
    assert urlsplit(address).hostname != urlsplit(app_url).hostname
    return address


# Playwright keeps an event loop in this thread for as long as it runs, and the tests elsewhere start their own.
@pytest.fixture(scope="package")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with open_chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def context(chromium: Chromium) -> Iterator[BrowserContext]:
    """A buyer's browser with JavaScript off: nothing of what we show may need it."""
    with closing(chromium.new_context(java_script_enabled=False)) as context:
        context.set_default_timeout(30_000)
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture
def scripted_context(chromium: Chromium) -> Iterator[BrowserContext]:
    """A buyer's browser with JavaScript on, as nearly every one is: for what could go wrong only then."""
    with closing(chromium.new_context()) as context:
        context.set_default_timeout(30_000)
        yield context


@pytest.fixture
def scripted_page(scripted_context: BrowserContext) -> Page:
    return scripted_context.new_page()
