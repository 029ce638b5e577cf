import sqlite3
from contextlib import closing
from html import escape
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from starlette_marketplace import (
    MarketplaceMiddleware,
    Registration,
    complete_registration,
    get_registration,
    get_registration_by_id,
)

app = FastAPI()
app.add_middleware(MarketplaceMiddleware)  # settings from the environment

with closing(sqlite3.connect("signups.db")) as database:
    database.execute("CREATE TABLE IF NOT EXISTS account (email TEXT NOT NULL, customer_key TEXT UNIQUE)")


@app.get("/signup")
def show_signup(registration: Annotated[Registration | None, Depends(get_registration)]) -> HTMLResponse:
    if registration is None:  # normal: this buyer did not come from AWS Marketplace
        return HTMLResponse('<form method="post"><input name="email" type="email"><button>Sign up</button></form>')
    return HTMLResponse(
        f"""<p>AWS account ending in {registration.customer.aws_account_id[-4:]}</p>
        <form method="post">
          <input type="hidden" name="registration_id" value="{escape(registration.id)}">
          <input name="email" type="email"><button>Sign up</button>
        </form>"""
    )


@app.post("/signup")
def sign_up(request: Request, email: Annotated[str, Form()], registration_id: Annotated[str, Form()] = "") -> Response:
    registration = get_registration_by_id(request, registration_id)
    if registration_id and registration is None:
        raise HTTPException(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    try:
        with closing(sqlite3.connect("signups.db")) as database, database:
            database.execute(
                "INSERT INTO account VALUES (?, ?)", (email, registration.customer.key if registration else None)
            )
    except sqlite3.IntegrityError:
        raise HTTPException(409, "This AWS Marketplace subscription has an account already: log in.") from None
    response = PlainTextResponse(f"Welcome, {email}!")
    if registration is not None:
        complete_registration(request, response, registration)
    return response
