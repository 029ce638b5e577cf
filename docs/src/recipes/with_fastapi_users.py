import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.security import OAuth2PasswordRequestForm
from fastapi_users import BaseUserManager, FastAPIUsers, InvalidPasswordException, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, CookieTransport
from fastapi_users.authentication.strategy.db import DatabaseStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users.exceptions import UserAlreadyExists
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase, SQLAlchemyBaseAccessTokenTableUUID
from jinja2 import DictLoader, Environment
from pydantic import ValidationError
from sqlalchemy import ForeignKey, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

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
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    customer_key: Mapped[str] = mapped_column(unique=True)  # this makes a customer belong to one user
    aws_account_id: Mapped[str]


class User(SQLAlchemyBaseUserTableUUID, Base):
    subscriptions: Mapped[list[Subscription]] = relationship(lazy="selectin")


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    pass


settings = MarketplaceSettings.from_env()
engine = create_async_engine(os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///product.db"))
sessions = async_sessionmaker(engine, expire_on_commit=False)


async def open_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as db:
        yield db


Database = Annotated[AsyncSession, Depends(open_session)]


class UserDatabase(SQLAlchemyUserDatabase[User, uuid.UUID]):
    """Creates a user and the subscription that pays for it in one transaction."""

    registration: Registration | None = None

    async def create(self, create_dict: dict[str, Any]) -> User:
        if self.registration is not None:
            create_dict["subscriptions"] = [subscription_of(self.registration)]
        return await super().create(create_dict)


def open_users(db: Database) -> UserDatabase:
    return UserDatabase(db, User)


Users = Annotated[UserDatabase, Depends(open_users)]


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    async def validate_password(self, password: str, user: schemas.BaseUserCreate | User) -> None:
        if not 10 <= len(password) <= 200:
            raise InvalidPasswordException("Choose a password of 10 to 200 characters.")

    async def on_after_register(self, user: User, request: Request | None = None) -> None:
        """The place for a mail to verify the address. For linking it is too late: the user has been committed."""


def open_manager(users: Users) -> UserManager:
    return UserManager(users)


def open_strategy(db: Database) -> DatabaseStrategy[User, uuid.UUID, AccessToken]:
    return DatabaseStrategy(SQLAlchemyAccessTokenDatabase(db, AccessToken), lifetime_seconds=14 * 24 * 3600)


transport = CookieTransport(
    cookie_name="__Host-session" if settings.https_only else "session",
    cookie_secure=settings.https_only,
    cookie_samesite="lax",
)
backend = AuthenticationBackend("cookie", transport, open_strategy)
authenticator = FastAPIUsers[User, uuid.UUID](open_manager, [backend]).authenticator


Manager = Annotated[UserManager, Depends(open_manager)]
Strategy = Annotated[DatabaseStrategy[User, uuid.UUID, AccessToken], Depends(open_strategy)]
CurrentUser = Annotated[User | None, Depends(authenticator.current_user(optional=True, active=True))]
LoggedIn = Annotated[tuple[User | None, str | None], Depends(authenticator.current_user_token(optional=True))]
Newest = Annotated[Registration | None, Depends(get_registration)]
Field = Annotated[str, Form()]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)  # a product that outlives its first table has migrations
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan, dependencies=[Depends(refuse_foreign_posts)])
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
{% if user %}<form method="post" action="/logout"><button>Log out</button></form>{% endif %}""",
    "signup": """{% extends "base" %}{% block content %}
<h1>Sign up</h1>
{% if registration %}
<p>We link the subscription of AWS account ending in {{ registration.customer.aws_account_id[-4:] }} to your new
  account.</p>
{% endif %}
<form method="post" action="/signup">
  <input type="hidden" name="registration_id" value="{{ registration_id or '' }}">
  <p><label>E-mail <input name="email" type="email" value="{{ email }}" autocomplete="email" required></label>
  <p><label>Password <input name="password" type="password" minlength="10" maxlength="200"
    autocomplete="new-password" required></label>
  <p><button>Sign up</button>
</form>
<p><a href="/login">I have an account</a></p>{% endblock %}""",
    "login": """{% extends "base" %}{% block content %}
<h1>Log in</h1>
{% if registration %}
<p>You come from AWS account ending in {{ registration.customer.aws_account_id[-4:] }}. Once you have logged in, we ask
  whether to link it to your account.</p>
{% endif %}
<form method="post" action="/login">
  <p><label>E-mail <input name="username" type="email" autocomplete="email" required></label>
  <p><label>Password <input name="password" type="password" autocomplete="current-password" required></label>
  <p><button>Log in</button>
</form>{% endblock %}""",
    "link": """{% extends "base" %}{% block content %}
{% set aws_account = "AWS account ending in " ~ registration.customer.aws_account_id[-4:] %}
{% if taken %}
<h1>This subscription has another account</h1>
<p>The subscription of {{ aws_account }} is linked to another account than {{ user.email }}. Log out, and log in to that
  one.</p>
{% else %}
<h1>Link {{ aws_account }} to {{ user.email }}?</h1>
<p>It will pay for your account. Any page on the web can send you here with a subscription of somebody else: go on only
  if you started this in AWS Marketplace yourself.</p>
<form method="post" action="/link">
  <input type="hidden" name="registration_id" value="{{ registration.id }}">
  <input type="hidden" name="user_id" value="{{ user.id }}">
  <button>Link it</button> <a href="/">Not now</a>
</form>
{% endif %}{% endblock %}""",
    "home": """{% extends "base" %}{% block content %}
<h1>{{ user.email }}</h1>
{% for subscription in user.subscriptions %}
<p>Linked: AWS account ending in {{ subscription.aws_account_id[-4:] }}</p>
{% endfor %}
{% if registration %}<p><a href="/link">An AWS account waits to be linked</a></p>{% endif %}{% endblock %}""",
}
templates = Environment(loader=DictLoader(TEMPLATES), autoescape=True)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # or a frame makes people click Link it unknowingly
    "Referrer-Policy": "same-origin",
}
TOO_LONG = "This took too long. Choose Set up your account in AWS Marketplace once more."
LINKED = "This AWS Marketplace subscription has an account already: log in to it."
TAKEN = "This e-mail address has an account: log in."


def page(name: str, status: int = 200, **values: object) -> Response:
    return HTMLResponse(templates.get_template(name).render(values), status, HEADERS)


def redirect(path: str, response: Response | None = None) -> Response:
    if response is None:
        return RedirectResponse(path, 303)
    # fastapi-users answers 204, as scripts like it. A form wants to be led on.
    response.status_code, response.headers["Location"] = 303, path
    return response


def subscription_of(registration: Registration) -> Subscription:
    customer = registration.customer
    return Subscription(customer_key=customer.key, aws_account_id=customer.aws_account_id)


async def find_subscription(db: AsyncSession, registration: Registration | None) -> Subscription | None:
    if registration is None:
        return None
    return await db.scalar(select(Subscription).filter_by(customer_key=registration.customer.key))


@app.get("/signup")
async def show_signup(db: Database, user: CurrentUser, registration: Newest) -> Response:
    if user is not None:
        return redirect("/link")
    problem = LINKED if await find_subscription(db, registration) is not None else None
    return page("signup", registration=registration, registration_id=registration and registration.id, problem=problem)


@app.post("/signup")
async def sign_up(
    request: Request,
    db: Database,
    users: Users,
    manager: Manager,
    strategy: Strategy,
    email: Field = "",
    password: Field = "",
    registration_id: Field = "",
) -> Response:
    registration = get_registration_by_id(request, registration_id)  # the one that the page has shown

    def again(status: int, problem: str) -> Response:
        shown = {"registration": registration, "registration_id": registration_id, "email": email, "problem": problem}
        return page("signup", status, **shown)

    if registration_id and registration is None:
        return again(400, TOO_LONG)
    users.registration = registration
    try:
        new = schemas.BaseUserCreate(email=email.strip().lower(), password=password)
        user = await manager.create(new, safe=True, request=request)
    except ValidationError:
        return again(400, "Enter an e-mail address, like name@company.com.")
    except InvalidPasswordException as error:
        return again(400, str(error.reason))
    except UserAlreadyExists:
        return again(409, TAKEN)
    except IntegrityError:  # which of the two columns it was, each database says in other words
        await db.rollback()
        return again(409, TAKEN if await find_subscription(db, registration) is None else LINKED)
    response = redirect("/", await backend.login(strategy, user))
    if registration is not None:
        complete_registration(request, response, registration)
    return response


@app.get("/login")
def show_login(user: CurrentUser, registration: Newest) -> Response:
    return page("login", registration=registration) if user is None else redirect("/link")


@app.post("/login")
async def log_in(
    manager: Manager,
    strategy: Strategy,
    registration: Newest,
    credentials: Annotated[OAuth2PasswordRequestForm, Depends()],
) -> Response:
    user = await manager.authenticate(credentials)
    if user is None or not user.is_active:
        problem = "The e-mail address or the password is wrong."
        return page("login", 400, registration=registration, problem=problem)
    return redirect("/link", await backend.login(strategy, user))


@app.post("/logout")
async def log_out(strategy: Strategy, logged_in: LoggedIn) -> Response:
    user, token = logged_in
    if user is None or token is None:
        return redirect("/login")
    return redirect("/login", await backend.logout(strategy, user, token))


@app.get("/link")
async def ask(request: Request, db: Database, user: CurrentUser, registration: Newest) -> Response:
    if user is None:
        return redirect("/login")
    if registration is None:
        return redirect("/")
    subscription = await find_subscription(db, registration)
    if subscription is not None and subscription.user_id == user.id:
        response = redirect("/")
        complete_registration(request, response, registration)
        return response
    return page("link", user=user, registration=registration, taken=subscription is not None)


@app.post("/link")
async def link(
    request: Request, db: Database, user: CurrentUser, registration_id: Field = "", user_id: Field = ""
) -> Response:
    if user is None:
        return redirect("/login")
    registration = get_registration_by_id(request, registration_id)  # the one that the page has shown
    if registration is None:
        return page("home", 400, user=user, problem=TOO_LONG)
    if user_id != str(user.id):
        problem = "You have logged in to another account since. Nothing is linked; please look again."
        return page("link", 409, user=user, registration=registration, problem=problem)
    user.subscriptions.append(subscription_of(registration))
    try:
        await db.commit()
    except IntegrityError:  # linked in the meantime: GET /link sees by whom
        await db.rollback()
        return redirect("/link")
    response = redirect("/")
    complete_registration(request, response, registration)
    return response


@app.post("/decline")
def decline(request: Request, registration_id: Field = "") -> Response:
    response = redirect("/")
    registration = get_registration_by_id(request, registration_id)
    if registration is not None:
        discard_registration(request, response, registration)
    return response


@app.get("/")
def home(user: CurrentUser, registration: Newest) -> Response:
    return page("home", user=user, registration=registration) if user is not None else redirect("/signup")
