from html import escape
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from starlette_marketplace import (
    MarketplaceMiddleware,
    Registration,
    complete_registration,
    get_registration,
    get_registration_by_id,
)

app = FastAPI()
app.add_middleware(MarketplaceMiddleware)  # settings from the environment

accounts: dict[str, str] = {}  # yours is a table, with a unique column for the customer's key


@app.get("/signup")
def show_signup(registration: Annotated[Registration | None, Depends(get_registration)]) -> HTMLResponse:
    if registration is None:
        return HTMLResponse("<p>Find us in AWS Marketplace.</p>")
    return HTMLResponse(
        f"""<p>AWS account ending in {registration.customer.aws_account_id[-4:]}</p>
        <form method="post">
          <input type="hidden" name="registration_id" value="{escape(registration.id)}">
          <input name="email" type="email"><button>Sign up</button>
        </form>"""
    )


@app.post("/signup")
def sign_up(request: Request, email: Annotated[str, Form()], registration_id: Annotated[str, Form()]) -> Response:
    registration = get_registration_by_id(request, registration_id)
    if registration is None:
        raise HTTPException(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    if registration.customer.key in accounts:
        raise HTTPException(409, "This AWS Marketplace subscription has an account already: log in.")
    accounts[registration.customer.key] = email
    response = PlainTextResponse(f"Welcome, {email}!")
    complete_registration(request, response, registration)
    return response
