"""Acme Analytics: a small SaaS that is sold on its own site and on AWS Marketplace.

Everything about AWS Marketplace is in plans.py, in `welcome_back`, `arrived_plans` and `linked_plans`, in /signup,
/link, /decline and /dashboard, and in one line of `create_app`.
Start it with `make demo`, or with `uvicorn --factory example_app.app:create_app` and your own environment.
"""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.sessions import SessionMiddleware

from example_app import accounts
from example_app.cookies import PlainCookieNames
from example_app.database import Database, open_database
from example_app.forms import LinkForm, LoginForm, SignupForm
from example_app.models import User
from example_app.pages import page, redirect
from example_app.passwords import Passwords
from example_app.plans import Plan, ask_for_plans
from example_app.rate_limit import RateLimit
from example_app.settings import Settings
from starlette_marketplace import (
    MarketplaceCustomer,
    MarketplaceMiddleware,
    Registration,
    complete_registration,
    discard_registration,
    get_registration,
    get_registration_by_id,
    get_registrations,
    refuse_foreign_posts,
)
from starlette_marketplace.hooks import RegistrationResolved


def create_app() -> FastAPI:
    settings = Settings.from_env()
    app = FastAPI(
        title="Acme Analytics",
        openapi_url=None,
        dependencies=[Depends(refuse_foreign_posts)],
        lifespan=open_database,
    )
    app.state.settings = settings
    app.state.passwords = Passwords(at_once=settings.passwords_at_once)
    app.state.rate_limit = RateLimit(
        network_tries_per_minute=settings.network_tries_per_minute, tries_per_minute=settings.tries_per_minute
    )
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    app.add_exception_handler(StarletteHTTPException, error_page)
    app.add_exception_handler(RequestValidationError, error_page)
    app.add_middleware(
        SessionMiddleware,
        secret_key=settings.session_secret,
        # With this prefix, no subdomain can log a visitor in to an account of its choice.
        session_cookie="__Host-session" if settings.session_https_only else "session",
        https_only=settings.session_https_only,
        same_site="lax",
    )
    app.add_middleware(MarketplaceMiddleware, on_resolved=welcome_back)
    app.add_middleware(PlainCookieNames)
    return app


def welcome_back(event: RegistrationResolved) -> str | None:
    """Send a buyer who has an account to the login page; None sends everybody else to the signup page."""
    with event.request.app.state.sessions() as db:
        return "/login" if is_linked(db, event.registration) else None


def is_linked(db: Session, registration: Registration | None) -> bool:
    return registration is not None and accounts.find_subscription(db, registration.customer) is not None


def limit_tries(request: Request) -> None:
    # For each POST that hashes a password: hashing is slow on purpose, and each login can be a guess.
    exceeded = request.app.state.rate_limit.exceeded(request.client)
    if exceeded is not None:
        message = "There were too many tries. Please wait a minute, then go back and send the form again."
        raise HTTPException(429, message, headers={"Retry-After": str(exceeded.get_expiry())})


def error_page(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, StarletteHTTPException):
        return page(request, "error.html", 400, message="We could not read this form. Please go back and try again.")
    message = exc.detail if exc.status_code != 404 else "There is no page at this address."
    response = page(request, "error.html", exc.status_code, message=message)
    response.headers.update(exc.headers or {})
    return response


def current_user(request: Request, db: Database) -> User | None:
    user_id = request.session.get("user_id")
    return db.get(User, user_id) if user_id is not None else None


CurrentUser = Annotated[User | None, Depends(current_user)]
NewestRegistration = Annotated[Registration | None, Depends(get_registration)]
Registrations = Annotated[list[Registration], Depends(get_registrations)]


# What asks AWS is async, and takes no thread while it waits. What asks the database blocks, so it is sync: FastAPI runs
# it in a thread.


async def arrived_plans(request: Request, registrations: Registrations) -> None:
    """Ask AWS what the visitor has come with, for the pages that show a registration."""
    customers = {registration.customer: False for registration in registrations}
    patience = request.app.state.settings.plan_patience
    request.state.plans = await ask_for_plans(request, customers, patience=patience)


def linked_customers(db: Database, user: CurrentUser) -> dict[MarketplaceCustomer, bool]:
    subscriptions = user.workspace.subscriptions if user is not None else []
    customers = {subscription.customer: subscription.was_active for subscription in subscriptions}
    db.rollback()  # Gives the connection back: nothing waits for AWS with one.
    return customers


LinkedCustomers = Annotated[dict[MarketplaceCustomer, bool], Depends(linked_customers)]


async def linked_plans(request: Request, customers: LinkedCustomers) -> dict[str, Plan]:
    """Ask AWS what the user's workspace has."""
    return await ask_for_plans(request, customers, patience=request.app.state.settings.plan_patience)


LinkedPlans = Annotated[dict[str, Plan], Depends(linked_plans)]

router = APIRouter()


@router.get("/")
def home(request: Request, user: CurrentUser) -> Response:
    return page(request, "home.html", user=user)


@router.get("/signup", dependencies=[Depends(arrived_plans)])
def signup_page(request: Request, db: Database, user: CurrentUser, registration: NewestRegistration) -> Response:
    if user is not None:
        return redirect("/link")
    if is_linked(db, registration):
        return redirect("/login")
    return page(request, "signup.html", form=SignupForm(), errors={}, registration=registration)


@router.post("/signup", dependencies=[Depends(limit_tries), Depends(arrived_plans)])
def sign_up(request: Request, db: Database, user: CurrentUser, form: Annotated[SignupForm, Form()]) -> Response:
    """Create a workspace and log its first user in; nobody has verified the e-mail address (see accounts.py)."""
    if user is not None:
        return redirect("/link")

    # The registration that the page showed, which need not be the newest: another tab may have brought a second one.
    registration = get_registration_by_id(request, form.registration_id)
    expired = bool(form.registration_id) and registration is None
    errors = form.errors()
    if errors or expired:
        return page(request, "signup.html", 400, form=form, errors=errors, registration=registration, expired=expired)
    try:
        new_user = accounts.sign_up(
            db,
            request.app.state.passwords,
            company=form.company.strip(),
            email=form.email,
            password=form.password,
            registration=registration,
        )
    except accounts.EmailTakenError:
        errors["email"] = "This e-mail address has an account. Log in, or choose another one."
        return page(request, "signup.html", 409, form=form, errors=errors, registration=registration)
    except accounts.AlreadyLinkedError:
        return redirect("/login")

    start_session(request, new_user)
    response = redirect("/dashboard")
    if registration is not None:
        complete_registration(request, response, registration)
    return response


@router.get("/login", dependencies=[Depends(arrived_plans)])
def login_page(request: Request, db: Database, user: CurrentUser, registration: NewestRegistration) -> Response:
    if user is not None:
        return redirect("/link")
    return show_login(request, db, registration, LoginForm())


@router.post("/login", dependencies=[Depends(limit_tries), Depends(arrived_plans)])
def log_in(
    request: Request, db: Database, registration: NewestRegistration, form: Annotated[LoginForm, Form()]
) -> Response:
    user = accounts.log_in(db, request.app.state.passwords, email=form.email, password=form.password)
    if user is None:
        return show_login(request, db, registration, form, wrong=True)
    start_session(request, user)
    return redirect("/link")


def show_login(
    request: Request, db: Database, registration: Registration | None, form: LoginForm, *, wrong: bool = False
) -> Response:
    linked = is_linked(db, registration)
    context = {"form": form, "wrong": wrong, "registration": registration, "linked": linked}
    return page(request, "login.html", 400 if wrong else 200, **context)


def start_session(request: Request, user: User) -> None:
    # Nothing that was in the session before may survive a login (session fixation).
    request.session.clear()
    request.session["user_id"] = user.id


@router.post("/logout")
def log_out(request: Request) -> Response:
    request.session.clear()
    return redirect("/")


@router.get("/link", dependencies=[Depends(arrived_plans)])
def link_page(request: Request, db: Database, user: CurrentUser, registration: NewestRegistration) -> Response:
    """Decide how a logged-in buyer goes on: everything that logs in or arrives logged in comes through here."""
    if user is None:
        return redirect("/login")
    if registration is None:
        return redirect("/dashboard")
    subscription = accounts.find_subscription(db, registration.customer)
    if subscription is not None and subscription.workspace_id == user.workspace_id:
        response = redirect("/dashboard")
        complete_registration(request, response, registration)
        return response
    return page(request, "link.html", user=user, registration=registration, taken=subscription is not None)


@router.post("/link", dependencies=[Depends(arrived_plans)])
def link(request: Request, db: Database, user: CurrentUser, form: Annotated[LinkForm, Form()]) -> Response:
    if user is None:
        return redirect("/login")
    registration = get_registration_by_id(request, form.registration_id)
    if registration is None:
        return page(request, "link.html", 400, user=user, registration=None)
    # Another tab may have logged in to another workspace since: then ask again instead of linking what was not shown.
    if form.workspace_id != str(user.workspace_id):
        return page(request, "link.html", 409, user=user, registration=registration, changed=True)
    try:
        accounts.link(db, user.workspace, registration)
    except accounts.AlreadyLinkedError:
        return page(request, "link.html", 409, user=user, registration=registration, taken=True)
    response = redirect("/dashboard")
    complete_registration(request, response, registration)
    return response


@router.post("/decline")
def decline(request: Request, user: CurrentUser, registration_id: Annotated[str, Form()] = "") -> Response:
    """Forget a registration: any page of the web can send a visitor here with a subscription of somebody else."""
    response = redirect("/signup" if user is None else "/link")
    registration = get_registration_by_id(request, registration_id)
    if registration is not None:
        discard_registration(request, response, registration)
    return response


@router.get("/dashboard")
def dashboard(
    request: Request, db: Database, user: CurrentUser, registration: NewestRegistration, plans: LinkedPlans
) -> Response:
    if user is None:
        return redirect("/login")
    # What another tab has linked a moment ago has no plan here yet.
    subscriptions = [(each, plans.get(each.customer_key, Plan())) for each in user.workspace.subscriptions]
    for subscription, plan in subscriptions:
        subscription.was_active |= plan.status == "active"
    db.commit()
    waiting = None if is_linked(db, registration) else registration
    response = page(request, "dashboard.html", user=user, subscriptions=subscriptions, waiting=waiting)
    if any(plan.status == "pending" for _, plan in subscriptions):
        response.headers["Refresh"] = "5"
    return response
