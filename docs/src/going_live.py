import logging
import os
import sqlite3
from contextlib import closing
from html import escape
from ipaddress import IPv6Address, ip_address
from typing import Annotated

from fastapi import Depends, FastAPI, Form, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.datastructures import Address
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from starlette_marketplace import (
    MarketplaceMiddleware,
    MarketplaceSettings,
    Registration,
    complete_registration,
    discard_registration,
    get_registration,
    get_registration_by_id,
    refuse_foreign_posts,
)
from starlette_marketplace.hooks import RegistrationRequested

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")

SUPPORT_URL = "mailto:support@acme.example"  # AWS wants it on the page where buyers arrive
settings = MarketplaceSettings.from_env(product_name="Acme Analytics", support_url=SUPPORT_URL)

DATABASE = os.environ.get("DATABASE", "signups.db")
with closing(sqlite3.connect(DATABASE)) as database:
    database.execute("CREATE TABLE IF NOT EXISTS account (email TEXT NOT NULL, customer_key TEXT UNIQUE)")

limiter = FixedWindowRateLimiter(MemoryStorage())  # of this process; for several, a storage that they share
per_network = parse("20/minute")
for_all = parse("300/minute")  # for a flood from many networks


def network_of(client: Address | None) -> str:
    # Anyone with one IPv6 address has the 2**64 of its /64 network, so these count as one.
    try:
        address = ip_address(client.host if client else "")
    except ValueError:  # a socket of this machine
        return "unknown"
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
    return str(address)


def limit_rate(event: RegistrationRequested) -> Response | None:
    # The buyer's address, and not the proxy's: uvicorn believes X-Forwarded-For from FORWARDED_ALLOW_IPS only.
    # In this order: one network that is over its limit does not use up what there is for all.
    if limiter.hit(per_network, network_of(event.request.client)) and limiter.hit(for_all):
        return None
    return PlainTextResponse("Too many tries. Please wait a minute and try again.", 429, {"Retry-After": "60"})


app = FastAPI(openapi_url=None)
# What is added last stands outermost: a wrong host is refused before AWS is asked.
app.add_middleware(MarketplaceMiddleware, settings=settings, on_request=limit_rate)
app.add_middleware(TrustedHostMiddleware, allowed_hosts=os.environ["ALLOWED_HOSTS"].split(","))


@app.exception_handler(HTTPException)
def show_error(_: Request, exc: HTTPException) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><title>Sorry</title><p>{escape(exc.detail)}</p>', exc.status_code, exc.headers
    )


@app.get("/signup")
def show_signup(registration: Annotated[Registration | None, Depends(get_registration)]) -> HTMLResponse:
    account, hidden = "", ""
    if registration is not None:
        hidden = f'<input type="hidden" name="registration_id" value="{escape(registration.id)}">'
        account = f"""<form method="post" action="/decline">{hidden}
            <p>AWS account ending in {registration.customer.aws_account_id[-4:]} <button>This is not mine</button></p>
            </form>"""
    page = f"""<!doctype html><html lang="en"><title>Sign up</title><h1>Sign up</h1>{account}
        <form method="post">{hidden}
          <label>E-mail <input name="email" type="email" required></label> <button>Sign up</button>
        </form>
        <p>You have an account? <a href="/login">Log in</a>. <a href="{escape(SUPPORT_URL)}">Contact support</a>.</p>"""
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": "frame-ancestors 'none'"}
    return HTMLResponse(page, headers=headers)


@app.post("/signup", dependencies=[Depends(refuse_foreign_posts)])
def sign_up(request: Request, email: Annotated[str, Form()], registration_id: Annotated[str, Form()] = "") -> Response:
    registration = get_registration_by_id(request, registration_id)
    if registration_id and registration is None:
        raise HTTPException(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    key = registration.customer.key if registration else None
    try:
        with closing(sqlite3.connect(DATABASE)) as database, database:
            database.execute("INSERT INTO account VALUES (?, ?)", (email, key))
    except sqlite3.IntegrityError:
        raise HTTPException(409, "This AWS Marketplace subscription has an account already: log in.") from None
    response = PlainTextResponse(f"Welcome, {email}!")
    if registration is not None:
        complete_registration(request, response, registration)
    return response


@app.post("/decline", dependencies=[Depends(refuse_foreign_posts)])
def decline(request: Request, registration_id: Annotated[str, Form()]) -> Response:
    response = RedirectResponse("/signup", 303)
    registration = get_registration_by_id(request, registration_id)
    if registration is not None:
        discard_registration(request, response, registration)
    return response
