import os
from collections.abc import Iterator
from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import DictLoader, Environment
from pwdlib import PasswordHash
from sqlalchemy import ForeignKey, UniqueConstraint, create_engine, delete, select
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

OWNER, MEMBER = "owner", "member"
WAITING_AT_MOST = 20  # requests of one workspace: a registration can be sent again and again


class Base(DeclarativeBase):
    pass


class Workspace(Base):
    """The customer: what the subscription belongs to, whoever comes and goes."""

    __tablename__ = "workspace"

    id: Mapped[int] = mapped_column(primary_key=True)
    users: Mapped[list["User"]] = relationship(back_populates="workspace")
    requests: Mapped[list["JoinRequest"]] = relationship(back_populates="workspace")
    subscriptions: Mapped[list["Subscription"]] = relationship(back_populates="workspace")


class Subscription(Base):
    __tablename__ = "subscription"

    id: Mapped[int] = mapped_column(primary_key=True)
    workspace_id: Mapped[int] = mapped_column(ForeignKey("workspace.id"))
    customer_key: Mapped[str] = mapped_column(unique=True)  # this makes a customer have one workspace, and one owner
    aws_account_id: Mapped[str]
    workspace: Mapped[Workspace] = relationship(back_populates="subscriptions")


class JoinRequest(Base):
    """Nobody yet: it can log in to nothing, and its address is free for whoever has it."""

    __tablename__ = "join_request"
    # Ids are in the pages of the owner: never the same one again.
    __table_args__ = (UniqueConstraint("workspace_id", "email"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    password_hash: Mapped[str]
    workspace_id: Mapped[int] = mapped_column(ForeignKey("workspace.id"))
    workspace: Mapped[Workspace] = relationship(back_populates="requests")


class User(Base):
    __tablename__ = "user_account"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    role: Mapped[str]
    workspace_id: Mapped[int] = mapped_column(ForeignKey("workspace.id"))
    workspace: Mapped[Workspace] = relationship(back_populates="users")


engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///team.db"))
Base.metadata.create_all(engine)
sessions = sessionmaker(engine)
password_hash = PasswordHash.recommended()
NOBODYS_HASH = password_hash.hash("nobody")


def open_session() -> Iterator[Session]:
    with sessions() as db:
        yield db


Database = Annotated[Session, Depends(open_session)]


def current_user(request: Request, db: Database) -> User | None:
    return db.get(User, request.session.get("user_id", 0))


CurrentUser = Annotated[User | None, Depends(current_user)]
Newest = Annotated[Registration | None, Depends(get_registration)]
Field = Annotated[str, Form()]


def current_owner(user: CurrentUser) -> User:
    if user is None or user.role != OWNER:
        raise HTTPException(403, "Only the owner of the workspace can do this.")
    return user


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
{% block content %}{% endblock %}""",
    "signup": """{% extends "base" %}{% block content %}
{% if asks %}
<h1>Ask to join your company's workspace</h1>
<p>Somebody of your company has set up this subscription already. Its owner decides who joins.</p>
{% else %}
<h1>Create a workspace</h1>
{% endif %}
{% if registration %}
<p>AWS account ending in {{ registration.customer.aws_account_id[-4:] }}</p>
<form method="post" action="/decline">
  <input type="hidden" name="registration_id" value="{{ registration.id }}"> <button>Not mine</button>
</form>
{% endif %}
<form method="post" action="{{ "/join" if asks else "/signup" }}">
  <input type="hidden" name="registration_id" value="{{ registration_id }}">
  <p><label>E-mail <input name="email" type="email" value="{{ email }}" autocomplete="email" required></label>
  <p><label>Password <input name="password" type="password" minlength="10" maxlength="200"
    autocomplete="new-password" required></label>
  <p><button>{{ "Ask to join" if asks else "Create workspace" }}</button>
</form>
<p>You are a user already? <a href="/login">Log in</a></p>{% endblock %}""",
    "asked": """{% extends "base" %}{% block content %}
<h1>Your request is with the owner of the workspace</h1>
<p>As soon as it is accepted, you can <a href="/login">log in</a>.</p>{% endblock %}""",
    "login": """{% extends "base" %}{% block content %}
<h1>Log in</h1>
<form method="post" action="/login">
  <p><label>E-mail <input name="email" type="email" autocomplete="email" required></label>
  <p><label>Password <input name="password" type="password" autocomplete="current-password" required></label>
  <p><button>Log in</button>
</form>{% endblock %}""",
    "home": """{% extends "base" %}{% block content %}
<h1>Your workspace</h1>
<p>You are its {{ user.role }}, {{ user.email }}.</p>
{% for subscription in user.workspace.subscriptions %}
<p>Subscribed by AWS account ending in {{ subscription.aws_account_id[-4:] }}</p>
{% endfor %}
{% for asked in user.workspace.requests if user.role == "owner" %}
<form method="post" action="/requests">
  <input type="hidden" name="request_id" value="{{ asked.id }}"> {{ asked.email }} asks to join.
  <button name="answer" value="accept">Accept</button> <button name="answer" value="refuse">Refuse</button>
</form>
{% endfor %}{% endblock %}""",
}
templates = Environment(loader=DictLoader(TEMPLATES), autoescape=True)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
}


def page(name: str, status: int = 200, **values: object) -> Response:
    return HTMLResponse(templates.get_template(name).render(values), status, HEADERS)


def find_subscription(db: Session, registration: Registration | None) -> Subscription | None:
    if registration is None:
        return None
    return db.scalar(select(Subscription).filter_by(customer_key=registration.customer.key))


def finish(request: Request, registration: Registration | None, path: str = "/") -> Response:
    response = RedirectResponse(path, 303)
    if registration is not None:
        complete_registration(request, response, registration)
    return response


@app.get("/signup")
def show_signup(request: Request, db: Database, user: CurrentUser, registration: Newest) -> Response:
    subscription = find_subscription(db, registration)
    if user is not None and subscription is not None and subscription.workspace_id == user.workspace_id:
        return finish(request, registration)
    registration_id = registration.id if registration is not None else ""
    asks = subscription is not None
    return page("signup", registration=registration, registration_id=registration_id, asks=asks)


@app.post("/signup")
def sign_up(
    request: Request, db: Database, email: Field = "", password: Field = "", registration_id: Field = ""
) -> Response:
    """Create a workspace. Whoever links the subscription becomes its owner."""
    return add(request, db, email, password, registration_id, asks=False)


@app.post("/join")
def ask_to_join(
    request: Request, db: Database, email: Field = "", password: Field = "", registration_id: Field = ""
) -> Response:
    """Ask to join the workspace of the subscription. It takes a registration to ask, and the owner to get in."""
    return add(request, db, email, password, registration_id, asks=True)


def add(request: Request, db: Session, email: str, password: str, registration_id: str, *, asks: bool) -> Response:
    registration = get_registration_by_id(request, registration_id)  # the one that the page has shown
    subscription = find_subscription(db, registration)

    def again(status: int, problem: str) -> Response:
        shown = {"registration": registration, "registration_id": registration_id, "email": email, "problem": problem}
        return page("signup", status, **shown, asks=find_subscription(db, registration) is not None)

    if (registration_id or asks) and registration is None:
        return again(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    if asks != (subscription is not None):
        return again(409, "Somebody was quicker: please look at this page again.")
    try:
        address = validate_email(email.strip(), check_deliverability=False).normalized.lower()
    except EmailNotValidError:
        return again(400, "Enter an e-mail address, like name@company.com.")
    if not 10 <= len(password) <= 200:
        return again(400, "Choose a password of 10 to 200 characters.")
    if db.scalar(select(User).filter_by(email=address)) is not None:
        return again(409, "This e-mail address has an account: log in.")
    # Those who ask at the same moment may make it a few more: it need not be exact.
    if subscription is not None and len(subscription.workspace.requests) >= WAITING_AT_MOST:
        return again(409, "Many requests wait for the owner of the workspace already. Please ask in person.")

    hashed = password_hash.hash(password)
    if subscription is not None:
        db.add(JoinRequest(workspace=subscription.workspace, email=address, password_hash=hashed))
    else:
        user = User(email=address, password_hash=hashed, role=OWNER, workspace=Workspace())
        if registration is not None:
            customer = registration.customer
            linked = Subscription(customer_key=customer.key, aws_account_id=customer.aws_account_id)
            user.workspace.subscriptions = [linked]
        db.add(user)
    try:
        db.commit()
    except IntegrityError:
        db.rollback()
        if asks:
            return again(409, "A request with this address waits already. If it is not yours, tell the owner.")
        if find_subscription(db, registration) is not None:
            return again(409, "Somebody was quicker: please look at this page again.")
        return again(409, "This e-mail address has an account: log in.")
    if asks:
        return finish(request, registration, "/asked")
    request.session.clear()
    request.session["user_id"] = user.id
    return finish(request, registration)


@app.get("/asked")
def show_asked() -> Response:
    return page("asked")


@app.post("/requests")
def decide(
    db: Database,
    owner: Annotated[User, Depends(current_owner)],
    request_id: Annotated[int, Form(ge=1, lt=2**31)],  # what an INTEGER column holds
    answer: Field = "",
) -> Response:
    if answer not in {"accept", "refuse"}:
        return RedirectResponse("/", 303)
    # Of the own workspace only, whatever id the form has.
    its_row = JoinRequest.id == request_id, JoinRequest.workspace_id == owner.workspace_id
    asked = db.execute(select(JoinRequest.email, JoinRequest.password_hash).where(*its_row)).one_or_none()
    # Of two answers at once, the one that has really deleted the row counts.
    was_first = db.execute(delete(JoinRequest).where(*its_row)).rowcount == 1
    if asked is not None and was_first and answer == "accept":
        db.add(User(email=asked.email, password_hash=asked.password_hash, role=MEMBER, workspace=owner.workspace))
    try:
        db.commit()
    except IntegrityError:
        db.rollback()
        return page("home", 409, user=owner, problem="This e-mail address has got an account since: refuse it.")
    return RedirectResponse("/", 303)


@app.post("/decline")
def decline(request: Request, registration_id: Field = "") -> Response:
    return finish(request, get_registration_by_id(request, registration_id))


@app.get("/login")
def show_login() -> Response:
    return page("login")


@app.post("/login")
def log_in(request: Request, db: Database, email: Field = "", password: Field = "") -> Response:
    user = db.scalar(select(User).filter_by(email=email.strip().lower()))
    # Also for an unknown address: the time of the answer does not tell who has an account.
    right = password_hash.verify(password, user.password_hash if user else NOBODYS_HASH)
    if user is None or not right:
        return page("login", 400, problem="The e-mail address or the password is wrong, or you are not accepted yet.")
    request.session.clear()
    request.session["user_id"] = user.id
    return RedirectResponse("/signup" if get_registration(request) else "/", 303)


@app.get("/")
def home(user: CurrentUser) -> Response:
    if user is None:
        return RedirectResponse("/signup", 303)
    return page("home", user=user)
