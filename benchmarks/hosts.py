"""The hosts that are put under load: ours, and what one writes by hand after the AWS guide.

`python -m benchmarks.hosts NAME DESCRIPTOR` serves one by uvicorn on a listening socket.

By hand, the client is made in the request, as in code that was written for AWS Lambda; with "kept client" it is made
once, which is what a good hand-written endpoint does.
"""

import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import boto3
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from starlette_marketplace import MarketplaceMiddleware

LANDING = "/marketplace/register"
SESSIONS = Middleware(SessionMiddleware, secret_key="benchmarks sign with it, nobody else")


async def ping(_: Request) -> Response:
    """Another route of the host."""
    return PlainTextResponse("ok")


async def cpu(_: Request) -> Response:
    """Seconds of CPU that this process has used."""
    return PlainTextResponse(str(time.process_time()))


ROUTES: list[BaseRoute] = [Route("/ping", ping), Route("/cpu", cpu)]


def ours() -> ASGIApp:
    return Starlette(routes=ROUTES, middleware=[Middleware(MarketplaceMiddleware)])


def new_client() -> Any:
    return boto3.client("meteringmarketplace")


def kept_client() -> Callable[[], Any]:
    client = new_client()
    return lambda: client


def send_on(request: Request, answer: dict[str, Any]) -> Response:
    request.session["customer"] = {
        "account": answer["CustomerAWSAccountId"],
        "product": answer["ProductCode"],
        "license": answer["LicenseArn"],
    }
    return RedirectResponse("/signup", 303)


def threadpool(client: Callable[[], Any]) -> ASGIApp:
    """boto3 in the threads of Starlette."""

    async def register(request: Request) -> Response:
        async with request.form() as form:
            token = form["x-amzn-marketplace-token"]
        return send_on(request, await run_in_threadpool(lambda: client().resolve_customer(RegistrationToken=token)))

    return Starlette(routes=[Route(LANDING, register, methods=["POST"]), *ROUTES], middleware=[SESSIONS])


HOSTS: dict[str, Callable[[], ASGIApp]] = {
    "ours": ours,
    "run_in_threadpool": lambda: threadpool(new_client),
    "run_in_threadpool, kept client": lambda: threadpool(kept_client()),
}

if __name__ == "__main__":
    server = uvicorn.Server(uvicorn.Config(HOSTS[sys.argv[1]](), ws="none", log_level="error", access_log=False))
    server.run([socket.socket(fileno=int(sys.argv[2]))])
