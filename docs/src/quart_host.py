import sqlite3
from contextlib import closing
from html import escape

from quart import Quart, Response, abort, request
from quart.utils import run_sync
from starlette.requests import HTTPConnection
from starlette.responses import Response as StarletteResponse

from starlette_marketplace import (
    MarketplaceMiddleware,
    complete_registration,
    get_registration,
    get_registration_by_id,
)

app = Quart(__name__)
app.asgi_app = MarketplaceMiddleware(app.asgi_app)  # settings from the environment

with closing(sqlite3.connect("signups.db")) as database:
    database.execute("CREATE TABLE IF NOT EXISTS account (email TEXT NOT NULL, customer_key TEXT UNIQUE)")


def create_account(email: str, customer_key: str | None) -> None:
    with closing(sqlite3.connect("signups.db")) as database, database:
        database.execute("INSERT INTO account VALUES (?, ?)", (email, customer_key))


@app.get("/signup")
async def show_signup() -> str:
    registration = get_registration(HTTPConnection(dict(request.scope)))
    if registration is None:  # normal: this buyer did not come from AWS Marketplace
        return '<form method="post"><input name="email" type="email"><button>Sign up</button></form>'
    return f"""<p>AWS account ending in {registration.customer.aws_account_id[-4:]}</p>
        <form method="post">
          <input type="hidden" name="registration_id" value="{escape(registration.id)}">
          <input name="email" type="email"><button>Sign up</button>
        </form>"""


@app.post("/signup")
async def sign_up() -> Response:
    form = await request.form
    connection = HTTPConnection(dict(request.scope))
    registration_id = form.get("registration_id", "")
    registration = get_registration_by_id(connection, registration_id)
    if registration_id and registration is None:
        abort(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    try:
        await run_sync(create_account)(form["email"], registration.customer.key if registration else None)
    except sqlite3.IntegrityError:
        abort(409, "This AWS Marketplace subscription has an account already: log in.")
    response = Response(f"Welcome, {form['email']}!", content_type="text/plain; charset=utf-8")
    if registration is not None:
        completed = StarletteResponse()
        complete_registration(connection, completed, registration)
        response.headers.add("Set-Cookie", completed.headers["Set-Cookie"])
    return response
