import os
import sqlite3
from html import escape
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from members import create_account, log_in, page, refuse_foreign_posts, router, transaction
from starlette.middleware.sessions import SessionMiddleware

from starlette_marketplace import (
    MarketplaceMiddleware,
    MarketplaceSettings,
    Registration,
    complete_registration,
    discard_registration,
    get_registration,
    get_registration_by_id,
)

with transaction() as database:
    database.execute(
        """CREATE TABLE IF NOT EXISTS subscription (
               email TEXT NOT NULL REFERENCES account,
               customer_key TEXT NOT NULL UNIQUE,
               product_code TEXT NOT NULL,
               aws_account_id TEXT NOT NULL
           )"""
    )
settings = MarketplaceSettings.from_env()
app = FastAPI()
app.include_router(router)
app.add_middleware(
    SessionMiddleware,
    secret_key=os.environ["SESSION_SECRET"],
    session_cookie="__Host-session" if settings.https_only else "session",
    https_only=settings.https_only,
)
app.add_middleware(MarketplaceMiddleware, settings=settings)


@app.get("/signup")
def show_signup(registration: Annotated[Registration | None, Depends(get_registration)]) -> HTMLResponse:
    where_from = hidden = ""
    if registration is not None:
        customer = registration.customer
        with transaction() as database:
            known = database.execute("SELECT 1 FROM subscription WHERE customer_key = ?", (customer.key,)).fetchone()
        if known:
            return page('<p>This subscription has an account already: <a href="/">log in</a>.')
        hidden = f'<input type="hidden" name="registration_id" value="{escape(registration.id)}">'
        where_from = f"""<form method="post" action="/decline">{hidden}
          <p>AWS account ending in {customer.aws_account_id[-4:]} <button>Not mine</button>
        </form>"""
    return page(
        f"""{where_from}
        <form method="post">
          {hidden}
          <p><label>E-mail <input name="email" type="email" required></label>
          <p><label>Password <input name="password" type="password" required></label>
          <p><button>Sign up</button>
        </form>"""
    )


@app.post("/signup", dependencies=[Depends(refuse_foreign_posts)])
def sign_up(
    request: Request,
    email: Annotated[str, Form()],
    password: Annotated[str, Form()],
    registration_id: Annotated[str, Form()] = "",
) -> Response:
    registration = get_registration_by_id(request, registration_id)
    if registration_id and registration is None:
        raise HTTPException(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    try:
        with transaction() as database:
            create_account(database, email, password)
            if registration is not None:
                customer = registration.customer
                database.execute(
                    "INSERT INTO subscription (email, customer_key, product_code, aws_account_id) VALUES (?, ?, ?, ?)",
                    (email, customer.key, customer.product_code, customer.aws_account_id),
                )
    except sqlite3.IntegrityError:
        raise HTTPException(409, "There is an account already: log in.") from None
    response = log_in(request, email)
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
