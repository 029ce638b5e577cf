import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from html import escape
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from starlette_marketplace import (
    MarketplaceMiddleware,
    MarketplaceSettings,
    Registration,
    complete_registration,
    discard_registration,
    get_registration,
    get_registration_by_id,
    refuse_foreign_posts,
)

ANSWERS_OLD_LINKS = os.environ.get("ANSWERS_OLD_LINKS") == "true"  # for the day on which you move in
PRIVATE = {"Cache-Control": "no-store", "Content-Security-Policy": "frame-ancestors 'none'"}
settings = MarketplaceSettings.from_env()
app = FastAPI()
app.add_middleware(MarketplaceMiddleware, settings=settings)


@contextmanager
def transaction() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect("signups.db")) as database, database:
        yield database


with transaction() as database:
    database.execute("CREATE TABLE IF NOT EXISTS account (email TEXT NOT NULL, customer_key TEXT UNIQUE)")


def below_root(request: Request, path: str) -> str:
    root_path: str = request.scope.get("root_path", "")
    return root_path.rstrip("/") + path


def page(request: Request, content: str) -> HTMLResponse:
    return HTMLResponse(
        f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Acme</title>
        <link rel="stylesheet" href="{escape(below_root(request, "/acme.css"))}">{content}""",
        headers=PRIVATE,
    )


@app.get("/acme.css")
def style() -> Response:
    return Response("body { font-family: sans-serif }", media_type="text/css")


@app.get("/signup")
def show_signup(
    request: Request,
    registration: Annotated[Registration | None, Depends(get_registration)],
    old_token: Annotated[str, Query(alias="x-amzn-marketplace-token")] = "",
    old_jwt: Annotated[str, Query(alias="token")] = "",
) -> Response:
    if old_token and ANSWERS_OLD_LINKS:
        # No style sheet and no link: nothing here may send this address on.
        return HTMLResponse(
            f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Acme</title>
            <form method="post" action="{escape(below_root(request, settings.registration_path))}">
              <input type="hidden" name="x-amzn-marketplace-token" value="{escape(old_token)}">
              <p>You come from AWS Marketplace. <button>Go on</button>
            </form>""",
            headers=PRIVATE | {"Referrer-Policy": "no-referrer"},
        )
    if old_token or old_jwt:
        return RedirectResponse(below_root(request, "/signup/old-link"), 303, {"Cache-Control": "no-store"})
    where_from = hidden = ""
    if registration is not None:
        hidden = f'<input type="hidden" name="registration_id" value="{escape(registration.id)}">'
        where_from = f"""<form method="post" action="{escape(below_root(request, "/decline"))}">
          {hidden}
          <p>AWS account ending in {registration.customer.aws_account_id[-4:]} <button>Not mine</button>
        </form>"""
    return page(
        request,
        f"""{where_from}
        <form method="post">
          {hidden}
          <p><label>E-mail <input name="email" type="email" required></label>
          <p><button>Sign up</button>
        </form>""",
    )


@app.get("/signup/old-link")
def explain_old_link(request: Request) -> Response:
    return page(
        request,
        """<h1>This link is too old</h1>
        <p>Your subscription is not affected. In AWS Marketplace, open Manage subscriptions and choose Set up your
        account once more: that gives you a new link.""",
    )


@app.post("/signup", dependencies=[Depends(refuse_foreign_posts)])
def sign_up(request: Request, email: Annotated[str, Form()], registration_id: Annotated[str, Form()] = "") -> Response:
    registration = get_registration_by_id(request, registration_id)
    if registration_id and registration is None:
        raise HTTPException(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    try:
        with transaction() as database:
            database.execute(
                "INSERT INTO account VALUES (?, ?)", (email, registration.customer.key if registration else None)
            )
    except sqlite3.IntegrityError:
        raise HTTPException(409, "This AWS Marketplace subscription has an account already: log in.") from None
    response = PlainTextResponse(f"Welcome, {email}!")
    if registration is not None:
        complete_registration(request, response, registration)
    return response


@app.post("/decline", dependencies=[Depends(refuse_foreign_posts)])
def decline(request: Request, registration_id: Annotated[str, Form()]) -> Response:
    response = RedirectResponse(below_root(request, "/signup"), 303)
    registration = get_registration_by_id(request, registration_id)
    if registration is not None:
        discard_registration(request, response, registration)
    return response
