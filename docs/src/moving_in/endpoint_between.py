import os
import sqlite3
from html import escape
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from members import LOGIN_FORM, create_account, current_user, log_in, page, refuse_foreign_posts, router, transaction
from starlette.middleware.sessions import SessionMiddleware

from starlette_marketplace import (
    MarketplaceCustomer,
    MarketplaceMiddleware,
    MarketplaceSettings,
    Registration,
    complete_registration,
    discard_registration,
    get_registration,
    get_registration_by_id,
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

# A row from before. With a key it belongs to that one agreement, whatever else it has in common with another.
OLD_ROW = """customer_key IS NULL AND (customer_identifier = :customer_identifier
             OR (product_code = :product_code AND aws_account_id = :aws_account_id))"""


def columns(customer: MarketplaceCustomer) -> dict[str, str | None]:
    return {
        "customer_key": customer.key,
        "customer_identifier": customer.customer_identifier,
        "product_code": customer.product_code,
        "aws_account_id": customer.aws_account_id,
    }


def find(database: sqlite3.Connection, customer: MarketplaceCustomer) -> tuple[bool, list[str]]:
    """Whether the customer has an account, and else who may have had one before there were keys."""
    values = columns(customer)
    by_key = database.execute("SELECT 1 FROM subscription WHERE customer_key = :customer_key", values).fetchone()
    old = database.execute(f"SELECT email FROM subscription WHERE {OLD_ROW}", values).fetchall()
    return by_key is not None, [] if by_key else [row["email"] for row in old]


def signup_form(hidden: str = "") -> str:
    return f"""<form method="post" action="/signup">
      {hidden}
      <p><label>E-mail <input name="email" type="email" required></label>
      <p><label>Password <input name="password" type="password" required></label>
      <p><button>Sign up</button>
    </form>"""


@app.get("/signup")
def show_signup(
    request: Request, registration: Annotated[Registration | None, Depends(get_registration)]
) -> HTMLResponse:
    if registration is None:
        return page(signup_form())
    customer = registration.customer
    with transaction() as database:
        known, old = find(database, customer)
    if known:
        return page('<p>This subscription has an account already: <a href="/">log in</a>.')
    hidden = f'<input type="hidden" name="registration_id" value="{escape(registration.id)}">'
    content = f"""<form method="post" action="/decline">{hidden}
      <p>AWS account ending in {customer.aws_account_id[-4:]} <button>Not mine</button>
    </form>"""
    user = current_user(request)
    if user in old:
        content += f"""<form method="post" action="/link">{hidden}
          <input type="hidden" name="user" value="{escape(user)}">
          <p>Is this the subscription of {escape(user)}? <button>Yes, link it</button>
        </form>"""
    elif old:
        content += f"<p>Your company has an account: log in, and then open <a href='/signup'>this page</a>.{LOGIN_FORM}"
    if old and customer.license_arn is not None:
        content += "<p>Or is this another subscription, which is to have an account of its own?"
    if not old or customer.license_arn is not None:
        content += signup_form(hidden)
    return page(content)


@app.post("/link", dependencies=[Depends(refuse_foreign_posts)])
def link(request: Request, registration_id: Annotated[str, Form()], user: Annotated[str, Form()] = "") -> Response:
    registration = get_registration_by_id(request, registration_id)
    if registration is None or current_user(request) is None:
        raise HTTPException(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    if user != current_user(request):  # another tab has logged in to another account since
        raise HTTPException(409, "You have logged in to another account. Nothing was linked; open the page again.")
    values = columns(registration.customer) | {"email": user}
    try:
        with transaction() as database:
            linked = database.execute(
                f"""UPDATE subscription
                    SET customer_key = :customer_key, product_code = :product_code, aws_account_id = :aws_account_id
                    WHERE rowid = (SELECT rowid FROM subscription WHERE email = :email AND {OLD_ROW} LIMIT 1)""",
                values,
            ).rowcount
    except sqlite3.IntegrityError:
        linked = 0
    if not linked:
        raise HTTPException(409, "This subscription cannot be linked to your account: ask our support.")
    response = page("<p>Linked.")
    complete_registration(request, response, registration)
    return response


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
                _, old = find(database, customer)
                if old and customer.license_arn is None:  # without a licence, an account has one agreement at most
                    raise HTTPException(409, "Your company has an account already: log in.")
                database.execute(
                    """INSERT INTO subscription (email, customer_key, customer_identifier, product_code, aws_account_id)
                       VALUES (:email, :customer_key, :customer_identifier, :product_code, :aws_account_id)""",
                    columns(customer) | {"email": email},
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
