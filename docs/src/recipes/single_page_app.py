import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from starlette_marketplace import (
    MarketplaceMiddleware,
    Registration,
    complete_registration,
    discard_registration,
    get_registration,
    get_registration_by_id,
    refuse_foreign_posts,
)

FRONT_END = Path(__file__).parent / "single_page_app"
# Only if the front end is on another host than this API: its origin, such as https://app.acme.example
SPA_ORIGIN = os.environ.get("SPA_ORIGIN")

app = FastAPI()
if SPA_ORIGIN:
    app.add_middleware(
        CORSMiddleware,
        allow_origins=[SPA_ORIGIN],  # never "*", never a pattern: this origin may act for the buyer
        allow_credentials=True,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Content-Type"],
    )
app.add_middleware(MarketplaceMiddleware)  # settings from the environment

with closing(sqlite3.connect("single_page_app.db")) as db:
    db.execute("CREATE TABLE IF NOT EXISTS account (email TEXT NOT NULL UNIQUE, customer_key TEXT UNIQUE)")


def refuse_other_front_ends(request: Request) -> None:
    # Also for DELETE: pages of a sister site, such as another subdomain, have the buyer's cookies.
    if request.headers.get("Origin", "") != SPA_ORIGIN:
        refuse_foreign_posts(request)


class ShownRegistration(BaseModel):
    """What the page shows, and no more: every script in the page can read it."""

    id: str
    account_ending: str
    product_code: str


class Signup(BaseModel):
    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]
    registration_id: str | None = None


@app.get("/api/registration")
def show_registration(
    response: Response, registration: Annotated[Registration | None, Depends(get_registration)]
) -> ShownRegistration | None:
    response.headers["Cache-Control"] = "no-store"
    if registration is None:  # normal: this buyer did not come from AWS Marketplace
        return None
    customer = registration.customer
    return ShownRegistration(
        id=registration.id, account_ending=customer.aws_account_id[-4:], product_code=customer.product_code
    )


@app.post("/api/signup", status_code=201, dependencies=[Depends(refuse_other_front_ends)])
def sign_up(signup: Signup, request: Request, response: Response) -> dict[str, str]:
    registration = None
    if signup.registration_id is not None:
        registration = get_registration_by_id(request, signup.registration_id)
        if registration is None:
            raise HTTPException(401, "The registration is over, or it is not of this browser.")
    try:
        with closing(sqlite3.connect("single_page_app.db")) as db, db:
            db.execute(
                "INSERT INTO account VALUES (?, ?)", (signup.email, registration.customer.key if registration else None)
            )
    except sqlite3.IntegrityError:
        raise HTTPException(409, "This e-mail address or this subscription has an account.") from None
    if registration is not None:
        complete_registration(request, response, registration)
    return {"email": signup.email}


@app.delete("/api/registrations/{registration_id}", status_code=204, dependencies=[Depends(refuse_other_front_ends)])
def decline(registration_id: str, request: Request, response: Response) -> None:
    """Forget a registration: any page of the web can send a visitor here with a subscription of somebody else."""
    registration = get_registration_by_id(request, registration_id)
    if registration is not None:
        discard_registration(request, response, registration)


@app.get("/signup")
def spa() -> FileResponse:
    """The route of the front end that `signup_url` names."""
    policy = "default-src 'self'; frame-ancestors 'none'"
    return FileResponse(FRONT_END / "index.html", headers={"Content-Security-Policy": policy})


app.mount("/assets", StaticFiles(directory=FRONT_END / "assets"))
