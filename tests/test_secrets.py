"""The token, the secret key and whole account ids come out nowhere."""

import io
import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from starlette.responses import Response

from starlette_marketplace import MarketplaceError, MarketplaceSettings
from starlette_marketplace.hooks import RegistrationFailed, RegistrationResolved
from starlette_marketplace.local import SCENARIOS, LocalMarketplace
from tests.fakes import FakeResolver
from tests.hosts import LANDING, browser, fastapi_middleware, form

pytestmark = pytest.mark.anyio

SECRET_KEY = "a-secret-key-that-nobody-may-ever-see"


class Everything(logging.Handler):
    """All that the package's logger says at DEBUG: the formatted text, and every attribute of each record."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = io.StringIO()

    def emit(self, record: logging.LogRecord) -> None:
        self.text.write(f"{self.format(record)}\n{record.__dict__}\n")


@pytest.fixture
def log() -> Iterator[Everything]:
    logger = logging.getLogger("starlette_marketplace")
    handler, level = Everything(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def text_of(error: MarketplaceError) -> str:
    shown = "".join(traceback.format_exception(error))
    return f"{error!r} {error} {error.message} {error.title} {shown}"


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("as_json", [False, True])
async def test_a_registration_shows_no_secret(
    settings: MarketplaceSettings, marketplace: LocalMarketplace, log: Everything, scenario: str, as_json: bool
) -> None:
    token = marketplace.issue_token(scenario)
    errors: list[str] = []

    def on_error(event: RegistrationFailed) -> None:
        errors.append(text_of(event.error))

    secret = replace(settings, secret_key=SECRET_KEY)
    async with browser(fastapi_middleware(settings=secret, on_error=on_error)) as buyer:
        headers = {"Accept": "application/json"} if as_json else {}
        response = await buyer.post(LANDING, data=form(token), headers=headers)
        shown = [str(response.headers), str(buyer.cookies), *errors, repr(secret), log.text.getvalue()]
        page = response.text
    if response.status_code == 503 and not as_json:
        hidden = f'<input type="hidden" name="x-amzn-marketplace-token" value="{token}">'
        assert page.count(hidden) == 1
        page = page.replace(hidden, "")
    for text in [*shown, page]:
        assert token not in text
        assert SECRET_KEY not in text
    assert marketplace.buyer.account_id not in "".join(shown)
    assert log.text.getvalue(), "every registration is logged"
    assert bool(errors) == (response.status_code >= 400)


@pytest.mark.parametrize(
    "request_of",
    [
        lambda token: {"content": f"x-amzn-marketplace-token={token}%ff", "headers": {"Content-Type": URLENCODED}},
        lambda token: {"content": f"x-amzn-marketplace-token={token}" * 2, "headers": {"Content-Type": URLENCODED}},
        lambda token: {"data": form(token) | {"x": "y" * 20_000}},
        lambda token: {"content": f'{{"RegistrationToken": "{token}"', "headers": {"Content-Type": "application/json"}},
        lambda token: {"json": {"RegistrationToken": [token]}},
        lambda token: {"content": token, "headers": {"Content-Type": "text/plain"}},
        lambda token: {"content": token, "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        lambda token: {"data": form(token + "\N{SNOWMAN}")},
    ],
)
async def test_a_bad_request_shows_no_secret(settings: MarketplaceSettings, log: Everything, request_of: Any) -> None:
    token = "kept/secret+token=="
    errors: list[str] = []

    def on_error(event: RegistrationFailed) -> None:
        errors.append(text_of(event.error))

    app = fastapi_middleware(settings=settings, resolver=FakeResolver(), on_error=on_error)
    async with browser(app) as buyer:
        response = await buyer.post(LANDING, **request_of(token))
    assert 400 <= response.status_code < 500
    assert errors
    for text in (str(response.headers), response.text, *errors, log.text.getvalue()):
        assert token not in text


async def test_what_hooks_are_given_shows_no_token(settings: MarketplaceSettings) -> None:
    events: list[object] = []

    def on_resolved(event: RegistrationResolved) -> Response | None:
        events.append(event)
        return None

    app = fastapi_middleware(
        settings=settings,
        resolver=FakeResolver({"kept/secret+token==": FakeResolver().answers["good"]}),
        on_request=events.append,
        on_resolved=on_resolved,
    )
    async with browser(app) as buyer:
        await buyer.post(LANDING, data=form("kept/secret+token=="))
    assert len(events) == 2
    assert "kept/secret" not in repr(events)


URLENCODED = "application/x-www-form-urlencoded"
