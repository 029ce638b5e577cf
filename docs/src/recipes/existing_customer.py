import os
import sys
from collections.abc import Iterator
from getpass import getpass
from typing import Annotated

from fastapi import Depends, FastAPI, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import DictLoader, Environment
from pwdlib import PasswordHash
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, sessionmaker
from starlette.middleware.sessions import SessionMiddleware

from starlette_marketplace import (
    MarketplaceMiddleware,
    MarketplaceSettings,
    Registration,
    complete_registration,
    get_registration,
    get_registration_by_id,
    refuse_foreign_posts,
)


class Base(DeclarativeBase):
    pass


class Subscription(Base):
    __tablename__ = "subscription"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    customer_key: Mapped[str] = mapped_column(unique=True)  # this makes a customer belong to one account
    aws_account_id: Mapped[str]


class Account(Base):
    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    subscriptions: Mapped[list[Subscription]] = relationship()


engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///product.db"))
Base.metadata.create_all(engine)
sessions = sessionmaker(engine)
password_hash = PasswordHash.recommended()
NOBODYS_HASH = password_hash.hash("nobody")


def open_session() -> Iterator[Session]:
    with sessions() as db:
        yield db


Database = Annotated[Session, Depends(open_session)]


def current_account(request: Request, db: Database) -> Account | None:
    return db.get(Account, request.session.get("account_id", 0))


User = Annotated[Account | None, Depends(current_account)]
Newest = Annotated[Registration | None, Depends(get_registration)]
Field = Annotated[str, Form()]

settings = MarketplaceSettings.from_env(signup_url="/link")
app = FastAPI(dependencies=[Depends(refuse_foreign_posts)])
app.add_middleware(
    SessionMiddleware,
    secret_key=os.environ["SESSION_SECRET"],
    session_cookie="__Host-session" if settings.https_only else "session",
    https_only=settings.https_only,
)
app.add_middleware(MarketplaceMiddleware, settings=settings)

TEMPLATES = {
    "base": """<!doctype html><html lang="en"><meta charset="utf-8"><title>Acme</title>
{% if problem %}<p role="alert">{{ problem }}</p>{% endif %}
{% block content %}{% endblock %}
{% if registration %}
<form method="post" action="/decline">
  <input type="hidden" name="registration_id" value="{{ registration.id }}"> <button>Not mine</button>
</form>
{% endif %}
{% if account %}<form method="post" action="/logout"><button>Log out</button></form>{% endif %}""",
    "login": """{% extends "base" %}{% block content %}
<h1>Log in</h1>
{% if subscription %}
<p>The subscription of AWS account ending in {{ subscription.aws_account_id[-4:] }} has an account: log in to it.</p>
{% elif registration %}
<p>You come from AWS account ending in {{ registration.customer.aws_account_id[-4:] }}. Once you have logged in, we ask
  whether to link it to your account.</p>
{% endif %}
<form method="post" action="/login">
  <p><label>E-mail <input name="email" type="email" value="{{ email }}" autocomplete="email" required></label>
  <p><label>Password <input name="password" type="password" autocomplete="current-password" required></label>
  <p><button>Log in</button>
</form>{% endblock %}""",
    "link": """{% extends "base" %}{% block content %}
{% set aws_account = "AWS account ending in " ~ registration.customer.aws_account_id[-4:] %}
{% if subscription %}
<h1>This subscription has another account</h1>
<p>The subscription of {{ aws_account }} is linked to another account than {{ account.email }}. Log out, and log in to
  that one.</p>
{% else %}
<p>You are logged in as <strong>{{ account.email }}</strong>. Not you? Log out before you link anything.</p>
<h1>Link {{ aws_account }} to {{ account.email }}?</h1>
<p>Any page on the web can send you here with a subscription of somebody else: go on only if you started this in AWS
  Marketplace yourself.</p>
<form method="post" action="/link">
  <input type="hidden" name="registration_id" value="{{ registration.id }}">
  <input type="hidden" name="account_id" value="{{ account.id }}">
  <button>Link it</button> <a href="/">Not now</a>
</form>
{% endif %}{% endblock %}""",
    "home": """{% extends "base" %}{% block content %}
<h1>{{ account.email }}</h1>
{% for subscription in account.subscriptions %}
<p>Linked: AWS account ending in {{ subscription.aws_account_id[-4:] }}</p>
{% endfor %}
{% if registration %}
<p><a href="/link">AWS account ending in {{ registration.customer.aws_account_id[-4:] }} waits to be linked</a></p>
{% endif %}{% endblock %}""",
}
templates = Environment(loader=DictLoader(TEMPLATES), autoescape=True)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # or a frame makes people click Link it unknowingly
    "Referrer-Policy": "same-origin",
}


def page(name: str, status: int = 200, **values: object) -> Response:
    return HTMLResponse(templates.get_template(name).render(values), status, HEADERS)


def redirect(url: str) -> Response:
    return RedirectResponse(url, 303)


def finish(request: Request, registration: Registration | None) -> Response:
    response = redirect("/")
    if registration is not None:
        complete_registration(request, response, registration)
    return response


def find_subscription(db: Session, registration: Registration | None) -> Subscription | None:
    if registration is None:
        return None
    return db.scalar(select(Subscription).filter_by(customer_key=registration.customer.key))


@app.get("/link")
def ask(request: Request, db: Database, account: User, registration: Newest) -> Response:
    if account is None:
        return redirect("/login")
    if registration is None:
        return redirect("/")
    subscription = find_subscription(db, registration)
    if subscription is not None and subscription.account_id == account.id:
        return finish(request, registration)
    return page("link", account=account, registration=registration, subscription=subscription)


@app.post("/link")
def link(
    request: Request, db: Database, account: User, registration_id: Field = "", account_id: Field = ""
) -> Response:
    if account is None:
        return redirect("/login")
    registration = get_registration_by_id(request, registration_id)  # the one that the page has shown
    if registration is None:
        problem = "This took too long. Choose Set up your account in AWS Marketplace once more."
        return page("home", 400, account=account, problem=problem)
    if account_id != str(account.id):
        problem = "You have logged in to another account since. Nothing is linked; please look again."
        return page("link", 409, account=account, registration=registration, problem=problem)
    customer = registration.customer
    account.subscriptions.append(Subscription(customer_key=customer.key, aws_account_id=customer.aws_account_id))
    try:
        db.commit()
    except IntegrityError:  # linked in the meantime, by another person or in another tab
        db.rollback()
        subscription = find_subscription(db, registration)
        if subscription is None or subscription.account_id != account.id:
            return page("link", 409, account=account, registration=registration, subscription=subscription)
    return finish(request, registration)


@app.post("/decline")
def decline(request: Request, registration_id: Field = "") -> Response:
    return finish(request, get_registration_by_id(request, registration_id))


@app.get("/login")
def show_login(db: Database, account: User, registration: Newest) -> Response:
    if account is not None:
        return redirect("/link")
    return page("login", registration=registration, subscription=find_subscription(db, registration))


@app.post("/login")
def log_in(request: Request, db: Database, registration: Newest, email: Field = "", password: Field = "") -> Response:
    account = db.scalar(select(Account).filter_by(email=email.strip().lower()))
    # Also for an unknown address: the time of the answer does not tell who has an account.
    right = password_hash.verify(password, account.password_hash if account else NOBODYS_HASH)
    if account is None or not right:
        subscription = find_subscription(db, registration)
        problem = "The e-mail address or the password is wrong."
        return page("login", 400, registration=registration, subscription=subscription, email=email, problem=problem)
    request.session.clear()
    request.session["account_id"] = account.id
    return redirect("/link")


@app.post("/logout")
def log_out(request: Request) -> Response:
    request.session.clear()
    return redirect("/login")


@app.get("/")
def home(db: Database, account: User, registration: Newest) -> Response:
    if account is None:
        return redirect("/login")
    waiting = registration if find_subscription(db, registration) is None else None
    return page("home", account=account, registration=waiting)


if __name__ == "__main__":  # python existing_customer.py ann@example.com
    with sessions.begin() as db:
        db.add(Account(email=sys.argv[1].lower(), password_hash=password_hash.hash(getpass())))
