import os
import secrets
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlencode

from authlib.integrations.starlette_client import OAuth, OAuthError
from fastapi import Depends, FastAPI, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import DictLoader, Environment
from sqlalchemy import create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
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
    customer_key: Mapped[str] = mapped_column(unique=True)  # this makes a customer belong to one user
    aws_account_id: Mapped[str]
    issuer: Mapped[str]  # a subject means something to its issuer only
    subject: Mapped[str]


engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///product.db"))
Base.metadata.create_all(engine)  # a product that outlives its first table has migrations
sessions = sessionmaker(engine)

oauth = OAuth()
oauth.register(
    "provider",
    server_metadata_url=os.environ["OIDC_METADATA_URL"],
    client_id=os.environ["OIDC_CLIENT_ID"],
    client_secret=os.environ["OIDC_CLIENT_SECRET"],
    client_kwargs={"scope": "openid email", "code_challenge_method": "S256"},
)


def open_session() -> Iterator[Session]:
    with sessions() as db:
        yield db


def current_user(request: Request) -> dict[str, str] | None:
    return request.session.get("user")


Database = Annotated[Session, Depends(open_session)]
User = Annotated[dict[str, str] | None, Depends(current_user)]
Newest = Annotated[Registration | None, Depends(get_registration)]
Field = Annotated[str, Form()]
OUR_OWN_FORM = [Depends(refuse_foreign_posts)]

settings = MarketplaceSettings.from_env()
app = FastAPI()
app.add_middleware(
    SessionMiddleware,
    secret_key=os.environ["SESSION_SECRET"],
    session_cookie="__Host-session" if settings.https_only else "session",
    https_only=settings.https_only,
)
app.add_middleware(MarketplaceMiddleware, settings=settings)

TEMPLATES = {
    "base": """<!doctype html><html lang="en"><meta charset="utf-8"><title>Acme</title>
{% block content %}{% endblock %}
{% if registration %}
<form method="post" action="/decline">
  <input type="hidden" name="registration_id" value="{{ registration.id }}"> <button>Not mine</button>
</form>
{% endif %}
{% if user %}<form method="post" action="/logout"><button>Log out</button></form>{% endif %}""",
    "signup": """{% extends "base" %}{% block content %}
<h1>Welcome to Acme</h1>
{% if registration %}
<p>You come from AWS account ending in {{ registration.customer.aws_account_id[-4:] }}. Once you have logged in, we ask
  whether to link it to your account.</p>
{% endif %}
<form method="post" action="/login">
  <input type="hidden" name="registration_id" value="{{ registration.id if registration }}">
  <button>Sign up or log in</button>
</form>{% endblock %}""",
    "link": """{% extends "base" %}{% block content %}
{% set aws_account = "AWS account ending in " ~ registration.customer.aws_account_id[-4:] %}
{% if taken %}
<h1>This subscription has another account</h1>
<p>The subscription of {{ aws_account }} is linked to another account than {{ user.email }}. Log out, and log in to that
  one.</p>
{% else %}
<h1>Link {{ aws_account }} to {{ user.email }}?</h1>
<p>It will pay for this account. Any page on the web can send you here with a subscription of somebody else: go on only
  if you started this in AWS Marketplace yourself, and if {{ user.email }} is you.</p>
<form method="post" action="/link">
  <input type="hidden" name="registration_id" value="{{ registration.id }}">
  <input type="hidden" name="issuer" value="{{ user.issuer }}">
  <input type="hidden" name="subject" value="{{ user.subject }}">
  <button>Link it</button> <a href="/">Not now</a>
</form>
{% endif %}{% endblock %}""",
    "problem": """{% extends "base" %}{% block content %}
<h1>That did not work</h1> <p role="alert">{{ problem }}</p> <p><a href="/signup">Go on</a></p>{% endblock %}""",
    "home": """{% extends "base" %}{% block content %}
<h1>{{ user.email }}</h1>
{% for subscription in subscriptions %}
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


def page(name: str, status: int = 200, **values: object) -> Response:
    return HTMLResponse(templates.get_template(name).render(values), status, HEADERS)


def redirect(path: str, **query: str) -> Response:
    return RedirectResponse(path + ("?" + urlencode(query) if query else ""), 303)


@app.get("/signup")
def show_signup(user: User, registration: Newest) -> Response:
    if user is None:
        return page("signup", registration=registration)
    return redirect("/link", registration_id=registration.id) if registration is not None else redirect("/")


@app.post("/login", dependencies=OUR_OWN_FORM)
async def log_in(request: Request, registration_id: Field = "") -> Response:
    # What this login is for stays here. Only the state, a random number, goes to the provider and comes back.
    state = secrets.token_urlsafe()
    request.session["login"] = {state: registration_id}
    return await oauth.provider.authorize_redirect(request, request.url_for("callback"), state=state)


@app.get("/callback")
async def callback(request: Request) -> Response:
    try:
        token = await oauth.provider.authorize_access_token(request)  # checks the state, the nonce and the ID token
    except OAuthError:
        return page("problem", 400, problem="This login was given up, or another one was begun after it.")
    claims = token["userinfo"]
    registration_id = request.session["login"].get(request.query_params["state"], "")
    request.session.clear()  # nothing from before may survive a login
    request.session["user"] = {
        "issuer": claims["iss"],
        "subject": claims["sub"],
        "email": claims.get("email", claims["sub"]),  # to be shown; who it is, the subject says
    }
    return redirect("/link", registration_id=registration_id) if registration_id else redirect("/")


@app.post("/callback")
def callback_by_post(code: Field = "", state: Field = "", error: Field = "") -> Response:
    # response_mode=form_post. With this POST from another site come no SameSite=Lax cookies: neither our session, which
    # knows the state, nor the registration. With the GET that this answer leads to, they do.
    answer = {"code": code, "state": state, "error": error}
    return redirect("/callback", **{name: value for name, value in answer.items() if value})


@app.get("/link")
def ask(request: Request, db: Database, user: User, registration_id: str = "") -> Response:
    if user is None:
        return redirect("/signup")
    registration = get_registration_by_id(request, registration_id)  # the one that this login was for
    if registration is None:
        return took_too_long(user)
    subscription = db.scalar(select(Subscription).filter_by(customer_key=registration.customer.key))
    if subscription is not None and is_of(user, subscription):
        response = redirect("/")
        complete_registration(request, response, registration)
        return response
    return page("link", user=user, registration=registration, taken=subscription is not None)


@app.post("/link", dependencies=OUR_OWN_FORM)
def link(
    request: Request, db: Database, user: User, registration_id: Field = "", issuer: Field = "", subject: Field = ""
) -> Response:
    if user is None:
        return redirect("/signup")
    registration = get_registration_by_id(request, registration_id)  # the one that the page has shown
    if registration is None:
        return took_too_long(user)
    if (issuer, subject) != (user["issuer"], user["subject"]):
        return page("problem", 409, user=user, problem="You have logged in as somebody else since. Nothing is linked.")
    customer = registration.customer
    db.add(
        Subscription(
            customer_key=customer.key,
            aws_account_id=customer.aws_account_id,
            issuer=user["issuer"],
            subject=user["subject"],
        )
    )
    try:
        db.commit()
    except IntegrityError:  # linked in the meantime: GET /link sees to whom
        return redirect("/link", registration_id=registration.id)
    response = redirect("/")
    complete_registration(request, response, registration)
    return response


@app.post("/decline", dependencies=OUR_OWN_FORM)
def decline(request: Request, registration_id: Field = "") -> Response:
    response = redirect("/")
    registration = get_registration_by_id(request, registration_id)
    if registration is not None:
        discard_registration(request, response, registration)
    return response


@app.post("/logout", dependencies=OUR_OWN_FORM)
async def log_out(request: Request) -> Response:
    request.session.clear()
    # At the provider too: it would let the next buyer in as this one, without a word.
    return await oauth.provider.logout_redirect(
        request, request.url_for("show_signup"), client_id=os.environ["OIDC_CLIENT_ID"]
    )


@app.get("/")
def home(db: Database, user: User, registration: Newest) -> Response:
    if user is None:
        return redirect("/signup")
    linked = select(Subscription).filter_by(issuer=user["issuer"], subject=user["subject"])
    return page("home", user=user, registration=registration, subscriptions=db.scalars(linked).all())


def is_of(user: dict[str, str], subscription: Subscription) -> bool:
    return (subscription.issuer, subscription.subject) == (user["issuer"], user["subject"])


def took_too_long(user: dict[str, str]) -> Response:
    problem = "This took too long. Choose Set up your account in AWS Marketplace once more."
    return page("problem", 400, user=user, problem=problem)
