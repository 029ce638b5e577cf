import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Annotated, NamedTuple

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.middleware.sessions import SessionMiddleware

from starlette_marketplace import (
    MarketplaceMiddleware,
    Registration,
    complete_registration,
    get_registration,
    get_registration_by_id,
    refuse_foreign_posts,
)

KEPT_FOR = timedelta(days=1)
PREFIX = "registration:"

with closing(sqlite3.connect("own_session.db")) as db:
    db.execute("CREATE TABLE IF NOT EXISTS account (email TEXT UNIQUE, company TEXT, customer_key TEXT UNIQUE)")


https_only = os.environ.get("SESSION_HTTPS_ONLY", "true") != "false"
app = FastAPI(dependencies=[Depends(refuse_foreign_posts)])
app.add_middleware(
    SessionMiddleware,
    secret_key=os.environ["SESSION_SECRET"],  # not that of the marketplace
    session_cookie="__Host-session" if https_only else "session",
    https_only=https_only,
)
app.add_middleware(MarketplaceMiddleware)  # settings from the environment


class Kept(NamedTuple):
    """What our own session knows of one signup."""

    registration: Registration
    answers: dict[str, str]


def keep(request: Request, registration: Registration, answers: dict[str, str]) -> None:
    # A key of the session itself, not of a dict inside: Starlette writes the session only when it sees a change.
    request.session[PREFIX + registration.id] = {"registration": registration.to_dict(), "answers": answers}


def kept(request: Request, registration_id: str) -> Kept | None:
    entry = request.session.get(PREFIX + registration_id)
    if entry is None:
        return None
    try:
        registration = Registration.from_dict(entry["registration"])
    except ValueError:  # written by a version of the package that says it differently
        return None
    # from_dict does not look at the age, and session_max_age is about the cookie.
    return Kept(registration, entry["answers"]) if datetime.now(UTC) - registration.resolved_at < KEPT_FOR else None


def forget(request: Request, response: Response, registration: Registration) -> None:
    """Forget the copy and the cookie: one that is left would be copied again."""
    request.session.pop(PREFIX + registration.id, None)
    complete_registration(request, response, registration)


def copy_registration(
    request: Request, arrived: Annotated[Registration | None, Depends(get_registration)]
) -> Kept | None:
    """The newest signup of this browser, copied from the cookie if it is there. For GETs of our own pages only."""
    if arrived is not None:
        known = kept(request, arrived.id)
        if known is None or known.registration != arrived:
            keep(request, arrived, known.answers if known else {})
    signups = [kept(request, key.removeprefix(PREFIX)) for key in request.session if key.startswith(PREFIX)]
    return max(filter(None, signups), key=lambda signup: signup.registration.resolved_at, default=None)


def shown_signup(request: Request, registration_id: Annotated[str, Form()]) -> Kept:
    """The signup that the form was about."""
    signup = kept(request, registration_id)
    if signup is None:
        raise HTTPException(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    return signup


Text = Annotated[str, Form(min_length=1, max_length=254)]


@app.get("/")
def home(request: Request) -> HTMLResponse:
    return page(f"<p>Logged in as {escape(request.session.get('email', 'nobody'))}</p>")


@app.get("/signup")
def first_page(signup: Annotated[Kept | None, Depends(copy_registration)]) -> HTMLResponse:
    if signup is None:
        return page("<p>To begin, choose <b>Set up your account</b> in AWS Marketplace.</p>")
    company = escape(signup.answers.get("company", ""))
    return page(
        f"""<form method="post" action="/signup/company">
          {about(signup)}
          <label>Company <input name="company" value="{company}" required></label><button>Next</button>
          <button formaction="/decline" formnovalidate>Not mine</button>
        </form>"""
    )


@app.post("/signup/company")
def second_page(request: Request, signup: Annotated[Kept, Depends(shown_signup)], company: Text) -> HTMLResponse:
    keep(request, signup.registration, {"company": company})
    return page(
        f"""<form method="post" action="/signup/finish">
          {about(signup)}
          <label>E-mail <input name="email" type="email" required></label><button>Create account</button>
        </form>"""
    )


@app.post("/signup/finish")
def finish(request: Request, signup: Annotated[Kept, Depends(shown_signup)], email: Text) -> Response:
    registration, answers = signup
    if "company" not in answers:
        return RedirectResponse("/signup", 303)
    try:
        with closing(sqlite3.connect("own_session.db")) as db, db:
            db.execute("INSERT INTO account VALUES (?, ?, ?)", (email, answers["company"], registration.customer.key))
    except sqlite3.IntegrityError:
        raise HTTPException(409, "This e-mail address or this subscription has an account: log in.") from None
    response = RedirectResponse("/", 303)
    forget(request, response, registration)
    # Nothing that was in the session before may survive a login (session fixation).
    request.session.clear()
    request.session["email"] = email
    return response


@app.post("/decline")
def decline(request: Request, registration_id: Annotated[str, Form()]) -> Response:
    """Any page of the web can send a visitor here with a subscription of somebody else."""
    response = RedirectResponse("/signup", 303)
    signup = kept(request, registration_id)
    registration = signup.registration if signup else get_registration_by_id(request, registration_id)
    if registration is not None:
        forget(request, response, registration)
    return response


def about(signup: Kept) -> str:
    registration = signup.registration
    return f"""<p>AWS account ending in {registration.customer.aws_account_id[-4:]}</p>
          <input type="hidden" name="registration_id" value="{escape(registration.id)}">"""


def page(body: str) -> HTMLResponse:
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "frame-ancestors 'none'",
    }
    return HTMLResponse(f"<!doctype html><title>Sign up</title>{body}", headers=headers)
