"""What the product has had all along: accounts with a password, and a login by session."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from html import escape
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pwdlib import PasswordHash

from starlette_marketplace import refuse_foreign_posts

password_hash = PasswordHash.recommended()
NOBODYS_HASH = password_hash.hash("nobody")
LOGIN_FORM = """<form method="post" action="/login">
  <p><label>E-mail <input name="email" type="email" autocomplete="email" required></label>
  <p><label>Password <input name="password" type="password" autocomplete="current-password" required></label>
  <p><button>Log in</button>
</form>"""


@contextmanager
def transaction() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect("product.db")) as database, database:
        database.row_factory = sqlite3.Row
        yield database


with transaction() as database:
    database.execute("CREATE TABLE IF NOT EXISTS account (email TEXT PRIMARY KEY, password_hash TEXT NOT NULL)")


def page(content: str) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Acme</title>{content}',
        headers={"Cache-Control": "no-store", "Content-Security-Policy": "frame-ancestors 'none'"},
    )


def current_user(request: Request) -> str | None:
    return request.session.get("user")


def create_account(database: sqlite3.Connection, email: str, password: str) -> None:
    database.execute("INSERT INTO account VALUES (?, ?)", (email, password_hash.hash(password)))


def log_in(request: Request, email: str) -> Response:
    request.session.clear()
    request.session["user"] = email
    return RedirectResponse("/", 303)


router = APIRouter(dependencies=[Depends(refuse_foreign_posts)])


@router.get("/")
def home(request: Request) -> HTMLResponse:
    user = current_user(request)
    return page(f"<p>You are logged in as {escape(user)}." if user else LOGIN_FORM)


@router.post("/login")
def check_password(request: Request, email: Annotated[str, Form()], password: Annotated[str, Form()]) -> Response:
    with transaction() as database:
        account = database.execute("SELECT * FROM account WHERE email = ?", (email,)).fetchone()
    known = password_hash.verify(password, account["password_hash"] if account else NOBODYS_HASH)
    if not account or not known:
        raise HTTPException(403, "The e-mail address or the password is wrong.")
    return log_in(request, email)
