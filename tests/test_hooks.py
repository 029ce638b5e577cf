import functools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from starlette_marketplace import (
    AccessDeniedError,
    InvalidTokenError,
    MarketplaceError,
    MarketplaceSettings,
    OverloadedError,
    ProductMismatchError,
    ThrottledError,
)
from starlette_marketplace.hooks import LandingVisited, RegistrationFailed, RegistrationRequested, RegistrationResolved
from tests.support.fakes import CUSTOMER, FakeResolver
from tests.support.hosts import HOSTS, LANDING, Host, browser, form

pytestmark = pytest.mark.anyio


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest) -> Host:
    made: Host = request.param
    return made


async def test_on_request_may_refuse_before_aws_is_asked(host: Host, settings: MarketplaceSettings) -> None:
    seen: list[RegistrationRequested] = []
    resolver = FakeResolver()

    async def on_request(event: RegistrationRequested) -> Response | None:
        seen.append(event)
        return PlainTextResponse("slow down", 429) if len(seen) == 1 else None

    async with browser(host(settings=settings, resolver=resolver, on_request=on_request)) as buyer:
        response = await buyer.post(LANDING, data=form("good"), headers={"X-Forwarded-For": "192.0.2.1"})
        assert (response.status_code, response.text) == (429, "slow down")
        assert "set-cookie" not in response.headers
        assert not resolver.calls
        assert seen[0].request.headers["x-forwarded-for"] == "192.0.2.1"
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 303


async def test_on_resolved_sees_who_came_and_may_choose_where_to_go(host: Host, settings: MarketplaceSettings) -> None:
    seen: list[RegistrationResolved] = []

    def on_resolved(event: RegistrationResolved) -> str:
        seen.append(event)
        return "/login?from=aws"

    app = host(settings=settings, resolver=FakeResolver(), on_resolved=on_resolved)
    async with browser(app) as buyer:
        response = await buyer.post(LANDING, data=form("good"))
        assert (response.status_code, response.headers["location"]) == (303, "/login?from=aws")
        assert (await buyer.get("/signup")).json()["id"] == seen[0].registration.id
        as_json = await buyer.post(LANDING, json={"RegistrationToken": "good"})
        assert as_json.json()["data"]["redirect_url"] == "/login?from=aws"
    assert seen[0].registration.customer == CUSTOMER
    assert seen[0].request.method == "POST"


async def test_on_resolved_may_answer_itself_and_the_cookie_is_set(host: Host, settings: MarketplaceSettings) -> None:
    async def on_resolved(_: RegistrationResolved) -> Response:
        response = RedirectResponse("https://sso.example/start", 302, {"Cache-Control": "public"})
        response.set_cookie("own", "kept")
        return response

    app = host(settings=settings, resolver=FakeResolver(), on_resolved=on_resolved)
    async with browser(app) as buyer:
        response = await buyer.post(LANDING, data=form("good"))
        assert (response.status_code, response.headers["location"]) == (302, "https://sso.example/start")
        assert response.headers["cache-control"] == "no-store"
        assert len(response.headers.get_list("set-cookie")) == 2
        assert (await buyer.get("/signup")).json() is not None


async def test_a_response_that_a_hook_gives_to_all_buyers_gives_nobody_the_cookie_of_another(
    host: Host, settings: MarketplaceSettings
) -> None:
    same = RedirectResponse("/welcome", 303)
    other = replace(CUSTOMER, license_arn="arn:other")
    resolver = FakeResolver({"good": CUSTOMER, "other": other})
    app = host(settings=settings, resolver=resolver, on_resolved=lambda _: same)
    keys = []
    for token in ("good", "other"):
        async with browser(app) as buyer:
            response = await buyer.post(LANDING, data=form(token))
            assert len(response.headers.get_list("set-cookie")) == 1
            keys.append((await buyer.get("/signup")).json()["customer"]["license_arn"])
    assert keys == [CUSTOMER.license_arn, "arn:other"]


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("hook", ["on_request", "on_resolved", "on_error"])
@pytest.mark.parametrize("answer", ["response", "exception"])
async def test_no_redirect_of_a_hook_makes_the_browser_post_the_token_on(
    host: Host, settings: MarketplaceSettings, hook: str, status: int, answer: str
) -> None:
    redirect = RedirectResponse("https://elsewhere.example/", status)

    def redirects(_: object) -> Response:
        if answer == "exception":
            raise HTTPException(status, headers={"Location": "https://elsewhere.example/"})
        return redirect

    app = host(settings=settings, resolver=FakeResolver(), **{hook: redirects})
    async with browser(app) as buyer:
        response = await buyer.post(LANDING, data=form("junk" if hook == "on_error" else "good"))
    assert (response.status_code, response.headers["location"]) == (303, "https://elsewhere.example/")
    assert redirect.status_code == status, "the response of the hook is left as it is"


async def test_on_resolved_that_refuses_leaves_no_registration(
    host: Host, settings: MarketplaceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "starlette_marketplace")

    def on_resolved(_: RegistrationResolved) -> Response:
        return PlainTextResponse("not in your country", 451, headers={"Cache-Control": "private"})

    app = host(settings=settings, resolver=FakeResolver(), on_resolved=on_resolved)
    async with browser(app) as buyer:
        response = await buyer.post(LANDING, data=form("good"))
        assert (response.status_code, response.headers["cache-control"]) == (451, "private")
        assert "set-cookie" not in response.headers
    assert "registration refused by on_resolved" in caplog.text


async def test_on_error_sees_the_failure_and_may_answer(host: Host, settings: MarketplaceSettings) -> None:
    seen: list[RegistrationFailed] = []

    def on_error(event: RegistrationFailed) -> Response | None:
        seen.append(event)
        return PlainTextResponse("our own page", event.error.status) if len(seen) == 1 else None

    app = host(settings=settings, resolver=FakeResolver(), on_error=on_error)
    async with browser(app) as buyer:
        response = await buyer.post(LANDING, data=form("junk"))
        assert (response.status_code, response.text) == (400, "our own page")
        response = await buyer.post(LANDING, data=form("junk"))
        assert seen[1].reference in response.text
        assert response.content == seen[1].response.body
    assert seen[0].error.code == "INVALID_TOKEN"


@pytest.mark.parametrize(
    ("error", "helps"),
    [
        (ThrottledError("too many"), True),
        (AccessDeniedError("not allowed"), True),
        (InvalidTokenError("unknown"), False),
        (ProductMismatchError("another"), False),
    ],
)
async def test_on_error_has_what_a_form_of_its_own_needs_to_try_again(
    host: Host, settings: MarketplaceSettings, error: MarketplaceError, helps: bool
) -> None:
    seen: list[RegistrationFailed] = []
    fields = form("a+b/c==", offer_type="free-trial", agreement_id="agmt-1")
    app = host(settings=settings, resolver=FakeResolver({"a+b/c==": error}), on_error=seen.append)
    async with browser(app) as buyer:
        await buyer.post(LANDING, data=fields | {"other": "1"})
    assert seen[0].retry_fields == (fields if helps else {})


async def test_on_error_has_nothing_to_send_again_when_the_form_could_not_be_read(
    host: Host, settings: MarketplaceSettings
) -> None:
    seen: list[RegistrationFailed] = []
    async with browser(host(settings=settings, on_error=seen.append)) as buyer:
        await buyer.post(LANDING, data=form(""))
    assert seen[0].error.code == "MISSING_TOKEN"
    assert seen[0].retry_fields == {}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_on_visit_sees_who_looks_at_the_landing_url_and_may_answer(
    host: Host, settings: MarketplaceSettings, method: str
) -> None:
    seen: list[LandingVisited] = []

    def on_visit(event: LandingVisited) -> Response | None:
        seen.append(event)
        return PlainTextResponse("our own page", headers={"X-Own": "1"}) if len(seen) == 1 else None

    app = host(settings=settings, on_visit=on_visit)
    async with browser(app) as buyer:
        answered = await buyer.request(method, LANDING)
        assert (answered.status_code, answered.headers["x-own"]) == (200, "1")
        left_alone = await buyer.request(method, LANDING)
        assert left_alone.headers["content-length"] == str(len(seen[1].response.body))
        await buyer.options(LANDING)
        await buyer.post(LANDING, data=form(""))
    assert [event.request.method for event in seen] == [method, method]


async def test_an_error_of_on_visit_reaches_the_host(host: Host, settings: MarketplaceSettings) -> None:
    async def on_visit(_: LandingVisited) -> None:
        raise ProductMismatchError("raised where nobody turns it into a page")

    async with browser(host(settings=settings, on_visit=on_visit)) as buyer:
        with pytest.raises(ProductMismatchError):
            await buyer.get(LANDING)


@pytest.mark.parametrize("hook", ["on_request", "on_resolved"])
async def test_a_hook_that_raises_one_of_our_errors_refuses_with_its_page(
    host: Host, settings: MarketplaceSettings, hook: str
) -> None:
    async def refuses(_: object) -> None:
        raise OverloadedError("the host has had enough")

    app = host(settings=settings, resolver=FakeResolver(), **{hook: refuses})
    async with browser(app) as buyer:
        response = await buyer.post(LANDING, data=form("good"))
        assert response.status_code == 503
        assert "Try again" in response.text
        assert "set-cookie" not in response.headers


async def test_a_hook_may_raise_an_http_exception(host: Host, settings: MarketplaceSettings) -> None:
    def on_request(_: RegistrationRequested) -> None:
        raise HTTPException(429, "slow down", {"Retry-After": "7"})

    async with browser(host(settings=settings, on_request=on_request)) as buyer:
        response = await buyer.post(LANDING, data=form("good"))
        assert (response.status_code, response.headers["retry-after"]) == (429, "7")
        assert "slow down" in response.text


class _Hooks:
    """Hooks of every kind of callable; each tells in which thread it ran."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def plain(self, _: object, extra: object = None) -> None:
        self.threads.append(threading.current_thread())

    async def coroutine(self, _: object, extra: object = None) -> None:
        self.threads.append(threading.current_thread())

    def as_object(self, hook: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
        class Plain:
            def __call__(self, event: object) -> Any:
                return hook(event)

        class Coroutine:
            async def __call__(self, event: object) -> Any:
                return await hook(event)

        return Coroutine() if is_async else Plain()


async def test_the_hosts_own_handlers_answer_for_what_a_hook_raises(host: Host, settings: MarketplaceSettings) -> None:
    class BlockedError(Exception):
        pass

    def on_resolved(_: RegistrationResolved) -> None:
        raise BlockedError

    async def handle(_: Request, __: Exception) -> Response:
        return PlainTextResponse("we know you", 451)

    app: Any = host(settings=settings, resolver=FakeResolver(), on_resolved=on_resolved)
    app.add_exception_handler(BlockedError, handle)
    app.add_exception_handler(Exception, handle)
    async with browser(app) as buyer:
        response = await buyer.post(LANDING, data=form("good"))
        assert (response.status_code, response.text) == (451, "we know you")


async def test_a_plain_hook_may_hand_over_to_an_async_one(host: Host, settings: MarketplaceSettings) -> None:
    async def choose(_: RegistrationResolved) -> str:
        return "/elsewhere"

    app = host(settings=settings, resolver=FakeResolver(), on_resolved=lambda event: choose(event))
    async with browser(app) as buyer:
        assert (await buyer.post(LANDING, data=form("good"))).headers["location"] == "/elsewhere"


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("kind", ["function", "partial", "object"])
async def test_plain_hooks_run_in_a_thread_and_async_ones_in_the_loop(
    settings: MarketplaceSettings, kind: str, is_async: bool
) -> None:
    hooks = _Hooks()
    method = hooks.coroutine if is_async else hooks.plain
    hook: Any = {
        "function": method,
        "partial": functools.partial(method, extra=1),
        "object": hooks.as_object(method, is_async=is_async),
    }[kind]
    options = {"on_request": hook, "on_resolved": hook, "on_error": hook, "on_visit": hook}
    async with browser(HOSTS[0](settings=settings, resolver=FakeResolver(), **options)) as buyer:
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 303
        assert (await buyer.post(LANDING, data=form("junk"))).status_code == 400
        assert (await buyer.get(LANDING)).status_code == 200
    assert len(hooks.threads) == 5
    assert {thread is threading.current_thread() for thread in hooks.threads} == {is_async}


async def test_the_server_hears_of_what_a_hook_raises_although_the_host_has_a_page_for_it(
    host: Host, settings: MarketplaceSettings
) -> None:
    """Starlette answers with the host's page for errors, and raises them on."""

    def fail(_: object) -> None:
        raise ZeroDivisionError

    app = host(settings=settings, resolver=FakeResolver(), on_resolved=fail)
    assert isinstance(app, Starlette)
    app.add_exception_handler(Exception, lambda *_: PlainTextResponse("Sorry", 500))
    async with browser(app) as buyer:
        with pytest.raises(ZeroDivisionError):
            await buyer.post(LANDING, data=form("good"))
    async with browser(app, raise_app_exceptions=False) as buyer:
        response = await buyer.post(LANDING, data=form("good"))
    assert (response.status_code, response.text) == (500, "Sorry")


async def test_errors_whose_causes_go_in_a_circle_are_answered(host: Host, settings: MarketplaceSettings) -> None:
    error, cause = ThrottledError("too often"), OSError()
    error.__cause__, cause.__context__ = cause, error
    async with browser(host(settings=settings, resolver=FakeResolver({"good": error}))) as buyer:
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 503


async def test_an_error_of_on_error_reaches_the_host(host: Host, settings: MarketplaceSettings) -> None:
    async def on_error(_: RegistrationFailed) -> None:
        raise ProductMismatchError("raised where nobody turns it into a page")

    async with browser(host(settings=settings, resolver=FakeResolver(), on_error=on_error)) as buyer:
        with pytest.raises(ProductMismatchError):
            await buyer.post(LANDING, data=form("junk"))
