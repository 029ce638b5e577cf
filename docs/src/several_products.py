import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from html import escape
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from starlette_marketplace import (
    Marketplace,
    MarketplaceSettings,
    Registration,
    refuse_foreign_posts,
)
from starlette_marketplace.hooks import RegistrationResolved

with closing(sqlite3.connect("signups.db")) as database:
    database.execute("CREATE TABLE IF NOT EXISTS account (email TEXT NOT NULL, plan TEXT, customer_key TEXT UNIQUE)")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    for marketplace in marketplaces:
        await marketplace.startup()
    yield
    for marketplace in marketplaces:
        marketplace.shutdown()


app = FastAPI(lifespan=lifespan)


def open_shop(path: str, settings: MarketplaceSettings, pages: dict[str, str]) -> Marketplace:
    """Where the buyers of one seller account land and sign up.

    Args:
        path: Where all of it is.
        settings: Those of this seller account.
        pages: The name of the signup page for each product code.
    """

    def choose_page(event: RegistrationResolved) -> str:
        return f"{path}/signup/{pages[event.registration.customer.product_code]}"

    def is_for(registration: Registration, page: str) -> bool:
        return pages.get(registration.customer.product_code) == page

    marketplace = Marketplace(settings, on_resolved=choose_page)
    app.mount(f"{path}/marketplace", marketplace)

    @app.get(path + "/signup/{page}")
    def show_signup(request: Request, page: str) -> HTMLResponse:
        if page not in pages.values():
            raise HTTPException(404)
        # Not just the newest: a buyer of two products has two registrations, and this page is for one of them.
        found = [each for each in marketplace.get_registrations(request) if is_for(each, page)]
        registration = found[0] if found else None
        told, hidden = "", ""
        if registration is not None:
            told = f"<p>AWS account ending in {registration.customer.aws_account_id[-4:]}</p>"
            hidden = f'<input type="hidden" name="registration_id" value="{escape(registration.id)}">'
        return HTMLResponse(
            f"""<h1>Sign up for {escape(page)}</h1>{told}
            <form method="post">{hidden}<input name="email" type="email" required><button>Sign up</button></form>""",
            headers={"Cache-Control": "no-store"},
        )

    @app.post(path + "/signup/{page}", dependencies=[Depends(refuse_foreign_posts)])
    def sign_up(
        request: Request, page: str, email: Annotated[str, Form()], registration_id: Annotated[str, Form()] = ""
    ) -> Response:
        if page not in pages.values():
            raise HTTPException(404)
        registration = marketplace.get_registration(request, registration_id)
        if registration_id and registration is None:
            raise HTTPException(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
        # Where the hook has sent the buyer proves nothing: anybody may post to any of the pages.
        if registration is not None and not is_for(registration, page):
            raise HTTPException(400, "This AWS Marketplace subscription is for another product.")
        key = registration.customer.key if registration else None
        try:
            with closing(sqlite3.connect("signups.db")) as database, database:
                database.execute("INSERT INTO account VALUES (?, ?, ?)", (email, page, key))
        except sqlite3.IntegrityError:
            raise HTTPException(409, "This AWS Marketplace subscription has an account already: log in.") from None
        response = PlainTextResponse(f"Welcome to {page}, {email}!")
        if registration is not None:
            marketplace.complete_registration(response, registration)
        return response

    return marketplace


def settings_of(prefix: str, pages: dict[str, str], *, session_cookie: str) -> MarketplaceSettings:
    return MarketplaceSettings.from_env(prefix=prefix, product_codes=tuple(pages), session_cookie=session_cookie)


# The product codes are those of the local marketplace: put yours there.
ACME = {"acmeanalytics": "analytics", "acmelegacy": "reports"}
BOREALIS = {"someoneelse": "forecast"}

marketplaces = [
    open_shop("/acme", settings_of("ACME_MARKETPLACE_", ACME, session_cookie="acme"), ACME),
    open_shop("/borealis", settings_of("BOREALIS_MARKETPLACE_", BOREALIS, session_cookie="borealis"), BOREALIS),
]
