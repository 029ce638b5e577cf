import os
from collections.abc import Iterator
from typing import Annotated

from email_validator import EmailNotValidError, validate_email
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
    discard_registration,
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
    customer_key: Mapped[str] = mapped_column(unique=True)  # this makes a customer sign up once
    aws_account_id: Mapped[str]


class Account(Base):
    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    subscriptions: Mapped[list[Subscription]] = relationship()


engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///product.db"))
Base.metadata.create_all(engine)  # a product that outlives its first table has migrations
sessions = sessionmaker(engine)
password_hash = PasswordHash.recommended()


def open_session() -> Iterator[Session]:
    with sessions() as db:
        yield db


Database = Annotated[Session, Depends(open_session)]
Field = Annotated[str, Form()]

settings = MarketplaceSettings.from_env()
app = FastAPI(dependencies=[Depends(refuse_foreign_posts)])
app.add_middleware(
    SessionMiddleware,
    secret_key=os.environ["SESSION_SECRET"],
    session_cookie="__Host-session" if settings.https_only else "session",
    https_only=settings.https_only,
)
app.add_middleware(MarketplaceMiddleware, settings=settings)

TEMPLATES = {
    "signup": """<!doctype html><html lang="en"><meta charset="utf-8"><title>Sign up</title>
<h1>Sign up</h1>
{% if problem %}<p role="alert">{{ problem }}</p>{% endif %}
{% if registration %}
<p>We link the AWS Marketplace subscription of AWS account ending in
  {{ registration.customer.aws_account_id[-4:] }} to your new account.</p>
<form method="post" action="/decline">
  <input type="hidden" name="registration_id" value="{{ registration.id }}"> <button>Not mine</button>
</form>
{% endif %}
<form method="post" action="/signup">
  <input type="hidden" name="registration_id" value="{{ registration_id }}">
  <p><label>E-mail <input name="email" type="email" value="{{ email }}" autocomplete="email" required></label>
  <p><label>Password <input name="password" type="password" minlength="10" maxlength="200"
    autocomplete="new-password" required></label>
  <p><button>Sign up</button>
</form>""",
    "home": """<!doctype html><html lang="en"><meta charset="utf-8"><title>Acme</title>
<h1>Welcome, {{ account.email }}</h1>
{% for subscription in account.subscriptions %}
<p>AWS account ending in {{ subscription.aws_account_id[-4:] }}</p>
{% endfor %}""",
}
templates = Environment(loader=DictLoader(TEMPLATES), autoescape=True)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
}


def page(name: str, status: int = 200, **values: object) -> Response:
    return HTMLResponse(templates.get_template(name).render(values), status, HEADERS)


def is_linked(db: Session, registration: Registration | None) -> bool:
    if registration is None:
        return False
    return db.scalar(select(Subscription).filter_by(customer_key=registration.customer.key)) is not None


LINKED = "This AWS Marketplace subscription has an account already: log in to it."


@app.get("/signup")
def show_signup(db: Database, registration: Annotated[Registration | None, Depends(get_registration)]) -> Response:
    problem = LINKED if is_linked(db, registration) else None
    registration_id = registration.id if registration is not None else ""
    return page("signup", registration=registration, registration_id=registration_id, problem=problem)


@app.post("/signup")
def sign_up(
    request: Request, db: Database, email: Field = "", password: Field = "", registration_id: Field = ""
) -> Response:
    registration = get_registration_by_id(request, registration_id)  # the one that the page has shown

    def again(status: int, problem: str) -> Response:
        shown = {"registration": registration, "registration_id": registration_id, "email": email, "problem": problem}
        return page("signup", status, **shown)

    if registration_id and registration is None:
        return again(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    try:
        address = validate_email(email.strip(), check_deliverability=False).normalized.lower()
    except EmailNotValidError:
        return again(400, "Enter an e-mail address, like name@company.com.")
    if not 10 <= len(password) <= 200:
        return again(400, "Choose a password of 10 to 200 characters.")

    account = Account(email=address, password_hash=password_hash.hash(password))
    if registration is not None:
        customer = registration.customer
        account.subscriptions = [Subscription(customer_key=customer.key, aws_account_id=customer.aws_account_id)]
    db.add(account)
    try:
        db.commit()
    except IntegrityError:  # which of the two columns it was, each database says in other words
        db.rollback()
        return again(409, LINKED if is_linked(db, registration) else "This e-mail address has an account: log in.")

    request.session.clear()
    request.session["account_id"] = account.id
    response = RedirectResponse("/", 303)
    if registration is not None:
        complete_registration(request, response, registration)
    return response


@app.post("/decline")
def decline(request: Request, registration_id: Field = "") -> Response:
    response = RedirectResponse("/signup", 303)
    registration = get_registration_by_id(request, registration_id)
    if registration is not None:
        discard_registration(request, response, registration)
    return response


@app.get("/")
def home(request: Request, db: Database) -> Response:
    account = db.get(Account, request.session.get("account_id", 0))
    return page("home", account=account) if account is not None else RedirectResponse("/signup", 303)
