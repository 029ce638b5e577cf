import logging
import os
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from ipaddress import IPv6Address, ip_address

import httpx2
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Address
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from starlette_marketplace import (
    ConfigurationError,
    MarketplaceError,
    MarketplaceMiddleware,
    Registration,
    get_registration,
)
from starlette_marketplace.hooks import LandingVisited, RegistrationFailed, RegistrationRequested, RegistrationResolved

DATABASE = os.environ.get("DATABASE", "accounts.db")
CRM_URL = os.environ["CRM_URL"]  # takes a lead as JSON
PAGER_URL = os.environ["PAGER_URL"]  # takes {"text": ...}, and wakes somebody

logger = logging.getLogger(__name__)
limiter = FixedWindowRateLimiter(MemoryStorage())  # of this process; for several, a storage that they share
per_network = parse("20/minute")
per_alert = parse("1/hour")
failures: Counter[str] = Counter()


class TooManyTriesError(MarketplaceError):
    """So many tries from one network that no buyer makes them."""

    code = "TOO_MANY_TRIES"
    status = 429
    title = "Too many tries"
    message = "Please wait a minute and try again. Your subscription is not affected."
    retry_after = 60


def network_of(client: Address | None) -> str:
    # Anyone with one IPv6 address has the 2**64 of its /64 network, so these count as one.
    try:
        address = ip_address(client.host if client else "")
    except ValueError:  # a socket of this machine
        return "unknown"
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
    return str(address)


async def limit_rate(event: RegistrationRequested) -> None:
    # Behind a proxy this is the buyer's address only if the server is told so, as by uvicorn's --forwarded-allow-ips.
    if not limiter.hit(per_network, network_of(event.request.client)):
        raise TooManyTriesError("more than 20 registrations in a minute came from one network")


async def receive_buyer(event: RegistrationResolved) -> Response | str:
    if await run_in_threadpool(has_account, event.registration.customer.key):
        return "/login"  # logs nobody in: a password has to do that
    keeping = BackgroundTask(keep_lead, event.registration)
    signup_path = event.request.url_for("signup").path  # with the root path, which a response has to bring itself
    if prefers_json(event.request):
        return JSONResponse({"success": True, "data": {"redirect_url": signup_path}}, background=keeping)
    return RedirectResponse(signup_path, 303, background=keeping)


def prefers_json(request: Request) -> bool:
    # As the package decides it for what it answers itself.
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    accept = request.headers.get("Accept", "").lower()
    return media_type == "application/json" or ("application/json" in accept and "text/html" not in accept)


def has_account(customer_key: str) -> bool:
    with closing(sqlite3.connect(DATABASE)) as database:
        found = database.execute("SELECT 1 FROM account WHERE customer_key = ?", [customer_key])
        return found.fetchone() is not None


def keep_lead(registration: Registration) -> None:
    post(CRM_URL, {"id": registration.id, **registration.to_dict()})


async def count_failure(event: RegistrationFailed) -> None:
    failures[event.error.code] += 1  # in the event loop, so that no lock is needed
    if isinstance(event.error, ConfigurationError) and limiter.hit(per_alert, event.error.code):
        text = f"Nobody can set up an account: {event.error} (reference {event.reference})"
        event.response.background = BackgroundTask(post, PAGER_URL, {"text": text})


async def lead_back(event: LandingVisited) -> Response | None:
    if get_registration(event.request) is None:
        return None
    return RedirectResponse(event.request.url_for("signup").path, 303, {"Cache-Control": "no-store"})


def post(url: str, content: dict[str, object]) -> None:
    try:
        httpx2.post(url, json=content, timeout=10).raise_for_status()
    except httpx2.HTTPError as exc:
        logger.error("A message did not get through: %s", type(exc).__name__)


async def signup(request: Request) -> Response:
    registration = get_registration(request)
    account = registration.customer.aws_account_id[-4:] if registration else "none"
    return PlainTextResponse(f"Sign up. AWS account ending in: {account}")


async def login(_: Request) -> Response:
    return PlainTextResponse("You have an account already. Log in.")


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS account (email TEXT NOT NULL, customer_key TEXT UNIQUE)")
    yield


app = Starlette(
    routes=[Route("/signup", signup), Route("/login", login)],
    middleware=[
        Middleware(
            MarketplaceMiddleware,
            on_request=limit_rate,
            on_resolved=receive_buyer,
            on_error=count_failure,
            on_visit=lead_back,
        )
    ],
    lifespan=lifespan,
)
