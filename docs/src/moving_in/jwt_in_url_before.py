import os
import time
from typing import Annotated

import boto3
import jwt
from botocore.exceptions import ClientError
from fastapi import FastAPI, Form, HTTPException
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

KEY = os.environ["JWT_SECRET"]
metering = boto3.client("meteringmarketplace", region_name="us-east-1")
app = FastAPI()
accounts: dict[str, str] = {}  # the product's database


@app.post("/marketplace/register")
def register(token: Annotated[str, Form(alias="x-amzn-marketplace-token")]) -> Response:
    try:
        answer = metering.resolve_customer(RegistrationToken=token)
    except ClientError:
        raise HTTPException(400, "Your registration token is invalid.") from None
    claims = {"license": answer["LicenseArn"], "account": answer["CustomerAWSAccountId"], "exp": time.time() + 3600}
    return RedirectResponse(f"/signup?token={jwt.encode(claims, KEY, 'HS256')}", 303)  # (1)


@app.get("/signup")
def show_signup(token: str) -> HTMLResponse:
    jwt.decode(token, KEY, ["HS256"])  # (2)
    return HTMLResponse(
        """<!doctype html><html lang="en"><meta charset="utf-8"><title>Acme</title>
        <form method="post">
          <p><label>E-mail <input name="email" type="email" required></label>
          <p><button>Sign up</button>
        </form>"""
    )


@app.post("/signup")
def sign_up(token: str, email: Annotated[str, Form()]) -> Response:
    claims = jwt.decode(token, KEY, ["HS256"])
    accounts[claims["license"]] = email  # (3)
    return PlainTextResponse(f"Welcome, {email}!")
