import sqlite3
from contextlib import closing
from dataclasses import dataclass
from html import escape
from typing import Annotated, Any

from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.enums import RequestEncodingType
from litestar.exceptions import HTTPException
from litestar.params import Body
from starlette.requests import HTTPConnection
from starlette.responses import Response as StarletteResponse

from starlette_marketplace import (
    MarketplaceMiddleware,
    complete_registration,
    get_registration,
    get_registration_by_id,
)

with closing(sqlite3.connect("signups.db")) as database:
    database.execute("CREATE TABLE IF NOT EXISTS account (email TEXT NOT NULL, customer_key TEXT UNIQUE)")


@dataclass
class SignupForm:
    email: str
    registration_id: str = ""


@get("/signup", media_type=MediaType.HTML, sync_to_thread=True)
def show_signup(request: Request[Any, Any, Any]) -> str:
    registration = get_registration(HTTPConnection(dict(request.scope)))
    if registration is None:  # normal: this buyer did not come from AWS Marketplace
        return '<form method="post"><input name="email" type="email"><button>Sign up</button></form>'
    return f"""<p>AWS account ending in {registration.customer.aws_account_id[-4:]}</p>
        <form method="post">
          <input type="hidden" name="registration_id" value="{escape(registration.id)}">
          <input name="email" type="email"><button>Sign up</button>
        </form>"""


@post("/signup", media_type=MediaType.TEXT, status_code=200, sync_to_thread=True)
def sign_up(
    request: Request[Any, Any, Any], data: Annotated[SignupForm, Body(media_type=RequestEncodingType.URL_ENCODED)]
) -> Response[str]:
    connection = HTTPConnection(dict(request.scope))
    registration = get_registration_by_id(connection, data.registration_id)
    if data.registration_id and registration is None:
        raise HTTPException(
            status_code=400, detail="This took too long. Choose Set up your account in AWS Marketplace once more."
        )
    try:
        with closing(sqlite3.connect("signups.db")) as database, database:
            database.execute(
                "INSERT INTO account VALUES (?, ?)", (data.email, registration.customer.key if registration else None)
            )
    except sqlite3.IntegrityError:
        raise HTTPException(
            status_code=409, detail="This AWS Marketplace subscription has an account already: log in."
        ) from None
    response = Response(f"Welcome, {data.email}!")
    if registration is not None:
        completed = StarletteResponse()
        complete_registration(connection, completed, registration)
        response.headers["Set-Cookie"] = completed.headers["Set-Cookie"]
    return response


app = MarketplaceMiddleware(Litestar([show_signup, sign_up]))  # settings from the environment
