import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp, Receive, Scope, Send

from starlette_marketplace import (
    MarketplaceMiddleware,
    Registration,
    complete_registration,
    discard_registration,
    get_registration,
    get_registration_by_id,
    refuse_foreign_posts,
)

DATABASE = os.environ.get("DATABASE", "pages.db")
with closing(sqlite3.connect(DATABASE)) as database:
    database.execute("CREATE TABLE IF NOT EXISTS account (email TEXT NOT NULL UNIQUE, customer_key TEXT UNIQUE)")


def last_digits(registration: Registration) -> str:
    return f"AWS account ending in {registration.customer.aws_account_id[-4:]}"


def waiting(request: Request) -> dict[str, Any]:
    """Tell every page who has come from AWS Marketplace and has not signed up yet."""
    return {"waiting": get_registration(request)}


# autoescape=True: what Jinja2Templates makes by itself escapes in files that end in .html, .htm and .xml alone.
environment = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)
environment.filters["aws_account"] = last_digits
templates = Jinja2Templates(env=environment, context_processors=[waiting])


def page(request: Request, name: str, status: int = 200, **values: Any) -> Response:
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "same-origin",
    }
    return templates.TemplateResponse(request, name, values, status, headers)


def home(request: Request) -> Response:
    return page(request, "home.html")


def prices(request: Request) -> Response:
    return page(request, "prices.html")


def welcome(request: Request) -> Response:
    return page(request, "welcome.html")


def show_signup(request: Request) -> Response:
    return page(request, "signup.html", registration=get_registration(request))


async def sign_up(request: Request) -> Response:
    async with request.form() as form:
        email, registration_id = str(form.get("email", "")).strip(), str(form.get("registration_id", ""))
    registration = get_registration_by_id(request, registration_id)  # the one that the page has shown
    shown = {"registration": registration, "registration_id": registration_id, "email": email}
    if registration_id and registration is None:
        problem = "This took too long. Choose Set up your account in AWS Marketplace once more."
        return page(request, "signup.html", 400, problem=problem, **shown)
    if "@" not in email:
        return page(request, "signup.html", 400, problem=f"{email} is no e-mail address.", **shown)
    try:
        await run_in_threadpool(add_account, email.lower(), registration)
    except sqlite3.IntegrityError:
        problem = "There is an account with this e-mail address or this subscription already: log in to it."
        return page(request, "signup.html", 409, problem=problem, **shown)
    response = RedirectResponse("/welcome", 303)
    if registration is not None:
        complete_registration(request, response, registration)
    return response


def add_account(email: str, registration: Registration | None) -> None:
    with closing(sqlite3.connect(DATABASE)) as database, database:
        key = registration.customer.key if registration is not None else None
        database.execute("INSERT INTO account VALUES (?, ?)", (email, key))


async def decline(request: Request) -> Response:
    async with request.form() as form:
        registration = get_registration_by_id(request, str(form.get("registration_id", "")))
    response = RedirectResponse("/", 303)
    if registration is not None:
        discard_registration(request, response, registration)
    return response


class SameOriginMiddleware:
    """Refuses the forms of other sites."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "http":
                refuse_foreign_posts(HTTPConnection(scope))
        except HTTPException as exc:
            refusal = PlainTextResponse(exc.detail, exc.status_code)
            return await refusal(scope, receive, send)
        return await self.app(scope, receive, send)


app = Starlette(
    routes=[
        Route("/", home),
        Route("/prices", prices),
        Route("/welcome", welcome),
        Route("/signup", show_signup),
        Route("/signup", sign_up, methods=["POST"]),
        Route("/decline", decline, methods=["POST"]),
    ],
    # The first stands outermost, so that the POST of AWS Marketplace, which is from another site, is not refused.
    middleware=[Middleware(MarketplaceMiddleware), Middleware(SameOriginMiddleware)],
)
