"""The token, the secret key and whole account ids come out nowhere."""

import base64
import io
import logging
import runpy
import socketserver
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from html import escape
from pathlib import Path
from types import FunctionType, ModuleType, TracebackType
from typing import Any
from urllib.parse import quote, quote_plus

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

import starlette_marketplace
from starlette_marketplace import MarketplaceSettings, ThrottledError
from starlette_marketplace.hooks import RegistrationFailed, RegistrationResolved
from starlette_marketplace.local import SCENARIOS, LocalMarketplace
from starlette_marketplace.registration.resolution import Resolutions
from starlette_marketplace.registration.resolver import AwsResolver
from tests.support.fakes import FakeResolver
from tests.support.hosts import LANDING, Host, browser, fastapi_middleware, form
from tests.support.network import refusing
from tests.support.servers import over_tls, serve

pytestmark = pytest.mark.anyio

SECRET_KEY = "a-secret-key-that-nobody-may-ever-see"
FALLBACK_KEY = "an-older-key-that-nobody-may-see-either"
AWS_SECRET = "the+secret/key+of+an/AWS/account"
AWS_SESSION = "the+session/token+of+a/role=="


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


def spellings(secret: str) -> set[str]:
    """How a secret looks once it has been put into a URL, a form, JSON, HTML or a header."""
    encoded = base64.b64encode(secret.encode()).decode()
    return {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), escape(secret), encoded}


def assert_hidden(secret: str, *texts: str) -> None:
    for text in texts:
        for spelling in spellings(secret):
            assert spelling not in text


def text_of(error: BaseException) -> str:
    """All that an error tracker would show: the chain of errors, with the local variables of their frames."""
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    return f"{error!r} {error} {vars(error)} {shown}"


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("as_json", [False, True])
async def test_a_registration_shows_no_secret(
    settings: MarketplaceSettings,
    marketplace: LocalMarketplace,
    log: Everything,
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    as_json: bool,
) -> None:
    token = marketplace.issue_token(scenario)
    errors: list[str] = []

    def on_error(event: RegistrationFailed) -> None:
        errors.append(text_of(event.error))

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS_SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", AWS_SESSION)
    secret = replace(settings, secret_key=SECRET_KEY, secret_key_fallbacks=(FALLBACK_KEY,), read_timeout=0.25)
    async with browser(fastapi_middleware(settings=secret, on_error=on_error)) as buyer:
        headers = {"Accept": "application/json"} if as_json else {}
        response = await buyer.post(LANDING, data=form(token), headers=headers)
        shown = [str(response.headers), str(buyer.cookies), *errors, repr(secret), log.text.getvalue()]
        page = response.text
    if response.status_code == 503 and not as_json:
        hidden = f'<input type="hidden" name="x-amzn-marketplace-token" value="{token}">'
        assert page.count(hidden) == 1
        page = page.replace(hidden, "")
    for kept in (token, SECRET_KEY, FALLBACK_KEY, AWS_SECRET, AWS_SESSION):
        assert_hidden(kept, *shown, page)
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
    assert_hidden(token, str(response.headers), response.text, *errors, log.text.getvalue())


def within_the_package(frames: TracebackType) -> TracebackType | None:
    """The traceback without what is further out: this test and its client, which know the token."""
    package = str(Path(starlette_marketplace.__file__).parent)
    found: TracebackType | None = frames
    while found is not None and not found.tb_frame.f_code.co_filename.startswith(package):
        found = found.tb_next
    return found


@pytest.mark.parametrize("hook", ["on_request", "on_resolved", "on_error"])
async def test_a_hook_that_fails_shows_no_token_to_an_error_tracker(
    settings: MarketplaceSettings, marketplace: LocalMarketplace, hook: str
) -> None:
    token = marketplace.issue_token("throttled" if hook == "on_error" else "new-product")

    def fail(_: object) -> None:
        raise OSError("the database is down")

    host: Host = fastapi_middleware
    async with browser(host(settings=settings, **{hook: fail})) as buyer:
        with pytest.raises(OSError, match="the database is down") as caught:
            await buyer.post(LANDING, data=form(token))
    shown = text_of(caught.value.with_traceback(within_the_package(caught.tb)))
    assert "endpoint.py" in shown
    assert "form = RegistrationForm(" in shown, "local variables are shown"
    assert_hidden(token, shown)


async def test_what_hooks_are_given_shows_no_token(settings: MarketplaceSettings) -> None:
    events: list[object] = []

    def on_resolved(event: RegistrationResolved) -> Response | None:
        events.append(event)
        return None

    def on_error(event: RegistrationFailed) -> Response | None:
        assert event.retry_fields == form("late/secret+token==")
        events.append(event)
        return None

    resolver = FakeResolver(
        {
            "kept/secret+token==": FakeResolver().answers["good"],
            "late/secret+token==": ThrottledError("too many"),
        }
    )
    app = fastapi_middleware(
        settings=settings,
        resolver=resolver,
        on_request=events.append,
        on_resolved=on_resolved,
        on_error=on_error,
    )
    async with browser(app) as buyer:
        await buyer.post(LANDING, data=form("kept/secret+token=="))
        await buyer.post(LANDING, data=form("late/secret+token=="))
    assert len(events) == 4
    assert_hidden("kept/secret+token==", repr(events))
    assert_hidden("late/secret+token==", repr(events))


def test_the_filter_of_the_docs_hides_what_botocore_says(
    settings: MarketplaceSettings, marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    hide = runpy.run_path(str(Path(__file__).parent.parent / "docs/src/quiet_botocore.py"))["HideMarketplaceCalls"]()
    unfiltered, filtered = Everything(), Everything()
    filtered.addFilter(hide)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    for handler in (unfiltered, filtered):
        root.addHandler(handler)
    try:
        token = marketplace.issue_token("new-product")
        resolutions = Resolutions(settings, AwsResolver(settings))
        anyio.run(resolutions.resolve, token)
        logging.getLogger("botocore.endpoint").debug("said in another thread")
    finally:
        root.setLevel(level)
        for handler in (unfiltered, filtered):
            root.removeHandler(handler)
    assert token in unfiltered.text.getvalue(), "this is what the filter is for"
    assert marketplace.buyer.account_id in unfiltered.text.getvalue()
    assert token not in filtered.text.getvalue()
    assert marketplace.buyer.account_id not in filtered.text.getvalue()
    assert "said in another thread" in filtered.text.getvalue()


URLENCODED = "application/x-www-form-urlencoded"


def everything_in(found: object, depth: int = 6) -> str:
    """What a tracker finds that follows every attribute, cause and context of an error, suppressed ones too."""
    if depth == 0 or isinstance(found, type | ModuleType | FunctionType):
        return ""
    if isinstance(found, str | bytes | int | float | None):
        return f"{found!r}\n"
    parts: list[object] = [repr(found)]
    if isinstance(found, dict):
        parts += [*found, *found.values()]
    elif isinstance(found, list | tuple | set):
        parts += found
    elif isinstance(found, BaseException):
        parts += [found.args, found.__cause__, found.__context__, vars(found)]
        parts += [frame.f_locals for frame, _ in traceback.walk_tb(found.__traceback__)]
    else:
        parts.append(getattr(found, "__dict__", {}))
    return "".join(everything_in(part, depth - 1) for part in parts)


class HangsUp(socketserver.BaseRequestHandler):
    """Reads the request, and closes the connection."""

    def handle(self) -> None:
        self.request.recv(65536)


@contextmanager
def hanging_up(_: Path) -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), HangsUp) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


async def quotes(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuses the signature, and quotes the whole request, as AWS does to show what it has signed."""
    request = Request(scope, receive)
    quoted = f"The Canonical String should have been {request.headers.items()} {(await request.body()).decode()}"
    code = "InvalidSignatureException"
    await JSONResponse({"__type": code, "message": quoted, "x": quoted}, 400)(scope, receive, send)


async def no_text(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await Response(b"\xff" + body, media_type="application/x-amz-json-1.1")(scope, receive, send)


FAULTS: dict[str, Callable[[Path], AbstractContextManager[str]]] = {
    "hangs up": hanging_up,
    "quotes": lambda _: serve(quotes, lifespan="off"),
    "no text": lambda _: serve(no_text, lifespan="off"),
    "refuses": lambda _: refusing(),
    "unknown certificate": lambda folder: over_tls(quotes, folder),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_nothing_that_an_event_leads_to_holds_the_token_or_a_secret_of_aws(
    settings: MarketplaceSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str
) -> None:
    token, errors = "kept/secret+token==", []
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS_SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", AWS_SESSION)

    def on_error(event: RegistrationFailed) -> None:
        errors.append(event.error)

    with FAULTS[fault](tmp_path) as url:
        monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
        app = fastapi_middleware(settings=replace(settings, endpoint_url=url), on_error=on_error)
        async with browser(app) as buyer:
            assert (await buyer.post(LANDING, data=form(token))).status_code == 503
    [error] = errors
    shown = everything_in(error)
    assert type(error).__name__ in shown
    for secret in (token, AWS_SECRET, AWS_SESSION, "Signature="):
        assert_hidden(secret, shown)
