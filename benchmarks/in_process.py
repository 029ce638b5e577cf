"""What a request costs in process: `python -m benchmarks.in_process ROUNDS` prints CPU seconds as JSON.

To be run several times: where a process lays its objects makes a difference of its own, of 1 % or so.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import repeat

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from benchmarks.requests import form, headers_of_answer, requests
from starlette_marketplace import (
    MarketplaceCustomer,
    MarketplaceMiddleware,
    MarketplaceSettings,
    Registration,
    get_registration,
)

LANDING = "/marketplace/register"
# Like the one that has been seen: 184 characters of base64.
TOKEN = "mZk3+9vQ/x7LpW2sT8bN" * 9 + "aB=="
SETTINGS = MarketplaceSettings(secret_key="benchmarks sign with it, nobody else", product_codes="acmeanalytics")
CUSTOMER = MarketplaceCustomer(
    aws_account_id="123456789012",
    product_code="acmeanalytics",
    license_arn="arn:aws:license-manager::111122223333:license:l-0123456789abcdef0123456789abcdef",
    agreement_id="agmt-0123456789abcdefghijklmn",
)

Rivals = dict[str, Callable[[int], Awaitable[object]]]


class Known:
    """Answers without AWS."""

    def resolve(self, token: str) -> MarketplaceCustomer:
        return CUSTOMER


OURS = Middleware(MarketplaceMiddleware, settings=SETTINGS, resolver=Known())
SESSIONS = Middleware(SessionMiddleware, secret_key=SETTINGS.secret_key)


async def home(_: Request) -> Response:
    return PlainTextResponse("ok")


async def read_registration(request: Request) -> Response:
    registration = get_registration(request)
    return PlainTextResponse(registration.customer.aws_account_id if registration else "nobody")


async def read_session(request: Request) -> Response:
    registration = request.session.get("registration")
    return PlainTextResponse(registration["customer"]["aws_account_id"] if registration else "nobody")


async def write_session(request: Request) -> Response:
    async with request.form() as fields:
        token = fields["x-amzn-marketplace-token"]
    # An endpoint with a cache of its own would find the customer by it.
    registration = Registration(customer=CUSTOMER, resolved_at=datetime.now(UTC))
    request.session["registration"] = registration.to_dict() if token else None
    return RedirectResponse("/signup", 303)


class Empty(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


def app(*middleware: Middleware) -> Starlette:
    routes = [
        Route("/", home),
        Route("/registration", read_registration),
        Route("/session", read_session),
        Route(LANDING, write_session, methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=list(middleware))


async def rivals() -> dict[str, Rivals]:
    """The rivals of each figure by name; the first of each is what the others are measured by."""
    bare, ours, sessions = app(), app(OURS), app(SESSIONS)
    # The registration is in the cache from now on.
    headers = await headers_of_answer(ours, LANDING, form(TOKEN))
    cookie = headers["set-cookie"].partition(";")[0]
    headers = await headers_of_answer(sessions, LANDING, form(TOKEN))
    session_cookie = headers["set-cookie"].partition(";")[0]
    return {
        "another request": {
            "bare": requests(bare, "/", answer=b"ok"),
            "ours": requests(ours, "/", answer=b"ok"),
            "SessionMiddleware": requests(sessions, "/", answer=b"ok"),
            "BaseHTTPMiddleware": requests(app(Middleware(Empty)), "/", answer=b"ok"),
        },
        "another request, with a cookie": {
            "bare": requests(bare, "/", cookie=cookie, answer=b"ok"),
            "ours": requests(ours, "/", cookie=cookie, answer=b"ok"),
        },
        "reading": {
            "bare": requests(bare, "/", answer=b"ok"),
            "ours": requests(ours, "/registration", cookie=cookie, answer=CUSTOMER.aws_account_id.encode()),
            "SessionMiddleware": requests(
                sessions, "/session", cookie=session_cookie, answer=CUSTOMER.aws_account_id.encode()
            ),
        },
        "cached registration": {
            "Starlette": requests(sessions, LANDING, bodies=repeat(form(TOKEN))),
            "ours": requests(ours, LANDING, bodies=repeat(form(TOKEN))),
        },
    }


async def main(rounds: int) -> None:
    from benchmarks.rounds import cpu_times

    figures = {name: await cpu_times(each, rounds=rounds, calls=100) for name, each in (await rivals()).items()}
    print(json.dumps(figures))


if __name__ == "__main__":
    # OpenTelemetry is not among what the package needs.
    sys.modules["starlette_marketplace.otel"] = None  # type: ignore[assignment]
    asyncio.run(main(int(sys.argv[1])))
