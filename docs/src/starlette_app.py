import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from html import escape
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.config import Config, environ
from starlette.datastructures import CommaSeparatedStrings
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from starlette_marketplace import (
    Marketplace,
    MarketplaceSettings,
    refuse_foreign_posts,
)

config = Config(".env" if Path(".env").is_file() else None)
DATABASE = config("DATABASE", default="signups.db")
ALLOWED_HOSTS = config("ALLOWED_HOSTS", cast=CommaSeparatedStrings, default="127.0.0.1,localhost")

# All MARKETPLACE_ variables: those of the environment, then those of the file.
marketplace = Marketplace(MarketplaceSettings.from_env({**config.file_values, **environ}))


def execute(statement: str, *values: str | None) -> None:
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute(statement, values)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    execute("CREATE TABLE IF NOT EXISTS account (email TEXT NOT NULL, customer_key TEXT UNIQUE)")
    await marketplace.startup()
    try:
        yield
    finally:
        marketplace.shutdown()


def page(body: str, status_code: int = 200) -> Response:
    html = f'<!doctype html><html lang="en"><title>Acme</title>{body}</html>'
    return HTMLResponse(html, status_code, {"Cache-Control": "no-store"})


async def show_error(_: Request, exc: HTTPException) -> Response:
    return page(f"<h1>Sorry</h1><p>{escape(exc.detail)}</p>", exc.status_code)


async def show_signup(request: Request) -> Response:
    registrations = marketplace.get_registrations(request)  # newest first; each tab may have brought one
    if not registrations:
        return page('<form method="post"><input name="email" type="email"><button>Sign up</button></form>')
    return page(
        "".join(
            f"""<h1>AWS account ending in {registration.customer.aws_account_id[-4:]}</h1>
            <p>Product {escape(registration.customer.product_code)}</p>
            <form method="post">
              <input type="hidden" name="registration_id" value="{escape(registration.id)}">
              <input name="email" type="email" required><button>Sign up</button>
            </form>"""
            for registration in registrations
        )
    )


async def sign_up(request: Request) -> Response:
    refuse_foreign_posts(request)
    async with request.form() as form:
        registration_id, email = str(form.get("registration_id", "")), str(form.get("email", "")).strip()
    registration = marketplace.get_registration(request, registration_id)
    if registration_id and registration is None:
        raise HTTPException(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    if not email:
        raise HTTPException(400, "Please go back and enter your e-mail address.")
    customer_key = registration.customer.key if registration else None
    try:
        await run_in_threadpool(execute, "INSERT INTO account VALUES (?, ?)", email, customer_key)
    except sqlite3.IntegrityError:
        raise HTTPException(409, "This AWS Marketplace subscription has an account already: log in.") from None
    response = RedirectResponse(request.url_for("welcome"), 303)
    if registration is not None:
        marketplace.complete_registration(response, registration)
    return response


async def welcome(_: Request) -> Response:
    return page("<h1>Welcome!</h1>")


app = Starlette(
    routes=[
        Mount("/marketplace", routes=marketplace.routes),
        Route("/signup", show_signup),
        Route("/signup", sign_up, methods=["POST"]),
        Route("/welcome", welcome),
    ],
    middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(ALLOWED_HOSTS))],
    exception_handlers={HTTPException: show_error},
    lifespan=lifespan,
)
