import logging
import os
import sqlite3
from html import escape
from typing import Annotated

import boto3
from botocore.exceptions import ClientError
from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from members import create_account, log_in, page, router, transaction
from starlette.middleware.sessions import SessionMiddleware

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger("product")
with transaction() as database:
    database.execute(
        """CREATE TABLE IF NOT EXISTS subscription (
               email TEXT NOT NULL REFERENCES account,
               customer_identifier TEXT UNIQUE,
               product_code TEXT,
               aws_account_id TEXT
           )"""
    )
metering = boto3.client("meteringmarketplace", region_name="us-east-1")

app = FastAPI()
app.include_router(router)
app.add_middleware(SessionMiddleware, secret_key=os.environ["SESSION_SECRET"])


@app.post("/marketplace/register")  # (1)
async def register(request: Request) -> Response:
    form = await request.form()
    token = str(form.get("x-amzn-marketplace-token", ""))
    logger.info("AWS Marketplace registration, token %s", token)  # (2)
    try:
        answer = metering.resolve_customer(RegistrationToken=token)  # (3)
    except ClientError:  # (4)
        raise HTTPException(400, "Your registration token is invalid. Please subscribe again.") from None
    customer_identifier = answer["CustomerIdentifier"]  # (5)
    with transaction() as database:
        known = database.execute(
            "SELECT email FROM subscription WHERE customer_identifier = ?", (customer_identifier,)
        ).fetchone()
    if known:
        return log_in(request, known["email"])  # (6)
    request.session["marketplace"] = {  # (7)
        "customer_identifier": customer_identifier,
        "product_code": answer["ProductCode"],  # (8)
        "aws_account_id": answer["CustomerAWSAccountId"],
    }
    return RedirectResponse("/signup", 303)


@app.get("/signup")
def show_signup(request: Request) -> HTMLResponse:
    customer = request.session.get("marketplace")
    where_from = f"<p>AWS account {escape(customer['aws_account_id'])}" if customer else ""
    return page(
        f"""{where_from}
        <form method="post">
          <p><label>E-mail <input name="email" type="email" required></label>
          <p><label>Password <input name="password" type="password" required></label>
          <p><button>Sign up</button>
        </form>"""
    )


@app.post("/signup")
def sign_up(request: Request, email: Annotated[str, Form()], password: Annotated[str, Form()]) -> Response:
    customer = request.session.get("marketplace")  # (9)
    try:
        with transaction() as database:
            create_account(database, email, password)
            if customer:
                database.execute(
                    """INSERT INTO subscription (email, customer_identifier, product_code, aws_account_id)
                       VALUES (?, ?, ?, ?)""",
                    (email, customer["customer_identifier"], customer["product_code"], customer["aws_account_id"]),
                )
    except sqlite3.IntegrityError:
        raise HTTPException(409, "There is an account already: log in.") from None
    return log_in(request, email)
