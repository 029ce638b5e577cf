"""A host for several workers, with settings from the environment; `tests/test_workers.py` starts it."""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starlette_marketplace import MarketplaceMiddleware, get_registration


class WorkerMiddleware:
    """Says in a header of each answer which worker it is from."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_worker(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-worker", str(os.getpid()).encode())]
            await send(message)

        await self._app(scope, receive, send_with_worker)


async def signup(request: Request) -> Response:
    registration = get_registration(request)
    return JSONResponse(None if registration is None else registration.customer.key)


app = Starlette(routes=[Route("/signup", signup)])
app.add_middleware(MarketplaceMiddleware)
app.add_middleware(WorkerMiddleware)
