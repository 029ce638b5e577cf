import os
from html import escape
from typing import Annotated
from urllib.parse import urlencode

import boto3
from botocore.exceptions import ClientError
from fastapi import FastAPI, Form, HTTPException
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

SIGNUP_URL = os.environ.get("SIGNUP_URL", "/signup")  # or a static page: https://www.acme.example/signup
metering = boto3.client("meteringmarketplace", region_name="us-east-1")
app = FastAPI()
accounts: dict[str, str] = {}  # the product's database


@app.post("/marketplace/register")
def register(token: Annotated[str, Form(alias="x-amzn-marketplace-token")]) -> Response:
    return RedirectResponse(f"{SIGNUP_URL}?{urlencode({'x-amzn-marketplace-token': token})}", 303)  # (1)


@app.get("/signup")
def show_signup() -> HTMLResponse:
    return HTMLResponse(
        """<!doctype html><html lang="en"><meta charset="utf-8"><title>Acme</title>
        <link rel="stylesheet" href="/acme.css">
        <form method="post" action="/signup">
          <input type="hidden" name="token">
          <p><label>E-mail <input name="email" type="email" required></label>
          <p><button>Sign up</button>
        </form>
        <script>
          document.forms[0].token.value = new URLSearchParams(location.search).get("x-amzn-marketplace-token")  // (2)
        </script>"""
    )


@app.get("/acme.css")
def style() -> Response:
    return Response("body { font-family: sans-serif }", media_type="text/css")


@app.post("/signup")
def sign_up(token: Annotated[str, Form()], email: Annotated[str, Form()]) -> Response:
    try:
        answer = metering.resolve_customer(RegistrationToken=token)  # (3)
    except ClientError:
        raise HTTPException(400, "Your registration token is invalid.") from None
    accounts[answer["LicenseArn"]] = email  # (4)
    return PlainTextResponse(f"Welcome, {escape(email)}!")
