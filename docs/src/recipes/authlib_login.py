import os
import secrets
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlencode

from authlib.integrations.starlette_client import OAuth, OAuthError
from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import DictLoader, Environment
from sqlalchemy import ForeignKey, UniqueConstraint, create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, sessionmaker
from starlette.config import Config
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


class Login(Base):
    """A person as a provider knows them."""

    __tablename__ = "login"
    __table_args__ = (UniqueConstraint("provider", "subject"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    provider: Mapped[str]
    subject: Mapped[str]


class Subscription(Base):
    __tablename__ = "subscription"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    customer_key: Mapped[str] = mapped_column(unique=True)  # this makes a customer belong to one account
    aws_account_id: Mapped[str]


class Account(Base):
    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)  # verified by the provider
    logins: Mapped[list[Login]] = relationship()
    subscriptions: Mapped[list[Subscription]] = relationship()


engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///product.db"))
Base.metadata.create_all(engine)  # a product that outlives its first table has migrations
sessions = sessionmaker(engine)

# The addresses can be set in the environment, such as GITHUB_AUTHORIZE_URL, GITHUB_ACCESS_TOKEN_URL and
# GITHUB_API_BASE_URL for GitHub Enterprise Server.
oauth = OAuth(Config())
oauth.register(
    "google",
    overwrite=True,
    server_metadata_url="https://accounts.google.com/.well-known/openid-configuration",
    client_id=os.environ["GOOGLE_CLIENT_ID"],
    client_secret=os.environ["GOOGLE_CLIENT_SECRET"],
    client_kwargs={"scope": "openid email", "code_challenge_method": "S256"},
)
oauth.register(  # OAuth 2 without OpenID Connect: who it is, its API says
    "github",
    overwrite=True,
    authorize_url="https://github.com/login/oauth/authorize",
    access_token_url="https://github.com/login/oauth/access_token",
    api_base_url="https://api.github.com/",
    client_id=os.environ["GITHUB_CLIENT_ID"],
    client_secret=os.environ["GITHUB_CLIENT_SECRET"],
    client_kwargs={"scope": "read:user user:email", "code_challenge_method": "S256"},
)
PROVIDERS = {"google": "Google", "github": "GitHub"}


async def identify_by_google(token: dict) -> tuple[str, str | None]:
    claims = token["userinfo"]  # of the id_token, which Authlib has checked
    return claims["sub"], claims["email"] if claims.get("email_verified") is True else None


async def identify_by_github(token: dict) -> tuple[str, str | None]:
    user = await oauth.github.get("user", token=token)
    emails = await oauth.github.get("user/emails", token=token)
    user.raise_for_status()
    emails.raise_for_status()
    verified = [entry["email"] for entry in emails.json() if entry["primary"] and entry["verified"]]
    return str(user.json()["id"]), verified[0] if verified else None  # the id: the login name can change hands


IDENTIFY = {"google": identify_by_google, "github": identify_by_github}


def open_session() -> Iterator[Session]:
    with sessions() as db:
        yield db


Database = Annotated[Session, Depends(open_session)]


def current_person(request: Request) -> dict[str, str] | None:
    return request.session.get("person")


def current_account(db: Database, person: Annotated[dict[str, str] | None, Depends(current_person)]) -> Account | None:
    return None if person is None else find_account(db, person)


def find_account(db: Session, person: dict[str, str]) -> Account | None:
    mine = Account.logins.any(provider=person["provider"], subject=person["subject"])
    return db.scalar(select(Account).where(mine))  # not by e-mail address


Person = Annotated[dict[str, str] | None, Depends(current_person)]
User = Annotated[Account | None, Depends(current_account)]
Newest = Annotated[Registration | None, Depends(get_registration)]
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
    "base": """<!doctype html><html lang="en"><meta charset="utf-8"><title>Acme</title>
{% if problem %}<p role="alert">{{ problem }}</p>{% endif %}
{% block content %}{% endblock %}
{% if registration %}
<form method="post" action="/decline">
  <input type="hidden" name="registration_id" value="{{ registration.id }}"> <button>Not mine</button>
</form>
{% endif %}
{% if person %}<form method="post" action="/logout"><button>Log out</button></form>{% endif %}""",
    "signup": """{% extends "base" %}{% block content %}
<h1>Sign up or log in</h1>
{% if registration %}
<p>You come from AWS account ending in {{ registration.customer.aws_account_id[-4:] }}.</p>
{% endif %}
{% for provider, name in providers.items() %}
<form method="post" action="/login/{{ provider }}">
  <input type="hidden" name="registration_id" value="{{ registration.id if registration }}">
  <button>Continue with {{ name }}</button>
</form>
{% endfor %}{% endblock %}""",
    "confirm": """{% extends "base" %}{% block content %}
<h1>{{ "Your account" if account else "A new account" }}: {{ (account or person).email }}</h1>
{% if registration %}
<p>It will be paid for by the AWS Marketplace subscription of AWS account ending in
  {{ registration.customer.aws_account_id[-4:] }}. Any page on the web can send you here with a subscription of somebody
  else: go on only if you started this in AWS Marketplace yourself.</p>
{% endif %}
<form method="post" action="/confirm">
  <input type="hidden" name="registration_id" value="{{ registration.id if registration }}">
  <input type="hidden" name="provider" value="{{ person.provider }}">
  <input type="hidden" name="subject" value="{{ person.subject }}">
  <button>{{ "Link it" if account else "Create the account" }}</button> <a href="/">Not now</a>
</form>{% endblock %}""",
    "problem": """{% extends "base" %}{% block content %}<p><a href="/signup">Go on</a></p>{% endblock %}""",
    "home": """{% extends "base" %}{% block content %}
<h1>{{ account.email }}</h1>
{% for subscription in account.subscriptions %}
<p>Linked: AWS account ending in {{ subscription.aws_account_id[-4:] }}</p>
{% endfor %}
{% if registration %}<p><a href="/signup">An AWS account waits to be linked</a></p>{% endif %}{% endblock %}""",
}
templates = Environment(loader=DictLoader(TEMPLATES), autoescape=True)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # or a frame makes people click Link it unknowingly
    "Referrer-Policy": "same-origin",
}
TOO_LONG = "This took too long. Choose Set up your account in AWS Marketplace once more."


def page(name: str, status: int = 200, **values: object) -> Response:
    return HTMLResponse(templates.get_template(name).render(values), status, HEADERS)


def redirect(path: str, **query: str) -> Response:
    return RedirectResponse(path + ("?" + urlencode(query) if query else ""), 303)


@app.get("/signup")
def show_signup(person: Person, account: User, registration: Newest) -> Response:
    if person is None:
        return page("signup", registration=registration, providers=PROVIDERS)
    if account is not None and registration is None:
        return redirect("/")
    return redirect("/confirm", registration_id=registration.id if registration else "")


@app.post("/login/{provider}")
async def log_in(request: Request, provider: str, registration_id: Field = "") -> Response:
    if provider not in PROVIDERS:
        raise HTTPException(404)
    # What this login is for stays here. Only the state, a random number, goes to the provider and comes back.
    state = secrets.token_urlsafe()
    request.session["login"] = {state: registration_id}
    back = request.url_for("callback", provider=provider)
    return await oauth.create_client(provider).authorize_redirect(request, back, state=state)


@app.get("/callback/{provider}")
async def callback(request: Request, provider: str) -> Response:
    if provider not in PROVIDERS:
        raise HTTPException(404)
    try:
        token = await oauth.create_client(provider).authorize_access_token(request)  # checks the state
    except OAuthError:
        return page("problem", 400, problem="This login was given up, or another one was begun after it.")
    subject, email = await IDENTIFY[provider](token)
    if email is None:
        return page("problem", 400, problem=f"{PROVIDERS[provider]} knows no verified e-mail address of yours.")
    registration_id = request.session["login"].get(request.query_params["state"], "")
    request.session.clear()  # nothing from before may survive a login
    request.session["person"] = {"provider": provider, "subject": subject, "email": email.lower()}
    return redirect("/confirm", registration_id=registration_id)


@app.get("/confirm")
def ask(request: Request, db: Database, person: Person, account: User, registration_id: str = "") -> Response:
    if person is None:
        return redirect("/signup")
    registration = get_registration_by_id(request, registration_id)  # the one that this login was for
    if registration_id and registration is None:
        return page("problem", 400, person=person, problem=TOO_LONG)
    if registration is None:
        return redirect("/") if account is not None else page("confirm", person=person)
    subscription = db.scalar(select(Subscription).filter_by(customer_key=registration.customer.key))
    if subscription is None:
        return page("confirm", person=person, account=account, registration=registration)
    if account is None or subscription.account_id != account.id:
        problem = "This subscription has another account: log out, and log in to that one."
        return page("problem", 409, person=person, registration=registration, problem=problem)
    response = redirect("/")
    complete_registration(request, response, registration)
    return response


@app.post("/confirm")
def confirm(
    request: Request,
    db: Database,
    person: Person,
    account: User,
    registration_id: Field = "",
    provider: Field = "",
    subject: Field = "",
) -> Response:
    if person is None:
        return redirect("/signup")
    if (provider, subject) != (person["provider"], person["subject"]):
        problem = "You have logged in as somebody else since. Nothing is linked."
        return page("problem", 409, person=person, problem=problem)
    registration = get_registration_by_id(request, registration_id)  # the one that the page has shown
    if registration_id and registration is None:
        return page("problem", 400, person=person, problem=TOO_LONG)

    # The account, who may log in to it and what pays for it: all in one transaction, or none.
    if account is None:
        login = Login(provider=person["provider"], subject=person["subject"])
        account = Account(email=person["email"], logins=[login])
        db.add(account)
    if registration is not None:
        customer = registration.customer
        account.subscriptions.append(Subscription(customer_key=customer.key, aws_account_id=customer.aws_account_id))
    try:
        db.commit()
    except IntegrityError:  # which of the columns it was, each database says in other words
        db.rollback()
        if find_account(db, person) is None and db.scalar(select(Account).filter_by(email=person["email"])):
            problem = f"{person['email']} has an account: log out, and log in the way you did before."
            return page("problem", 409, person=person, problem=problem)
        return redirect("/confirm", registration_id=registration_id)  # which sees who was first
    response = redirect("/")
    if registration is not None:
        complete_registration(request, response, registration)
    return response


@app.post("/decline")
def decline(request: Request, registration_id: Field = "") -> Response:
    response = redirect("/")
    registration = get_registration_by_id(request, registration_id)
    if registration is not None:
        discard_registration(request, response, registration)
    return response


@app.post("/logout")
def log_out(request: Request) -> Response:
    request.session.clear()
    return redirect("/signup")


@app.get("/")
def home(person: Person, account: User, registration: Newest) -> Response:
    if account is None:
        return redirect("/signup")
    return page("home", person=person, account=account, registration=registration)
