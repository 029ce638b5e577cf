"""Reproductions of what goes wrong without an error: each looks at the symptom, and that mending it helps."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import httpx2
from playwright.sync_api import BrowserContext
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_marketplace import Marketplace, MarketplaceMiddleware, MarketplaceSettings, Registration
from starlette_marketplace.hooks import RegistrationResolved
from starlette_marketplace.registration.session import RegistrationSession
from starlette_marketplace.testing import make_customer
from tests.docs.troubleshooting_reasons import reading_the_form_outside
from tests.docs.troubleshooting_scene import ChromiumThread, Reproduction, Scene
from tests.example_app.steps import set_up_account
from tests.support.hosts import (
    LANDING,
    RewritePath,
    beside,
    csrf,
    form,
    read_form,
    starlette_middleware,
    starlette_mount,
)
from tests.support.servers import serve

SECURE = "https://app.example"


@contextmanager
def buyer_of(app: ASGIApp, base_url: str = SECURE) -> Iterator[TestClient]:
    with TestClient(app, base_url=base_url, follow_redirects=False) as client:
        yield client


def arrive(scene: Scene, client: TestClient, path: str = LANDING, scenario: str = "new-product") -> httpx2.Response:
    """The answer to the POST of a buyer."""
    answer: httpx2.Response = client.post(path, data=form(scene.marketplace.issue_token(scenario)))
    return answer


# The registration is None


def click(scene: Scene, context: BrowserContext, app_url: str) -> str:
    """What the signup page shows when a person comes from the storefront, which is another site."""
    scene.marketplace.registration_url = app_url + LANDING
    page = context.new_page()
    set_up_account(page, str(scene.settings.endpoint_url).replace("127.0.0.1", "localhost"), "new-product")
    page.wait_for_url("**/signup")
    return page.locator("body").inner_text()


def under(name: str, url: str) -> str:
    """The address of a server of this machine under another name."""
    return url.replace("127.0.0.1", name)


def chromium(scene: Scene, *, cookies: bool = True) -> ChromiumThread:
    return ChromiumThread(scene.folder / "profile", cookies=cookies)


def not_from_aws(scene: Scene) -> None:
    with buyer_of(starlette_middleware(settings=scene.settings)) as buyer:
        assert buyer.get("/signup").json() is None
        assert arrive(scene, buyer).status_code == 303
        assert buyer.get("/signup").json()


def over_http(scene: Scene) -> None:
    def visit(context: BrowserContext) -> None:
        with serve(starlette_middleware(settings=scene.settings)) as url:
            assert click(scene, context, under("shop.example", url)) == "null"
            assert not context.cookies()
            for name in ("127.0.0.1", "localhost"):
                assert "license_arn" in click(scene, context, under(name, url)), "the exception of Chromium"
                context.clear_cookies()
        with serve(starlette_middleware(settings=replace(scene.settings, https_only=False))) as url:
            assert "license_arn" in click(scene, context, under("shop.example", url))

    chromium(scene).run(visit)


def on_another_host(scene: Scene) -> None:
    def visit(context: BrowserContext) -> None:
        for session_domain, is_found in ((None, False), ("acme.example", True)):
            settings = replace(scene.settings, https_only=False, session_domain=session_domain)
            with serve(starlette_middleware(settings=settings)) as url:
                signup_url = under("app.acme.example", url) + "/signup"
                with serve(starlette_middleware(settings=replace(settings, signup_url=signup_url))) as landing:
                    shown = click(scene, context, under("www.acme.example", landing))
            assert ("license_arn" in shown) is is_found

    chromium(scene).run(visit)


class Hardened:
    """What makes each cookie SameSite=Strict."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def harden(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [
                    (name, value.replace(b"SameSite=lax", b"SameSite=strict")) for name, value in message["headers"]
                ]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, harden)


def by_strict(scene: Scene) -> None:
    def visit(context: BrowserContext) -> None:
        app = starlette_middleware(settings=replace(scene.settings, https_only=False))
        with serve(Hardened(app)) as url:
            assert click(scene, context, under("strict.example", url)) == "null"
            page = context.new_page()
            page.goto(under("strict.example", url) + "/signup")
            assert "license_arn" in page.locator("body").inner_text()
        with serve(app) as url:
            assert "license_arn" in click(scene, context, under("lax.example", url))

    chromium(scene).run(visit)


def without_cookies(scene: Scene) -> None:
    def visit(context: BrowserContext) -> None:
        with serve(starlette_middleware(settings=replace(scene.settings, https_only=False))) as url:
            assert click(scene, context, under("shop.example", url)) == "null"

    chromium(scene, cookies=False).run(visit)


class Moved:
    """What moves each cookie below another path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def move(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name, value.replace(b"Path=/;", b"Path=/eu/;")) for name, value in message["headers"]]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, move)


def by_another_path(scene: Scene) -> None:
    def visit(context: BrowserContext) -> None:
        for https_only, is_refused in ((True, True), (False, False)):
            app = starlette_middleware(settings=replace(scene.settings, https_only=https_only))
            with serve(Moved(app)) as url:
                assert click(scene, context, url) == "null"
                assert (not context.cookies()) is is_refused
            with serve(app) as url:
                assert "license_arn" in click(scene, context, url)
            context.clear_cookies()

    chromium(scene).run(visit)


WORKER = """
self.addEventListener("activate", (event) => event.waitUntil(clients.claim()));
self.addEventListener("fetch", (event) => {{
  {exceptions}
  if (event.request.mode === "navigate") event.respondWith(new Response("the stored page"));
}});
"""
WITH_EXCEPTIONS = """
  if (event.request.method !== "GET" || new URL(event.request.url).pathname === "/signup") return;
"""
INSTALL = "navigator.serviceWorker.register('/worker.js').then(() => navigator.serviceWorker.ready).then(() => true)"


def by_service_worker(scene: Scene) -> None:
    def visit(context: BrowserContext) -> None:
        for exceptions, path, shown in (("", LANDING, "the stored page"), (WITH_EXCEPTIONS, "/signup", "license_arn")):
            script = Response(WORKER.format(exceptions=exceptions), media_type="text/javascript")
            app = starlette_middleware(settings=replace(scene.settings, https_only=False))
            beside(app).routes.extend([Route("/home", PlainTextResponse("home")), Route("/worker.js", script)])
            with serve(app) as url:
                page = context.new_page()
                page.goto(url + "/home")
                assert page.evaluate(INSTALL)
                scene.marketplace.registration_url = url + LANDING
                set_up_account(page, str(scene.settings.endpoint_url).replace("127.0.0.1", "localhost"), "new-product")
                page.wait_for_url("**" + path)
                assert shown in page.locator("body").inner_text()

    chromium(scene).run(visit)
    assert len(scene.marketplace.resolve_calls) == 1


def by_clock(scene: Scene) -> None:
    for behind, is_found in ((timedelta(hours=1), False), (timedelta(seconds=20), True)):
        signed = Registration(customer=make_customer(), resolved_at=datetime.now(UTC) + behind)
        cookie = RegistrationSession(scene.settings).cookie(signed).partition(";")[0]
        with buyer_of(starlette_middleware(settings=scene.settings)) as buyer:
            assert bool(buyer.get("/signup", headers={"cookie": cookie}).json()) is is_found


IMPORTED = """
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, FastAPI
from starlette_marketplace import MarketplaceMiddleware, get_registration

if {condition}:
    from starlette_marketplace import Registration

app = FastAPI()


@app.get("/signup")
def signup(registration: Annotated[Registration | None, Depends(get_registration)]) -> bool:
    return registration is None
"""


def status_422(scene: Scene) -> None:
    for condition, status in (("TYPE_CHECKING", 422), ("True", 200)):
        module = ModuleType("imported")
        exec(IMPORTED.format(condition=condition), module.__dict__)
        module.app.add_middleware(MarketplaceMiddleware, settings=scene.settings)
        with buyer_of(module.app) as buyer:
            answer = buyer.get("/signup")
        assert answer.status_code == status
        assert (status == 200) == ("registration" not in answer.text)


def too_late(scene: Scene) -> None:
    arrived = Registration(customer=make_customer(), resolved_at=datetime.now(UTC) - timedelta(seconds=3601))
    cookie = RegistrationSession(scene.settings).cookie(arrived).partition(";")[0]
    for session_max_age, is_found in ((3600, False), (7200, True)):
        app = starlette_middleware(settings=replace(scene.settings, session_max_age=session_max_age))
        with buyer_of(app) as buyer:
            assert bool(buyer.get("/signup", headers={"cookie": cookie}).json()) is is_found


def by_another_key(scene: Scene) -> None:
    other = replace(scene.settings, secret_key="o" * 32)
    both = replace(other, secret_key_fallbacks=(scene.settings.secret_key,))
    with buyer_of(starlette_middleware(settings=scene.settings)) as buyer:
        cookie = arrive(scene, buyer).headers["set-cookie"].partition(";")[0]
    for settings, is_found in ((other, False), (both, True)):
        with buyer_of(starlette_middleware(settings=settings)) as buyer:
            assert bool(buyer.get("/signup", headers={"cookie": cookie}).json()) is is_found


def finished(scene: Scene) -> None:
    with buyer_of(starlette_middleware(settings=scene.settings)) as buyer:
        arrive(scene, buyer)
        buyer.post(f"/signup/{buyer.get('/signup').json()['id']}")
        assert buyer.get("/signup").json() is None


# What a hook does


def logged_out(scene: Scene) -> None:
    async def login(request: Request) -> Response:
        request.session["user"] = "ada"
        return PlainTextResponse("hello")

    async def me(request: Request) -> Response:
        return PlainTextResponse(request.session.get("user", "nobody"))

    def write(event: RegistrationResolved) -> None:
        event.request.session["account"] = event.registration.customer.aws_account_id

    def visit(context: BrowserContext) -> None:
        for on_resolved, user in ((write, "nobody"), (None, "ada")):
            options: dict[str, Any] = {} if on_resolved is None else {"on_resolved": on_resolved}
            app = starlette_middleware(settings=replace(scene.settings, https_only=False), **options)
            beside(app, outside=[Middleware(SessionMiddleware, secret_key="s" * 32)])
            beside(app).routes.extend([Route("/login", login), Route("/me", me)])
            with serve(app) as url:
                shop = under("shop.example", url)
                page = context.new_page()
                page.goto(shop + "/login")
                click(scene, context, shop)
                page.goto(shop + "/me")
                assert page.locator("body").inner_text() == user

    chromium(scene).run(visit)


def status_500(scene: Scene) -> None:
    failing = [ZeroDivisionError("a bug")]

    def hook(_: RegistrationResolved) -> None:
        if failing:
            raise failing.pop()

    app = starlette_middleware(settings=scene.settings, on_resolved=hook)
    data = form(scene.marketplace.issue_token("new-product"))
    client = TestClient(app, base_url=SECURE, raise_server_exceptions=False, follow_redirects=False)
    with client as buyer:
        assert buyer.post(LANDING, data=data).status_code == 500
        assert buyer.post(LANDING, data=data).status_code == 303
    assert len(scene.marketplace.resolve_calls) == 1


# How often AWS is asked


def calls(scene: Scene, *apps: ASGIApp, scenario: str = "new-product") -> int:
    """How often AWS is asked for a token that is posted to each of these apps."""
    before = len(scene.marketplace.resolve_calls)
    data = form(scene.marketplace.issue_token(scenario))
    for app in apps:
        with buyer_of(app) as buyer:
            buyer.post(LANDING, data=data)
    return len(scene.marketplace.resolve_calls) - before


def made(settings: MarketplaceSettings, **changes: Any) -> ASGIApp:
    return starlette_middleware(settings=replace(settings, **changes))


def asked_twice(scene: Scene) -> None:
    worker = made(scene.settings)
    assert calls(scene, worker, worker) == 1


def asked_by_each_worker(scene: Scene) -> None:
    assert calls(scene, made(scene.settings), made(scene.settings)) == 2
    url = scene.ask_for("server").url
    assert calls(scene, made(scene.settings, cache_url=url), made(scene.settings, cache_url=url)) == 1


def asked_by_retries(scene: Scene) -> None:
    assert calls(scene, made(scene.settings, max_attempts=2), scenario="internal-error") == 2
    assert calls(scene, made(scene.settings, max_attempts=1), scenario="internal-error") == 1


def asked_after_a_failure(scene: Scene) -> None:
    worker = made(scene.settings)
    assert calls(scene, worker, worker, scenario="throttled") == 2
    assert calls(scene, worker, worker, scenario="expired") == 1


def asked_without_a_cache(scene: Scene) -> None:
    server = scene.ask_for("own_server")
    server.kill()
    worker = made(scene.settings, cache_ttl=0, cache_url=server.url)
    assert calls(scene, worker, worker) == 2
    assert "The shared cache failed" not in scene.log.text, "it is not even asked"


# What the landing URL answers


def other_methods(scene: Scene) -> None:
    with buyer_of(starlette_middleware(settings=scene.settings)) as buyer:
        answer = buyer.put(LANDING)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")


def another_route(scene: Scene) -> None:
    for changes, status in (({}, 405), ({"registration_path": "/aws/register"}, 303)):
        app = made(scene.settings, **changes)
        beside(app).routes.append(Route("/aws/register", lambda _: PlainTextResponse("of the host")))
        with buyer_of(app) as buyer:
            answer = arrive(scene, buyer, "/aws/register")
            assert answer.status_code == status


def static_files_first(scene: Scene) -> None:
    marketplace = Marketplace(scene.settings)
    files = Mount("/", StaticFiles(directory=scene.folder))
    mount = Mount("/marketplace", routes=marketplace.routes)
    for routes, status in (([files, mount], 405), ([mount, files], 303)):
        with buyer_of(Starlette(routes=routes)) as buyer:
            assert arrive(scene, buyer).status_code == status


def another_path(scene: Scene) -> None:
    for changes, statuses in (({}, (404, 404)), ({"registration_path": "/aws"}, (200, 303))):
        with buyer_of(made(scene.settings, **changes)) as buyer:
            assert (buyer.get("/aws").status_code, arrive(scene, buyer, "/aws").status_code) == statuses


def mounted_at_the_whole_path(scene: Scene) -> None:
    marketplace = Marketplace(scene.settings)
    with buyer_of(Starlette(routes=[Mount(LANDING, routes=marketplace.routes)])) as buyer:
        assert buyer.post(LANDING, follow_redirects=True).status_code == 404
        assert arrive(scene, buyer, LANDING + "/register").status_code == 303
    with buyer_of(starlette_mount(settings=replace(scene.settings, registration_path="/aws"))) as buyer:
        assert buyer.post("/aws").status_code == 404
        assert arrive(scene, buyer).status_code == 303


def behind_csrf_protection(scene: Scene) -> None:
    for place, status in (("outside", 403), ("inside", 303)):
        app = starlette_middleware(settings=scene.settings)
        app = beside(app, outside=[csrf()]) if place == "outside" else beside(app, inside=[csrf()])
        with buyer_of(app) as buyer:
            assert arrive(scene, buyer).status_code == 303, "this one lets pass who has no cookie"
            buyer.cookies.set("partner", "1")
            scene.log.clear()
            assert arrive(scene, buyer).status_code == status
            assert bool(scene.log.records) is (status == 303)


def form_read_outside(scene: Scene) -> None:
    assert reading_the_form_outside(scene).reason == (
        "The body is empty. Look for a middleware outside of this one that reads the body."
    )
    reading = Middleware(BaseHTTPMiddleware, dispatch=read_form)
    with buyer_of(beside(starlette_middleware(settings=scene.settings), inside=[reading])) as buyer:
        assert arrive(scene, buyer).status_code == 303


def without_lifespan(scene: Scene) -> None:
    scene.environment.setenv("MARKETPLACE_PRODUCT_CODES", "acme")
    with serve(starlette_middleware(), lifespan="off") as url:
        for path in ("/signup", LANDING):
            assert httpx2.get(url + path).status_code == 500
    # The answer comes before the server's word for it.
    assert scene.log.text.count("MARKETPLACE_SECRET_KEY is missing") == 2


def stripped_prefix(scene: Scene) -> None:
    for root_path, location in ((None, "/signup"), ("/eu", "/eu/signup")):
        app = RewritePath(starlette_middleware(settings=scene.settings), strip="/eu", root_path=root_path)
        data = form(scene.marketplace.issue_token("new-product"))
        answer = TestClient(app, base_url=SECURE, follow_redirects=False).post("/eu" + LANDING, data=data)
        assert answer.headers["location"] == location


# What the host reads


def other_agreement(scene: Scene) -> None:
    with buyer_of(starlette_middleware(settings=scene.settings)) as buyer:
        arrive(scene, buyer)
        shown = buyer.get("/signup").json()
        agreement = scene.marketplace.buy_again("new-product")
        buyer.post(LANDING, data=form(scene.marketplace.issue_token("new-product", agreement=agreement)))
        assert buyer.get("/signup").json()["customer"]["license_arn"] == agreement.license_arn
        assert buyer.post(f"/signup/{shown['id']}").json() == shown


def fields_that_are_none(scene: Scene) -> None:
    for scenario, missing in (("new-product", "customer_identifier"), ("legacy-product", "license_arn")):
        with buyer_of(starlette_middleware(settings=scene.settings)) as buyer:
            arrive(scene, buyer, scenario=scenario)
            registration = buyer.get("/signup").json()
        assert registration["customer"][missing] is None
        del registration["id"]
        assert Registration.from_dict(registration).customer.key


# What the log shows

HOST = """
import logging, logging.config, sys
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette_marketplace import MarketplaceMiddleware, MarketplaceSettings
from starlette_marketplace.testing import FakeResolver, make_customer, registration_form

{configure}
app = Starlette()
settings = MarketplaceSettings(secret_key="k" * 32, product_codes="acmeanalytics")
app.add_middleware(MarketplaceMiddleware, settings=settings, resolver=FakeResolver({{"good": make_customer()}}))
client = TestClient(app, follow_redirects=False)
for token in ("good", "bad"):
    client.post("/marketplace/register", data=registration_form(token))
"""


def shown(configure: str) -> tuple[bool, bool]:
    """Whether a process with this configuration shows a registration that went well, and one that failed."""
    command = [sys.executable, "-c", HOST.format(configure=configure)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return "registration begun" in said, "registration failed" in said


def info_is_hidden(_: Scene) -> None:
    assert shown("") == (False, True)
    assert shown('logging.getLogger("starlette_marketplace").setLevel("INFO")') == (False, True), "there is no handler"
    assert shown('logging.basicConfig(); logging.getLogger("starlette_marketplace").setLevel("INFO")') == (True, True)


def logger_is_disabled(_: Scene) -> None:
    configuration = '"handlers": {"all": {"class": "logging.StreamHandler"}}, "root": {"handlers": ["all"]}'
    assert shown(f'logging.config.dictConfig({{"version": 1, {configuration}}})') == (False, False)
    mended = f'"disable_existing_loggers": False, {configuration}'
    assert shown(f'logging.config.dictConfig({{"version": 1, {mended}}})') == (False, True)


SYMPTOMS: dict[str, Reproduction] = {
    "none": not_from_aws,
    "none-over-http": over_http,
    "none-on-another-host": on_another_host,
    "none-by-strict": by_strict,
    "none-without-cookies": without_cookies,
    "none-by-path": by_another_path,
    "none-by-clock": by_clock,
    "none-by-service-worker": by_service_worker,
    "none-too-late": too_late,
    "none-by-other-key": by_another_key,
    "none-finished": finished,
    "logged-out": logged_out,
    "asked-twice": asked_twice,
    "asked-by-each-worker": asked_by_each_worker,
    "asked-by-retries": asked_by_retries,
    "asked-after-failure": asked_after_a_failure,
    "asked-without-cache": asked_without_a_cache,
    "status-405": other_methods,
    "status-405-route": another_route,
    "status-405-static": static_files_first,
    "status-404": another_path,
    "status-404-mount": mounted_at_the_whole_path,
    "status-403": behind_csrf_protection,
    "status-500": status_500,
    "status-422": status_422,
    "form-was-read": form_read_outside,
    "error-in-each-request": without_lifespan,
    "wrong-signup": stripped_prefix,
    "other-agreement": other_agreement,
    "field-none": fields_that_are_none,
    "not-in-the-log": info_is_hidden,
    "logger-disabled": logger_is_disabled,
}
