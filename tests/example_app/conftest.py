from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from example_app.app import create_app
from starlette_marketplace.local import LocalMarketplace
from tests.example_app.browser import Browser
from tests.servers import serve


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
        "MARKETPLACE_SECRET_KEY": "m" * 32,
        "MARKETPLACE_PRODUCT_CODES": "acmeanalytics,acmelegacy",
        "MARKETPLACE_ENDPOINT_URL": url,
        "MARKETPLACE_HTTPS_ONLY": "false",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def app_url(settings: None) -> Iterator[str]:
    with serve(create_app()) as url:
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
def database(browser: Browser, database_url: str) -> Iterator[Session]:
    """The app's database, seen from outside."""
    engine = create_engine(database_url)
    with Session(engine) as db:
        yield db
    engine.dispose()
