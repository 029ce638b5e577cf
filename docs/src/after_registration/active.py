import hashlib
import logging
import secrets
import sqlite3
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Annotated, Literal, TypeAlias

from anyio import fail_after
from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from starlette_marketplace import (
    AccessDeniedError,
    Entitlement,
    MarketplaceCustomer,
    MarketplaceError,
    MarketplaceMiddleware,
    RegionError,
    Registration,
    complete_registration,
    get_agreement,
    get_entitlements,
    get_registration,
    get_registration_by_id,
    refuse_foreign_posts,
)
from starlette_marketplace.hooks import RegistrationResolved

logger = logging.getLogger("acme")

# --8<-- [start:ask]
State: TypeAlias = Literal["pending", "active", "unconfirmed", "ended"]

PAY_AS_YOU_GO = {"acmegateway"}  # your product codes without a contract
GRACE = timedelta(hours=1)  # a renewal can take AWS a moment
USABLE = ("active", "unconfirmed")  # the states that let a customer in
PATIENCE = 2.0  # seconds that a request waits for AWS


async def check(
    request: Request, customer: MarketplaceCustomer, before: State, since: datetime
) -> State:
    """The state now; the state before, which it has had since, if AWS fails."""
    is_due = before == "unconfirmed" and since < datetime.now(UTC) - GRACE
    try:
        with fail_after(PATIENCE):
            state = await ask(request, customer, before, refresh=is_due)
    except (MarketplaceError, TimeoutError) as error:
        reason = str(error) or f"AWS has not answered within {PATIENCE:g} s."
        logger.warning("%r stays %s. %s", customer, before, reason)
        return before
    if is_due and state == "unconfirmed":
        state = "ended"
    if state != before:
        is_odd = "unconfirmed" in (before, state)
        level = logging.WARNING if is_odd else logging.INFO
        logger.log(level, "%r was %s and is %s.", customer, before, state)
    return state


async def ask(
    request: Request, customer: MarketplaceCustomer, before: State, *, refresh: bool
) -> State:
    if before == "unconfirmed":
        before = "active"
    has_contract = customer.product_code not in PAY_AS_YOU_GO
    bought: tuple[Entitlement, ...] = ()
    if has_contract:
        bought = await get_entitlements(request, customer, refresh=refresh)
    limit = datetime.now(UTC) - GRACE
    if any(each.expires_at is None or each.expires_at > limit for each in bought):
        return "active"
    agreement = None
    if customer.agreement_id is not None:  # legacy products have none
        try:
            agreement = await get_agreement(
                request, customer.agreement_id, refresh=refresh
            )
        except (AccessDeniedError, RegionError):  # resold by a partner; China
            if not has_contract:
                raise
    if agreement is None:
        if before == "active" and has_contract:
            return "ended" if bought else "unconfirmed"
        return before
    if agreement.is_over:
        return "ended"
    if agreement.status == "ACTIVE" and not has_contract:
        return "active"
    return before  # still being prepared, or another agreement has followed
    # --8<-- [end:ask]


def execute(statement: str, **values: str | None) -> sqlite3.Row | None:
    with closing(sqlite3.connect("signups.db")) as database, database:
        database.row_factory = sqlite3.Row
        row: sqlite3.Row | None = database.execute(statement, values).fetchone()
        return row


execute(
    """CREATE TABLE IF NOT EXISTS account (
        email TEXT NOT NULL,
        api_key_hash TEXT NOT NULL,
        state TEXT NOT NULL,
        since TEXT NOT NULL,
        customer_key TEXT NOT NULL UNIQUE,
        aws_account_id TEXT NOT NULL,
        product_code TEXT NOT NULL,
        license_arn TEXT,
        customer_identifier TEXT,
        agreement_id TEXT)"""
)


# --8<-- [start:store]
def store(
    customer: MarketplaceCustomer, email: str, api_key: str, state: State
) -> None:
    execute(
        """INSERT INTO account VALUES (
            :email, :api_key_hash, :state, :since, :key, :aws_account_id,
            :product_code, :license_arn, :customer_identifier, :agreement_id)""",
        email=email,
        api_key_hash=hash_of(api_key),
        state=state,
        since=datetime.now(UTC).isoformat(),
        key=customer.key,
        **asdict(customer),
    )


def customer_of(account: sqlite3.Row) -> MarketplaceCustomer:
    return MarketplaceCustomer(
        aws_account_id=account["aws_account_id"],
        product_code=account["product_code"],
        license_arn=account["license_arn"],
        customer_identifier=account["customer_identifier"],
        agreement_id=account["agreement_id"],
    )


def update_agreement(event: RegistrationResolved) -> None:
    """Store the new agreement of a buyer who comes again after a renewal."""
    customer = event.registration.customer
    if customer.agreement_id is not None:
        execute(
            "UPDATE account SET agreement_id = :id WHERE customer_key = :key",
            id=customer.agreement_id,
            key=customer.key,
        )
        # --8<-- [end:store]


app = FastAPI(dependencies=[Depends(refuse_foreign_posts)])
app.add_middleware(MarketplaceMiddleware, on_resolved=update_agreement)


@app.get("/signup")
def show_signup(
    registration: Annotated[Registration | None, Depends(get_registration)],
) -> HTMLResponse:
    if registration is None:
        return HTMLResponse("<p>Find us in AWS Marketplace.</p>")
    registration_id = escape(registration.id)
    return HTMLResponse(
        f"""<p>AWS account ending in {registration.customer.aws_account_id[-4:]}</p>
        <form method="post">
          <input type="hidden" name="registration_id" value="{registration_id}">
          <input name="email" type="email" required><button>Sign up</button>
        </form>""",
        headers={"Cache-Control": "no-store"},
    )


def hash_of(api_key: str) -> str:
    return hashlib.sha256(api_key.encode()).hexdigest()


NOTES = {
    "pending": "AWS Marketplace is still preparing your subscription. Please wait.",
    "active": "Your subscription is active.",
    "ended": "Your AWS Marketplace subscription has ended. Your data is kept.",
}


@app.post("/signup")
async def sign_up(
    request: Request,
    email: Annotated[str, Form()],
    registration_id: Annotated[str, Form()],
) -> Response:
    registration = get_registration_by_id(request, registration_id)
    if registration is None:
        raise HTTPException(
            400, "Choose Set up your account in AWS Marketplace again."
        )
    customer = registration.customer
    state = await check(request, customer, "pending", datetime.now(UTC))
    if state == "ended":
        raise HTTPException(403, NOTES[state])
    api_key = secrets.token_urlsafe()
    try:
        await run_in_threadpool(store, customer, email, api_key, state)
    except sqlite3.IntegrityError:
        raise HTTPException(
            409, "This subscription has an account already."
        ) from None
    response = PlainTextResponse(
        f"{NOTES[state]}\nYour API key: {api_key}",
        headers={"Cache-Control": "no-store"},
    )
    complete_registration(request, response, registration)
    return response


def logged_in(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
) -> sqlite3.Row:
    api_key_hash = hash_of(credentials.credentials)
    query = "SELECT * FROM account WHERE api_key_hash = :api_key_hash"
    account = execute(query, api_key_hash=api_key_hash)
    if account is None:
        raise HTTPException(401, "This API key is unknown.")
    return account


# --8<-- [start:use]
def change_state(customer: MarketplaceCustomer, state: State) -> None:
    execute(
        "UPDATE account SET state = :state, since = :since"
        " WHERE customer_key = :key",
        state=state,
        since=datetime.now(UTC).isoformat(),
        key=customer.key,
    )


async def active_customer(
    request: Request, account: Annotated[sqlite3.Row, Depends(logged_in)]
) -> MarketplaceCustomer:
    customer = customer_of(account)
    since = datetime.fromisoformat(account["since"])
    state = await check(request, customer, account["state"], since)
    if state != account["state"]:
        await run_in_threadpool(change_state, customer, state)
    if state not in USABLE:
        raise HTTPException(403, NOTES[state])
    return customer


@app.get("/reports")
def show_reports(
    customer: Annotated[MarketplaceCustomer, Depends(active_customer)],
) -> dict[str, str]:
    return {"product": customer.product_code, "report": "All is well."}
    # --8<-- [end:use]
