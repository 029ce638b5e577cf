import sqlite3
from contextlib import closing
from html import escape
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from starlette_marketplace import (
    Marketplace,
    MarketplaceMiddleware,
    Registration,
    refuse_foreign_posts,
)

with closing(sqlite3.connect("registration_session.db")) as db:
    db.execute("CREATE TABLE IF NOT EXISTS account (email TEXT NOT NULL, customer_key TEXT UNIQUE)")


app = FastAPI(dependencies=[Depends(refuse_foreign_posts)])
marketplace = Marketplace()  # settings from the environment
app.add_middleware(MarketplaceMiddleware, marketplace=marketplace)


@app.get("/signup")
def list_registrations(request: Request) -> HTMLResponse:
    forms = "".join(map(signup_form, marketplace.get_registrations(request)))  # newest first
    return HTMLResponse(
        f"""<!doctype html><title>Sign up</title>{forms or "<p>No subscription of AWS Marketplace is waiting.</p>"}""",
        headers={"Cache-Control": "no-store"},
    )


def signup_form(registration: Registration) -> str:
    customer = registration.customer
    return f"""<form method="post">
      <p>{escape(customer.product_code)}, AWS account ending in {customer.aws_account_id[-4:]},
        arrived {registration.resolved_at:%H:%M} UTC</p>
      <input type="hidden" name="registration_id" value="{escape(registration.id)}">
      <label>E-mail <input name="email" type="email" required></label><button>Sign up</button>
      <button formaction="/not-mine" formnovalidate>Not mine</button>
    </form>"""


def shown_registration(request: Request, registration_id: Annotated[str, Form()]) -> Registration:
    """The registration that the form was about, whatever else has arrived since."""
    registration = marketplace.get_registration(request, registration_id)
    if registration is None:
        raise HTTPException(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    return registration


ShownRegistration = Annotated[Registration, Depends(shown_registration)]


@app.post("/signup")
def sign_up(registration: ShownRegistration, email: Annotated[str, Form(min_length=1, max_length=254)]) -> Response:
    try:
        with closing(sqlite3.connect("registration_session.db")) as db, db:
            db.execute("INSERT INTO account VALUES (?, ?)", (email, registration.customer.key))
    except sqlite3.IntegrityError:
        raise HTTPException(409, "This AWS Marketplace subscription has an account already: log in.") from None
    response = PlainTextResponse(f"Welcome, {email}!")
    marketplace.complete_registration(response, registration)
    return response


@app.post("/not-mine")
def discard(registration: ShownRegistration) -> Response:
    response = RedirectResponse("/signup", 303)
    marketplace.discard_registration(response, registration)
    return response
