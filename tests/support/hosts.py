"""The hosts that every answer is tested on: FastAPI and Starlette, with the middleware and with the mounted form."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Unpack

import anyio
import anyio.abc
import anyio.to_thread
import httpx2
from asgi_csrf import asgi_csrf  # type: ignore[import-untyped]  # it comes without types
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from starlette_marketplace import (
    Marketplace,
    MarketplaceMiddleware,
    Registration,
    complete_registration,
    get_registration,
    get_registration_by_id,
)
from starlette_marketplace.middleware import MarketplaceOptions

LANDING = "/marketplace/register"

Host = Callable[..., ASGIApp]


def described(registration: Registration | None) -> dict[str, Any] | None:
    return None if registration is None else {"id": registration.id, **registration.to_dict()}


def fastapi_middleware(**options: Unpack[MarketplaceOptions]) -> ASGIApp:
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware, **options)

    @app.get("/signup")
    async def signup(registration: Annotated[Registration | None, Depends(get_registration)]) -> Any:
        return described(registration)

    @app.post("/signup/{registration_id}")
    async def finish(request: Request, registration_id: str) -> Response:
        registration = get_registration_by_id(request, registration_id)
        response = JSONResponse(described(registration))
        if registration is not None:
            complete_registration(request, response, registration)
        return response

    return app


def fastapi_mount(**options: Unpack[MarketplaceOptions]) -> ASGIApp:
    app = FastAPI()
    marketplace = Marketplace(**options)
    app.mount("/marketplace", marketplace)

    @app.get("/signup")
    async def signup(request: Request) -> Any:
        return described(marketplace.get_registration(request))

    @app.post("/signup/{registration_id}")
    async def finish(request: Request, registration_id: str) -> Response:
        return _finish(marketplace, request, registration_id)

    return app


def starlette_middleware(**options: Unpack[MarketplaceOptions]) -> ASGIApp:
    async def signup(request: Request) -> Response:
        return JSONResponse(described(get_registration(request)))

    async def finish(request: Request) -> Response:
        registration = get_registration_by_id(request, request.path_params["registration_id"])
        response = JSONResponse(described(registration))
        if registration is not None:
            complete_registration(request, response, registration)
        return response

    app = Starlette(
        routes=[Route("/signup", signup), Route("/signup/{registration_id}", finish, methods=["POST"])],
    )
    app.add_middleware(MarketplaceMiddleware, **options)
    return app


def starlette_mount(**options: Unpack[MarketplaceOptions]) -> ASGIApp:
    marketplace = Marketplace(**options)

    async def signup(request: Request) -> Response:
        return JSONResponse(described(marketplace.get_registration(request)))

    async def finish(request: Request) -> Response:
        return _finish(marketplace, request, request.path_params["registration_id"])

    return Starlette(
        routes=[
            Mount("/marketplace", routes=marketplace.routes),
            Route("/signup", signup),
            Route("/signup/{registration_id}", finish, methods=["POST"]),
        ]
    )


def _finish(marketplace: Marketplace, request: Request, registration_id: str) -> Response:
    registration = marketplace.get_registration(request, registration_id)
    response = JSONResponse(described(registration))
    if registration is not None:
        marketplace.complete_registration(response, registration)
    return response


HOSTS: tuple[Host, ...] = (fastapi_middleware, fastapi_mount, starlette_middleware, starlette_mount)


@asynccontextmanager
async def browser(
    app: ASGIApp, *, raise_app_exceptions: bool = True, root_path: str = ""
) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser that keeps cookies and follows no redirect, speaking to the app without a socket between."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=raise_app_exceptions, root_path=root_path)
    async with httpx2.AsyncClient(transport=transport, base_url="https://app.example") as client:
        yield client


async def status_in_the_end(buyer: httpx2.AsyncClient, token: str) -> int:
    """The status once trying again has led to another answer than 503.

    Raises:
        TimeoutError: It never did.
    """
    with anyio.fail_after(60):
        while True:
            status = (await buyer.post(LANDING, data=form(token))).status_code
            if status != 503:
                return status
            await anyio.sleep(0.01)


def form(token: str, **hints: str) -> dict[str, str]:
    fields = {"x-amzn-marketplace-token": token}
    return fields | {f"x-amzn-marketplace-{name.replace('_', '-')}": value for name, value in hints.items()}


def beside(app: ASGIApp, *, outside: Sequence[Middleware] = (), inside: Sequence[Middleware] = ()) -> Starlette:
    """`app` with other middleware around ours. Where ours is not, inside and outside are the same."""
    assert isinstance(app, Starlette)
    app.user_middleware[:] = [*outside, *app.user_middleware, *inside]
    return app


class RewritePath:
    """Gives the app another path than the browser asked for."""

    def __init__(self, app: ASGIApp, *, strip: str = "", add: str = "", root_path: str | None = None) -> None:
        self._app = app
        self._strip = strip
        self._add = add
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith(self._strip):
            await PlainTextResponse("not below the public prefix", status_code=404)(scope, receive, send)
            return
        scope = {**scope, "path": self._add + scope["path"].removeprefix(self._strip)}
        if self._root_path is not None:
            scope["root_path"] = self._root_path
        await self._app(scope, receive, send)


def csrf(**options: Any) -> Middleware:
    return Middleware(asgi_csrf, signing_secret="s" * 32, always_set_cookie=True, **options)


async def read_form(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    await request.form()
    return await call_next(request)


@asynccontextmanager
async def crowd(
    buyer: httpx2.AsyncClient, tokens: list[str]
) -> AsyncIterator[tuple[anyio.abc.TaskGroup, list[httpx2.Response]]]:
    """Post all these tokens, and go on when each has been answered or waits."""
    answers: list[httpx2.Response] = []

    async def post(token: str) -> None:
        answers.append(await buyer.post(LANDING, data=form(token)))

    async with anyio.create_task_group() as tasks:
        for token in tokens:
            tasks.start_soon(post, token)
        await anyio.wait_all_tasks_blocked()
        yield tasks, answers
