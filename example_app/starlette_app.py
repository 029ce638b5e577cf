"""The smallest host: plain Starlette, the routes mounted. Start it with `uvicorn example_app.starlette_app:app`."""

from html import escape

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from starlette_marketplace import Marketplace

marketplace = Marketplace()  # settings from the environment
accounts: dict[str, str] = {}  # the stable key of a customer -> e-mail; a real app has a unique column for it

PAGE = """<!doctype html><html lang="en"><title>Sign up</title><h1>Sign up</h1>
<p>AWS account ending in {account}, product {product}</p>
<form method="post"><input type="hidden" name="registration_id" value="{id}">
<label>E-mail <input type="email" name="email" required></label> <button>Sign up</button></form></html>"""


async def show_signup(request: Request) -> Response:
    registration = marketplace.get_registration(request)
    if registration is None:
        return PlainTextResponse("Start from AWS Marketplace: Manage subscriptions, Set up your account.")
    customer = registration.customer
    page = PAGE.format(
        account=customer.aws_account_id[-4:], product=escape(customer.product_code), id=escape(registration.id)
    )
    return HTMLResponse(page, headers={"Cache-Control": "no-store"})


async def sign_up(request: Request) -> Response:
    form = await request.form()
    registration = marketplace.get_registration(request, str(form.get("registration_id", "")))
    email = str(form.get("email", "")).strip()
    if registration is None or not email:
        return PlainTextResponse("This registration has expired, or the e-mail address is missing.", 400)
    if accounts.setdefault(registration.customer.key, email) != email:
        return PlainTextResponse("This AWS Marketplace subscription has an account already.", 409)
    response = PlainTextResponse(f"Welcome, {email}!")
    marketplace.complete_registration(response, registration)
    return response


signup_routes = [Route("/signup", show_signup), Route("/signup", sign_up, methods=["POST"])]
app = Starlette(routes=[Mount("/marketplace", routes=marketplace.routes), *signup_routes])
