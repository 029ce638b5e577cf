"""Other hosts, servers and middleware: the way of a buyer, from the landing POST to the end of signup, on each."""

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Unpack, cast

import httpx2
import litestar
import pytest
import quart
from fastapi import APIRouter, FastAPI
from hypercorn.utils import LifespanFailureError
from litestar.config.csrf import CSRFConfig
from litestar.middleware import DefineMiddleware
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Host as HostRoute
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_marketplace import (
    Marketplace,
    MarketplaceMiddleware,
    MarketplaceSettings,
    SettingsError,
    complete_registration,
    get_registration,
    get_registration_by_id,
)
from starlette_marketplace.hooks import LandingVisited
from starlette_marketplace.local import LocalMarketplace
from starlette_marketplace.middleware import MarketplaceOptions
from tests.support.fakes import CUSTOMER, FakeResolver
from tests.support.hosts import (
    HOSTS,
    LANDING,
    Host,
    RewritePath,
    beside,
    browser,
    csrf,
    described,
    fastapi_middleware,
    fastapi_mount,
    form,
    read_form,
    starlette_middleware,
    starlette_mount,
)
from tests.support.servers import serve, serve_by_hypercorn

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent


class Server(Protocol):
    def __call__(self, app: ASGIApp, *, root_path: str = "") -> AbstractContextManager[str]: ...


each_host = pytest.mark.parametrize("host", HOSTS)
each_host_with_the_middleware = pytest.mark.parametrize("host", [fastapi_middleware, starlette_middleware])
each_host_that_mounts = pytest.mark.parametrize("host", [fastapi_mount, starlette_mount])
each_server = pytest.mark.parametrize("server", [serve, serve_by_hypercorn])


def ours(cookies: httpx2.Cookies) -> list[str]:
    return [name for name in cookies if "marketplace-" in name]


def landed(response: httpx2.Response) -> str:
    """Where the buyer is sent on to, with the one cookie that has to be there."""
    assert response.status_code == 303, response.text
    assert response.headers["cache-control"] == "no-store"
    assert "content-encoding" not in response.headers
    [cookie] = [cookie for cookie in response.headers.get_list("set-cookie") if "marketplace-" in cookie]
    assert "; Path=/;" in cookie
    location: str = response.headers["location"]
    return location


async def sign_up(buyer: httpx2.AsyncClient, landing: str = LANDING) -> str:
    """The whole way of a buyer; gives the address of the signup page."""
    location = landed(await buyer.post(landing, data=form("good")))
    registration = (await buyer.get(location)).json()
    assert registration["customer"]["license_arn"] == CUSTOMER.license_arn
    finished = await buyer.post(f"{location}/{registration['id']}")
    assert finished.json() == registration
    assert ours(buyer.cookies) == []
    assert (await buyer.get(location)).json() is None
    return location


def sign_up_over_a_socket(url: str, token: str, *, proxied_prefix: str = "") -> str:
    """The same with a server; before it a proxy takes `proxied_prefix` from the path."""
    with httpx2.Client(base_url=url) as buyer:
        location = landed(buyer.post(LANDING, data=form(token)))
        assert location.startswith(proxied_prefix)
        signup = location.removeprefix(proxied_prefix)
        registration = buyer.get(signup).json()
        assert registration["customer"]["license_arn"]
        assert buyer.post(f"{signup}/{registration['id']}").json() == registration
        assert ours(buyer.cookies) == []
        assert buyer.get(signup).json() is None
    return location


# Paths


@each_host
def test_uvicorn_with_a_root_path_leads_below_it(host: Host, settings: MarketplaceSettings) -> None:
    app = host(settings=replace(settings, https_only=False), resolver=FakeResolver())
    with serve(app, root_path="/api") as url:
        assert sign_up_over_a_socket(url, "good", proxied_prefix="/api") == "/api/signup"


@each_host
def test_hypercorn_with_a_root_path_leads_below_it(host: Host, settings: MarketplaceSettings) -> None:
    app = host(settings=replace(settings, https_only=False), resolver=FakeResolver())
    with serve_by_hypercorn(app, root_path="/api") as url:
        assert sign_up_over_a_socket(url, "good", proxied_prefix="/api") == "/api/signup"


@pytest.mark.parametrize("host", [fastapi_middleware, fastapi_mount])
async def test_the_root_path_of_a_fastapi_app_is_kept(host: Host, settings: MarketplaceSettings) -> None:
    app = host(settings=settings, resolver=FakeResolver())
    assert isinstance(app, FastAPI)
    app.root_path = "/api"
    async with browser(app) as buyer:
        assert await sign_up(buyer, "/api" + LANDING) == "/api/signup"


Mounted = Callable[[Marketplace], FastAPI | Starlette]


def in_fastapi(marketplace: Marketplace) -> FastAPI:
    app = FastAPI()
    app.mount("/marketplace", marketplace)
    return app


def in_a_mount(marketplace: Marketplace) -> Starlette:
    return Starlette(routes=[Mount("/marketplace", routes=marketplace.routes)])


def in_a_router_in_a_mount(marketplace: Marketplace) -> Starlette:
    return Starlette(routes=[Mount("/marketplace", Router(marketplace.routes))])


def in_a_mount_with_a_parameter(marketplace: Marketplace) -> Starlette:
    return Starlette(routes=[Mount("/{name}", marketplace)])


def included_with_a_prefix(marketplace: Marketplace) -> FastAPI:
    app = FastAPI()
    app.include_router(APIRouter(routes=list(marketplace.routes)), prefix="/marketplace")
    return app


def among_other_routes(marketplace: Marketplace) -> Starlette:
    return Starlette(routes=[Route("/", Response), *marketplace.routes])


def among_the_routes_of_fastapi(marketplace: Marketplace) -> FastAPI:
    return FastAPI(routes=list(marketplace.routes))


def on_a_host(marketplace: Marketplace) -> Starlette:
    return Starlette(routes=[HostRoute("app.example", marketplace)])


def in_a_mount_on_a_host(marketplace: Marketplace) -> Starlette:
    return Starlette(routes=[HostRoute("{name}.example", in_a_mount(marketplace))])


def in_a_mount_in_a_mount(marketplace: Marketplace) -> Starlette:
    return Starlette(routes=[Mount("/shop", routes=[Mount("/marketplace", marketplace)])])


def in_an_app_in_an_app(marketplace: Marketplace) -> FastAPI:
    app = FastAPI()
    app.mount("/shop", in_fastapi(marketplace))
    return app


def included_in_an_app_in_an_app(marketplace: Marketplace) -> FastAPI:
    app = FastAPI()
    app.mount("/shop", included_with_a_prefix(marketplace))
    return app


MOUNTED_ONCE: dict[Mounted, str] = {
    in_fastapi: LANDING,
    in_a_mount: LANDING,
    in_a_router_in_a_mount: LANDING,
    in_a_mount_with_a_parameter: LANDING,
    included_with_a_prefix: LANDING,
    among_other_routes: "/register",
    among_the_routes_of_fastapi: "/register",
    on_a_host: "/register",
    in_a_mount_on_a_host: LANDING,
}
MOUNTED_TWICE = dict.fromkeys((in_a_mount_in_a_mount, in_an_app_in_an_app), "/shop" + LANDING) | {
    included_in_an_app_in_an_app: "/shop" + LANDING
}


@pytest.mark.parametrize(("way", "landing"), [*MOUNTED_ONCE.items(), *MOUNTED_TWICE.items()])
@pytest.mark.parametrize(
    ("root_path", "signup"),
    [("", "/signup"), ("/eu", "/eu/signup"), ("/eu/west", "/eu/west/signup"), ("/eu/", "/eu/signup"), ("/", "/signup")],
)
async def test_each_way_of_mounting_leads_below_the_root_path_that_the_server_puts_in_front_of_the_path(
    way: Mounted, landing: str, settings: MarketplaceSettings, root_path: str, signup: str
) -> None:
    app = way(Marketplace(settings, resolver=FakeResolver()))
    async with browser(RewritePath(app, add=root_path, root_path=root_path)) as buyer:
        assert landed(await buyer.post(landing, data=form("good"))) == signup


@pytest.mark.parametrize(("way", "landing"), MOUNTED_ONCE.items())
@pytest.mark.parametrize("root_path", ["/eu", "/eu/west", "/eu/"])
async def test_each_way_of_mounting_leads_below_the_root_path_that_is_left_out_of_the_path(
    way: Mounted, landing: str, settings: MarketplaceSettings, root_path: str
) -> None:
    app = way(Marketplace(settings, resolver=FakeResolver()))
    async with browser(app, root_path=root_path) as buyer:
        for path in (landing, landing + "/"):
            assert landed(await buyer.post(path, data=form("good"))) == root_path.rstrip("/") + "/signup"


@pytest.mark.parametrize("way", [in_fastapi, included_with_a_prefix, among_the_routes_of_fastapi])
async def test_each_way_of_mounting_in_fastapi_leads_below_its_root_path_behind_a_proxy_that_strips_it(
    way: Callable[[Marketplace], FastAPI], settings: MarketplaceSettings
) -> None:
    app = way(Marketplace(settings, resolver=FakeResolver()))
    app.root_path = "/eu"  # Its argument is deprecated.
    async with browser(app) as buyer:
        for path in (MOUNTED_ONCE[way], "/eu" + MOUNTED_ONCE[way]):
            assert landed(await buyer.post(path, data=form("good"))) == "/eu/signup"


@pytest.mark.parametrize(("way", "landing"), MOUNTED_TWICE.items())
async def test_starlette_finds_no_mount_in_a_mount_when_the_root_path_is_left_out_of_the_path(
    way: Mounted, landing: str, settings: MarketplaceSettings
) -> None:
    async with browser(way(Marketplace(settings)), root_path="/eu") as buyer:
        assert (await buyer.get(landing)).status_code == 404


@each_host_with_the_middleware
@pytest.mark.parametrize(
    ("root_path", "add"), [("", ""), ("/eu", "/eu"), ("/eu", ""), ("/eu/", "/eu/"), ("/eu/", ""), ("/", "/"), ("/", "")]
)
async def test_the_middleware_leads_below_the_root_path_however_it_is_told(
    host: Host, settings: MarketplaceSettings, root_path: str, add: str
) -> None:
    prefix = root_path.rstrip("/")
    app = host(settings=settings, resolver=FakeResolver())
    async with browser(RewritePath(app, add=add, root_path=root_path)) as buyer:
        assert landed(await buyer.post(LANDING, data=form("good"))) == prefix + "/signup"
    inner = Starlette(routes=[Mount("/shop", app)])
    async with browser(RewritePath(inner, add=add, root_path=root_path)) as buyer:
        assert landed(await buyer.post("/shop" + LANDING, data=form("good"))) == prefix + "/shop/signup"


async def test_a_root_path_leads_to_no_other_site(settings: MarketplaceSettings) -> None:
    app = among_other_routes(Marketplace(settings, resolver=FakeResolver()))
    for root_path, signup in (("//evil.example", "/evil.example/signup"), ("eu", "/eu/signup")):
        async with browser(app, root_path=root_path) as buyer:
            assert landed(await buyer.post("/register", data=form("good"))) == signup


async def test_another_framework_may_add_the_prefix_of_its_mount_to_the_root_path(
    settings: MarketplaceSettings,
) -> None:
    marketplace = Marketplace(settings, resolver=FakeResolver())

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        await marketplace({**scope, "root_path": scope["root_path"] + "/marketplace"}, receive, send)

    async with browser(dispatch) as buyer:
        assert landed(await buyer.post(LANDING, data=form("good"))) == "/signup"


@each_host_with_the_middleware
@pytest.mark.parametrize("root_path", ["", "/api"])
async def test_the_middleware_two_mounts_deep_leads_to_the_signup_of_its_own_app(
    host: Host, settings: MarketplaceSettings, root_path: str
) -> None:
    inner = host(settings=settings, resolver=FakeResolver())
    app = Starlette(routes=[Mount("/eu", Router([Mount("/shop", inner)]))])
    async with browser(app, root_path=root_path) as buyer:
        assert await sign_up(buyer, f"{root_path}/eu/shop{LANDING}") == f"{root_path}/eu/shop/signup"


@pytest.mark.parametrize("root_path", ["", "/api"])
@pytest.mark.parametrize("as_routes", [True, False])
async def test_a_mount_in_a_router_in_a_router_leads_to_the_signup_of_the_outermost_app(
    settings: MarketplaceSettings, root_path: str, as_routes: bool
) -> None:
    marketplace = Marketplace(settings, resolver=FakeResolver())
    mount = Mount("/aws", routes=marketplace.routes) if as_routes else Mount("/aws", marketplace)

    async def signup(request: Request) -> Response:
        return JSONResponse(described(marketplace.get_registration(request)))

    async def finish(request: Request) -> Response:
        registration = marketplace.get_registration(request, request.path_params["registration_id"])
        assert registration
        response = JSONResponse(described(registration))
        marketplace.complete_registration(response, registration)
        return response

    app = Starlette(
        routes=[
            Mount("/eu", Router([Mount("/shop", Router([mount]))])),
            Route("/signup", signup),
            Route("/signup/{registration_id}", finish, methods=["POST"]),
        ]
    )
    async with browser(app, root_path=root_path) as buyer:
        assert await sign_up(buyer, f"{root_path}/eu/shop/aws/register") == f"{root_path}/signup"


@each_host
async def test_behind_a_stripped_prefix_that_nobody_told_us_signup_url_names_it(
    host: Host, settings: MarketplaceSettings
) -> None:
    app = RewritePath(host(settings=replace(settings, signup_url="/eu/signup"), resolver=FakeResolver()), strip="/eu")
    async with browser(app) as buyer:
        assert await sign_up(buyer, "/eu" + LANDING) == "/eu/signup"
    untold = RewritePath(host(settings=settings, resolver=FakeResolver()), strip="/eu")
    async with browser(untold) as buyer:
        assert landed(await buyer.post("/eu" + LANDING, data=form("good"))) == "/signup"


@each_host
async def test_a_prefix_that_is_set_as_root_path_needs_no_setting(host: Host, settings: MarketplaceSettings) -> None:
    app = RewritePath(host(settings=settings, resolver=FakeResolver()), root_path="/eu")
    async with browser(app) as buyer:
        assert await sign_up(buyer, "/eu" + LANDING) == "/eu/signup"


@each_host
async def test_a_prefix_that_is_stripped_and_set_as_root_path_needs_no_setting(
    host: Host, settings: MarketplaceSettings
) -> None:
    app = RewritePath(host(settings=settings, resolver=FakeResolver()), strip="/eu", root_path="/eu")
    async with browser(app) as buyer:
        assert await sign_up(buyer, "/eu" + LANDING) == "/eu/signup"


async def test_outside_of_what_strips_a_prefix_the_middleware_goes_by_the_public_paths(
    settings: MarketplaceSettings,
) -> None:
    public = replace(settings, registration_path="/eu/aws", signup_url="/eu/signup")
    middleware = [
        Middleware(MarketplaceMiddleware, settings=public, resolver=FakeResolver()),
        Middleware(RewritePath, strip="/eu"),
    ]
    bare = starlette_middleware(settings=settings)
    assert isinstance(bare, Starlette)
    async with browser(Starlette(routes=bare.routes, middleware=middleware)) as buyer:
        assert await sign_up(buyer, "/eu/aws") == "/eu/signup"


@each_host_with_the_middleware
async def test_behind_an_added_prefix_the_middleware_goes_by_the_inner_path_and_signup_url_by_the_public_one(
    host: Host, settings: MarketplaceSettings
) -> None:
    inner = host(settings=replace(settings, signup_url="https://app.example/signup"), resolver=FakeResolver())
    app = RewritePath(Starlette(routes=[Mount("/v2", inner)]), add="/v2")
    async with browser(app) as buyer:
        assert await sign_up(buyer) == "https://app.example/signup"


async def test_behind_an_added_prefix_the_mounted_form_leads_to_the_public_path(settings: MarketplaceSettings) -> None:
    inner = starlette_mount(settings=settings, resolver=FakeResolver())
    assert isinstance(inner, Starlette)
    app = RewritePath(Starlette(routes=[Mount("/v2", routes=inner.routes)]), add="/v2")
    async with browser(app) as buyer:
        assert await sign_up(buyer) == "/signup"


# Beside other middleware


async def sign_up_guarded(buyer: httpx2.AsyncClient) -> None:
    """The way of a buyer with a host that wants a CSRF token for its own POSTs."""
    buyer.cookies.set("partner", "1")  # SameSite=None, so that it comes along across sites
    landed(await buyer.post(LANDING, data=form("good")))
    registration = (await buyer.get("/signup")).json()
    assert (await buyer.post(f"/signup/{registration['id']}", data={"x": "y"})).status_code == 403
    assert (await buyer.get("/signup")).json() == registration, "the refused POST has changed nothing"
    headers = {"x-csrftoken": buyer.cookies["csrftoken"]}
    assert (await buyer.post(f"/signup/{registration['id']}", headers=headers)).json() == registration
    assert (await buyer.get("/signup")).json() is None


@each_host_with_the_middleware
async def test_csrf_protection_inside_of_the_middleware_guards_the_host_and_lets_buyers_in(
    host: Host, settings: MarketplaceSettings
) -> None:
    async with browser(beside(host(settings=settings, resolver=FakeResolver()), inside=[csrf()])) as buyer:
        await sign_up_guarded(buyer)


@each_host_that_mounts
async def test_csrf_protection_of_a_host_that_mounts_has_to_leave_the_landing_url_out(
    host: Host, settings: MarketplaceSettings
) -> None:
    leave_out = csrf(skip_if_scope=lambda scope: scope["path"] == LANDING)
    async with browser(beside(host(settings=settings, resolver=FakeResolver()), outside=[leave_out])) as buyer:
        await sign_up_guarded(buyer)


@each_host
async def test_csrf_protection_outside_refuses_buyers_who_have_a_cookie_that_crosses_sites(
    host: Host, settings: MarketplaceSettings
) -> None:
    resolver = FakeResolver()
    async with browser(beside(host(settings=settings, resolver=resolver), outside=[csrf()])) as buyer:
        # What hides the mistake: this library asks nothing of a POST that has no cookie at all.
        assert (await buyer.post(LANDING, data=form("good"), headers={"cookie": ""})).status_code == 303
        resolver.calls.clear()
        buyer.cookies.set("partner", "1")
        assert (await buyer.post(LANDING, data=form("other"))).status_code == 403
        assert not resolver.calls


@each_host
async def test_gzip_outside_compresses_the_pages_once_and_leaves_the_redirect_alone(
    host: Host, settings: MarketplaceSettings
) -> None:
    compress = Middleware(GZipMiddleware, minimum_size=1)
    async with browser(beside(host(settings=settings, resolver=FakeResolver()), outside=[compress])) as buyer:
        plain = await buyer.get(LANDING, headers={"accept-encoding": "identity"})
        page = await buyer.get(LANDING)
        refusal = await buyer.post(LANDING, data=form("junk"))
        for response in (page, refusal):
            assert response.headers.get_list("content-encoding") == ["gzip"]
            assert response.headers["vary"] == "Accept-Encoding"
            assert int(response.headers["content-length"]) == response.num_bytes_downloaded < len(response.content)
            for name in ("cache-control", "content-security-policy", "referrer-policy", "x-content-type-options"):
                assert response.headers[name] == plain.headers[name]
        assert page.text == plain.text
        assert "Reference <code>" in refusal.text
        await sign_up(buyer)


@each_host_with_the_middleware
async def test_gzip_inside_compresses_the_pages_of_the_host_only(host: Host, settings: MarketplaceSettings) -> None:
    compress = Middleware(GZipMiddleware, minimum_size=1)
    async with browser(beside(host(settings=settings, resolver=FakeResolver()), inside=[compress])) as buyer:
        assert "content-encoding" not in (await buyer.get(LANDING)).headers
        assert (await buyer.get("/signup")).headers["content-encoding"] == "gzip"
        await sign_up(buyer)


@each_host
async def test_a_wrong_host_header_is_refused_before_aws_is_asked(host: Host, settings: MarketplaceSettings) -> None:
    resolver = FakeResolver()
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=["app.example"])
    async with browser(beside(host(settings=settings, resolver=resolver), outside=[trusted])) as buyer:
        refused = await buyer.post(LANDING, data=form("good"), headers={"host": "evil.example"})
        assert (refused.status_code, refused.text) == (400, "Invalid host header")
        assert "set-cookie" not in refused.headers
        assert not resolver.calls
        await sign_up(buyer)


@each_host
@pytest.mark.parametrize("place", ["outside", "inside"])
async def test_a_buyer_who_is_logged_in_stays_logged_in(host: Host, settings: MarketplaceSettings, place: str) -> None:
    async def login(request: Request) -> Response:
        request.session["user"] = "ada"
        return Response()

    async def me(request: Request) -> Response:
        return PlainTextResponse(request.session.get("user", "nobody"))

    sessions = [Middleware(SessionMiddleware, secret_key="s" * 32, https_only=True)]
    app = host(settings=settings, resolver=FakeResolver())
    app = beside(app, outside=sessions) if place == "outside" else beside(app, inside=sessions)
    app.routes.extend([Route("/login", login, methods=["POST"]), Route("/me", me)])
    async with browser(app) as buyer, browser(app) as another_site:
        await buyer.post("/login")
        session = buyer.cookies["session"]
        # From another site the browser holds the session cookie back, as it is SameSite=Lax.
        arrival = await another_site.post(LANDING, data=form("good"))
        landed(arrival)
        assert ours(arrival.cookies) == list(arrival.cookies), "no other cookie is set"
        buyer.cookies.extract_cookies(arrival)
        assert (await buyer.get("/me")).text == "ada"
        registration = (await buyer.get("/signup")).json()
        await buyer.post(f"/signup/{registration['id']}")
        assert (await buyer.get("/me")).text == "ada"
        assert dict(buyer.cookies) == {"session": session}


@each_host
async def test_cors_lets_the_form_of_another_site_in_and_scripts_of_the_allowed_origin_only(
    host: Host, settings: MarketplaceSettings
) -> None:
    cors = Middleware(CORSMiddleware, allow_origins=["https://spa.example"], allow_credentials=True)
    async with browser(beside(host(settings=settings, resolver=FakeResolver()), outside=[cors])) as buyer:
        for origin in ("null", "https://aws.amazon.example"):
            arrival = await buyer.post(LANDING, data=form("good"), headers={"origin": origin})
            assert landed(arrival) == "/signup"
            assert "access-control-allow-origin" not in arrival.headers
        script = {"origin": "https://spa.example", "accept": "application/json"}
        answer = await buyer.post(LANDING, json={"RegistrationToken": "good"}, headers=script)
        assert answer.json()["success"] is True
        assert answer.headers["access-control-allow-origin"] == "https://spa.example"
        assert ours(answer.cookies)
        await sign_up(buyer)


async def read_body(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    await request.body()
    return await call_next(request)


@each_host
async def test_a_middleware_that_has_read_the_body_before_us_leaves_it_to_us(
    host: Host, settings: MarketplaceSettings
) -> None:
    reading = Middleware(BaseHTTPMiddleware, dispatch=read_body)
    async with browser(beside(host(settings=settings, resolver=FakeResolver()), outside=[reading])) as buyer:
        await sign_up(buyer)


@each_host
async def test_a_middleware_that_has_read_the_form_before_us_leaves_us_no_token(
    host: Host, settings: MarketplaceSettings
) -> None:
    reading = Middleware(BaseHTTPMiddleware, dispatch=read_form)
    async with browser(beside(host(settings=settings, resolver=FakeResolver()), outside=[reading])) as buyer:
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 400


@each_host_with_the_middleware
async def test_a_middleware_that_reads_the_form_inside_of_ours_takes_nothing_from_us(
    host: Host, settings: MarketplaceSettings
) -> None:
    reading = Middleware(BaseHTTPMiddleware, dispatch=read_form)
    async with browser(beside(host(settings=settings, resolver=FakeResolver()), inside=[reading])) as buyer:
        await sign_up(buyer)


@each_host
async def test_a_buyer_who_comes_by_http_is_asked_to_post_the_token_again_by_https(
    host: Host, settings: MarketplaceSettings
) -> None:
    resolver = FakeResolver()
    redirect = Middleware(HTTPSRedirectMiddleware)
    async with browser(beside(host(settings=settings, resolver=resolver), outside=[redirect])) as buyer:
        redirected = await buyer.post("http://app.example" + LANDING, data=form("good"))
        assert redirected.status_code == 307
        assert "set-cookie" not in redirected.headers
        assert not resolver.calls
        assert redirected.next_request
        assert redirected.next_request.url == "https://app.example" + LANDING
        assert landed(await buyer.send(redirected.next_request)) == "/signup"
        await sign_up(buyer)


@each_host
async def test_all_of_them_at_once_outside(host: Host, settings: MarketplaceSettings) -> None:
    everything = [
        Middleware(TrustedHostMiddleware, allowed_hosts=["app.example"]),
        Middleware(HTTPSRedirectMiddleware),
        Middleware(GZipMiddleware, minimum_size=1),
        Middleware(CORSMiddleware, allow_origins=["https://spa.example"]),
        Middleware(SessionMiddleware, secret_key="s" * 32),
        Middleware(BaseHTTPMiddleware, dispatch=read_body),
    ]
    async with browser(beside(host(settings=settings, resolver=FakeResolver()), outside=everything)) as buyer:
        assert await sign_up(buyer) == "/signup"


# HEAD


async def answered(app: ASGIApp, method: str) -> list[Message]:
    """What the app sends, before any server or client takes something away."""
    messages: list[Message] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def watch(message: Message) -> None:
            messages.append(message)
            await send(message)

        await app(scope, receive, watch)

    async with browser(watched) as visitor:
        await visitor.request(method, LANDING)
    return messages


def page_of_the_host(_: LandingVisited) -> Response:
    return PlainTextResponse("what the host says")


def stream_of_the_host(_: LandingVisited) -> Response:
    return StreamingResponse(iter(["what ", "the ", "host ", "says"]), headers={"content-length": "18"})


def file_of_the_host(_: LandingVisited) -> Response:
    return FileResponse(__file__)


@each_host
@pytest.mark.parametrize("on_visit", [None, page_of_the_host, stream_of_the_host, file_of_the_host])
async def test_head_is_answered_with_the_headers_of_get_and_no_body(
    host: Host, settings: MarketplaceSettings, on_visit: Any
) -> None:
    options: dict[str, Any] = {} if on_visit is None else {"on_visit": on_visit}
    app = host(settings=settings, resolver=FakeResolver(), **options)
    got, *_ = await answered(app, "GET")
    head, *body = await answered(app, "HEAD")
    assert head == got
    assert int(dict(head["headers"])[b"content-length"])
    assert {message["type"] for message in body} == {"http.response.body"}
    assert b"".join(message["body"] for message in body) == b""
    assert [message["more_body"] for message in body][-1] is False


@each_host_with_the_middleware
async def test_head_is_answered_without_a_body_where_the_hook_raises(host: Host, settings: MarketplaceSettings) -> None:
    def on_visit(_: LandingVisited) -> None:
        raise HTTPException(404, "not for you")

    app = host(settings=settings, resolver=FakeResolver(), on_visit=on_visit)
    got, *_ = await answered(app, "GET")
    head, *body = await answered(app, "HEAD")
    assert (head, head["status"]) == (got, 404)
    assert b"".join(message["body"] for message in body) == b""


@pytest.mark.parametrize("kind", ["http.response.pathsend", "http.response.zerocopysend"])
@each_host
async def test_head_makes_no_server_send_a_file(host: Host, settings: MarketplaceSettings, kind: str) -> None:
    class SentByTheServer(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
            await send({"type": kind, "path": __file__, "file": 3, "more_body": False})

    def on_visit(_: LandingVisited) -> Response:
        return SentByTheServer()

    answered: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        answered.append(message)

    app = host(settings=settings, resolver=FakeResolver(), on_visit=on_visit)
    await app({"type": "http", "method": "HEAD", "path": LANDING, "headers": []}, receive, send)
    assert answered[1:] == [{"type": "http.response.body", "body": b"", "more_body": False}]


# Other frameworks

LitestarRequest = litestar.Request[Any, Any, Any]


@litestar.get("/signup", sync_to_thread=False)
def litestar_signup(request: LitestarRequest) -> dict[str, Any] | None:
    return described(get_registration(HTTPConnection(dict(request.scope))))


@litestar.post("/signup/{registration_id:str}", sync_to_thread=False)
def litestar_finish(request: LitestarRequest) -> litestar.Response[Any]:
    connection = HTTPConnection(dict(request.scope))
    registration = get_registration_by_id(connection, request.path_params["registration_id"])
    response: litestar.Response[Any] = litestar.Response(described(registration))
    response.set_cookie("seen", "signup")
    if registration is not None:
        completed = Response()
        complete_registration(connection, completed, registration)
        response.headers["Set-Cookie"] = completed.headers["Set-Cookie"]
    return response


def litestar_app(**options: Any) -> litestar.Litestar:
    return litestar.Litestar(
        [litestar_signup, litestar_finish],
        # Litestar sets up the logging of the whole process otherwise.
        logging_config=None,
        **options,
    )


def litestar_host(**options: Unpack[MarketplaceOptions]) -> ASGIApp:
    return MarketplaceMiddleware(cast("ASGIApp", litestar_app()), **options)


def quart_app(**options: Unpack[MarketplaceOptions]) -> quart.Quart:
    app = quart.Quart("tests")
    wrapped = MarketplaceMiddleware(cast("ASGIApp", app.asgi_app), **options)
    app.asgi_app = wrapped  # type: ignore[method-assign, assignment]  # what Quart documents

    @app.get("/signup")
    async def signup() -> quart.Response:
        return quart.jsonify(described(get_registration(HTTPConnection(dict(quart.request.scope)))))

    @app.post("/signup/<registration_id>")
    async def finish(registration_id: str) -> quart.Response:
        connection = HTTPConnection(dict(quart.request.scope))
        registration = get_registration_by_id(connection, registration_id)
        response = quart.jsonify(described(registration))
        response.set_cookie("seen", "signup")
        if registration is not None:
            completed = Response()
            complete_registration(connection, completed, registration)
            response.headers.add("Set-Cookie", completed.headers["Set-Cookie"])
        return response

    return app


def quart_host(**options: Unpack[MarketplaceOptions]) -> ASGIApp:
    return cast("ASGIApp", quart_app(**options))


each_other_framework = pytest.mark.parametrize("host", [litestar_host, quart_host])


async def test_a_litestar_host_signs_up_buyers(settings: MarketplaceSettings) -> None:
    async with browser(litestar_host(settings=settings, resolver=FakeResolver())) as buyer:
        assert (await buyer.get("/signup")).json() is None
        assert await sign_up(buyer) == "/signup"
        assert buyer.cookies["seen"] == "signup"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # Quart is made for asyncio.
async def test_a_quart_host_signs_up_buyers(settings: MarketplaceSettings) -> None:
    async with browser(quart_host(settings=settings, resolver=FakeResolver())) as buyer:
        assert (await buyer.get("/signup")).json() is None
        assert await sign_up(buyer) == "/signup"
        assert buyer.cookies["seen"] == "signup"


@each_other_framework
def test_other_frameworks_keep_the_root_path_of_uvicorn(host: Host, settings: MarketplaceSettings) -> None:
    app = host(settings=replace(settings, https_only=False), resolver=FakeResolver())
    with serve(app, root_path="/api") as url:
        assert sign_up_over_a_socket(url, "good", proxied_prefix="/api") == "/api/signup"


@each_other_framework
def test_other_frameworks_sign_up_buyers_with_the_real_boto3(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    with serve(host(settings=replace(settings, https_only=False)), lifespan="on") as url:
        sign_up_over_a_socket(url, marketplace.issue_token("new-product"))


@each_other_framework
def test_missing_settings_keep_other_frameworks_from_starting(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MARKETPLACE_SECRET_KEY", raising=False)
    with pytest.raises(RuntimeError), serve(host()):
        pass
    assert "MARKETPLACE_SECRET_KEY is missing" in caplog.text


def test_the_lifespan_of_a_litestar_host_runs(settings: MarketplaceSettings) -> None:
    stages: list[str] = []

    @asynccontextmanager
    async def lifespan(_: litestar.Litestar) -> AsyncIterator[None]:
        stages.append("startup")
        yield
        stages.append("shutdown")

    app = litestar_app(lifespan=[lifespan])
    with serve(MarketplaceMiddleware(cast("ASGIApp", app), settings=settings), lifespan="on"):
        assert stages == ["startup"]
    assert stages == ["startup", "shutdown"]


def test_the_lifespan_of_a_quart_host_runs(settings: MarketplaceSettings) -> None:
    stages: list[str] = []
    app = quart_app(settings=settings)

    @app.while_serving
    async def lifespan() -> AsyncGenerator[None, None]:
        stages.append("startup")
        yield
        stages.append("shutdown")

    with serve(cast("ASGIApp", app), lifespan="on"):
        assert stages == ["startup"]
    assert stages == ["startup", "shutdown"]


async def test_the_csrf_protection_of_litestar_stays_inside_of_the_middleware(settings: MarketplaceSettings) -> None:
    app = litestar_app(csrf_config=CSRFConfig(secret="s" * 32))
    wrapped = MarketplaceMiddleware(cast("ASGIApp", app), settings=settings, resolver=FakeResolver())
    async with browser(wrapped) as buyer:
        await sign_up_guarded(buyer)


async def test_middleware_that_litestar_itself_adds_is_not_asked_for_the_landing_url(
    settings: MarketplaceSettings,
) -> None:
    middleware = DefineMiddleware(cast("Any", MarketplaceMiddleware), settings=settings, resolver=FakeResolver())
    async with browser(cast("ASGIApp", litestar_app(middleware=[middleware]))) as buyer:
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 404


async def test_litestar_mounts_a_marketplace_whose_signup_url_names_the_root_path(
    settings: MarketplaceSettings,
) -> None:
    marketplace = Marketplace(replace(settings, signup_url="/api/signup"), resolver=FakeResolver())

    @litestar.asgi("/marketplace", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await marketplace(scope, receive, send)

    @litestar.get("/signup", sync_to_thread=False)
    def signup(request: LitestarRequest) -> dict[str, Any] | None:
        return described(marketplace.get_registration(HTTPConnection(dict(request.scope))))

    app = litestar.Litestar([mounted, signup], logging_config=None)
    async with browser(cast("ASGIApp", app), root_path="/api") as buyer:
        assert (await buyer.get("/api" + LANDING)).status_code == 200
        location = landed(await buyer.post("/api" + LANDING, data=form("good")))
        assert (await buyer.get(location)).json()["customer"]["license_arn"] == CUSTOMER.license_arn


# Servers


@each_host
@each_server
def test_buyers_sign_up_on_each_server_with_the_real_boto3(
    host: Host, server: Server, settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    with server(host(settings=replace(settings, https_only=False))) as url:
        assert sign_up_over_a_socket(url, marketplace.issue_token("new-product")) == "/signup"
    assert len(marketplace.resolve_calls) == 1


@each_host
@each_server
def test_twenty_posts_of_one_token_at_once_ask_aws_once(
    host: Host, server: Server, settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    marketplace.delay = 0.2
    token = marketplace.issue_token("new-product")
    with server(host(settings=settings)) as url, ThreadPoolExecutor(max_workers=20) as tabs:
        answers = list(tabs.map(lambda _: httpx2.post(url + LANDING, data=form(token), timeout=30), range(20)))
    assert {landed(answer) for answer in answers} == {"/signup"}
    assert len(marketplace.resolve_calls) == 1


def test_missing_settings_keep_hypercorn_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MARKETPLACE_SECRET_KEY", raising=False)
    told = pytest.RaisesExc(LifespanFailureError, match="MARKETPLACE_SECRET_KEY is missing")
    with pytest.RaisesGroup(told, flatten_subgroups=True), serve_by_hypercorn(starlette_middleware()):
        pass


# Lifespan off


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@each_host
def test_with_lifespan_off_the_client_is_made_for_the_first_buyer(
    host: Host,
    settings: MarketplaceSettings,
    marketplace: LocalMarketplace,
    no_credentials: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serve(host(settings=replace(settings, https_only=False)), lifespan="off") as url:
        assert httpx2.get(url + "/signup").json() is None
        assert "registrations will fail" not in caplog.text
        # Whoever had looked for credentials before would have found none.
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        assert sign_up_over_a_socket(url, marketplace.issue_token("new-product")) == "/signup"


@pytest.mark.parametrize("host", [fastapi_middleware, starlette_middleware, litestar_host, quart_host])
def test_with_lifespan_off_missing_settings_are_an_error_of_each_request(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MARKETPLACE_SECRET_KEY", raising=False)
    with serve(host(), lifespan="off") as url:
        for path in ("/signup", LANDING, "/signup"):
            assert httpx2.get(url + path).status_code == 500
    # By now the server has logged what it does after it has answered.
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert len(errors) == 3
    for error in errors:
        assert isinstance(error, SettingsError)
        assert "MARKETPLACE_SECRET_KEY is missing" in str(error)


@each_host
def test_with_lifespan_off_an_unknown_profile_is_an_error_of_each_registration(
    host: Host, settings: MarketplaceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(host(settings=replace(settings, profile_name="nobody-has-this-profile")), lifespan="off") as url:
        assert httpx2.get(url + "/signup").json() is None
        for _ in range(2):
            caplog.clear()
            assert httpx2.post(url + LANDING, data=form("good")).status_code == 503
            [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
            assert "Set profile_name to a profile of the AWS configuration files" in record.getMessage()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_error_of_a_hook_inside_of_another_framework_stays_the_error_that_it_is(
    settings: MarketplaceSettings,
) -> None:
    """The handlers of such a framework answer with responses of its own, which we cannot send."""

    def fail(_: object) -> None:
        raise ZeroDivisionError("a bug of the host")

    def handle(_: Any, error: ZeroDivisionError) -> litestar.Response[str]:
        return litestar.Response(str(error), status_code=418)

    app = litestar_app(exception_handlers={ZeroDivisionError: handle})
    inside: Any = MarketplaceMiddleware(
        cast("ASGIApp", app.asgi_handler), settings=settings, resolver=FakeResolver(), on_resolved=fail
    )
    app.asgi_handler = inside
    async with browser(cast("ASGIApp", app)) as buyer:
        with pytest.raises(ZeroDivisionError):
            await buyer.post(LANDING, data=form("good"))
