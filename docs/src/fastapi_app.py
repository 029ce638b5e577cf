import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from html import escape
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request, WebSocket
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from pydantic import BaseModel
from pydantic_settings import BaseSettings, SettingsConfigDict

from starlette_marketplace import (
    MarketplaceMiddleware,
    MarketplaceSettings,
    Registration,
    complete_registration,
    get_registration,
    get_registration_by_id,
    refuse_foreign_posts,
)


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_nested_delimiter="__")

    marketplace: MarketplaceSettings  # MARKETPLACE__SECRET_KEY, MARKETPLACE__PRODUCT_CODES and so on
    database: str = "signups.db"
    allowed_hosts: list[str] = ["127.0.0.1", "localhost"]


settings = Settings()


def execute(statement: str, *values: str | None) -> None:
    with closing(sqlite3.connect(settings.database)) as database, database:
        database.execute(statement, values)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    execute("CREATE TABLE IF NOT EXISTS account (email TEXT NOT NULL, customer_key TEXT UNIQUE)")
    execute("CREATE TABLE IF NOT EXISTS question (text TEXT NOT NULL, customer_key TEXT)")
    yield


def shown_registration(request: Request, registration_id: Annotated[str, Form()] = "") -> Registration | None:
    """The registration that the form was about; None for who did not come from AWS Marketplace."""
    registration = get_registration_by_id(request, registration_id)
    if registration_id and registration is None:
        raise HTTPException(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    return registration


NewestRegistration = Annotated[Registration | None, Depends(get_registration)]
ShownRegistration = Annotated[Registration | None, Depends(shown_registration)]

signup = APIRouter(prefix="/signup")


@signup.get("", response_class=HTMLResponse)
async def show_signup(registration: NewestRegistration) -> str:
    if registration is None:
        return '<form method="post"><input name="email" type="email"><button>Sign up</button></form>'
    return f"""<p>AWS account ending in {registration.customer.aws_account_id[-4:]}</p>
        <form method="post">
          <input type="hidden" name="registration_id" value="{escape(registration.id)}">
          <input name="email" type="email"><button>Sign up</button>
        </form>"""


@signup.post("", response_class=PlainTextResponse)
def sign_up(request: Request, email: Annotated[str, Form()], registration: ShownRegistration) -> Response:
    try:
        execute("INSERT INTO account VALUES (?, ?)", email, registration.customer.key if registration else None)
    except sqlite3.IntegrityError:
        raise HTTPException(409, "This AWS Marketplace subscription has an account already: log in.") from None
    response = PlainTextResponse(f"Welcome, {email}!")
    if registration is not None:
        complete_registration(request, response, registration)
    return response


@signup.websocket("/questions")
async def take_questions(websocket: WebSocket, registration: NewestRegistration) -> None:
    customer_key = registration.customer.key if registration else None
    await websocket.accept()
    async for question in websocket.iter_text():
        await run_in_threadpool(execute, "INSERT INTO question VALUES (?, ?)", question, customer_key)
        await websocket.send_text("Thank you, we answer by e-mail.")


class Arrival(BaseModel):
    registration_id: str
    account_ends_in: str
    product_code: str


api = FastAPI(title="API of the signup page")


@api.get("/arrival")
async def arrival(registration: NewestRegistration) -> Arrival | None:
    if registration is None:
        return None
    customer = registration.customer
    return Arrival(
        registration_id=registration.id,
        account_ends_in=customer.aws_account_id[-4:],
        product_code=customer.product_code,
    )


app = FastAPI(lifespan=lifespan, dependencies=[Depends(refuse_foreign_posts)])
app.include_router(signup)
app.mount("/api", api)
app.add_middleware(MarketplaceMiddleware, settings=settings.marketplace)
app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.allowed_hosts)  # added last, stands outermost
