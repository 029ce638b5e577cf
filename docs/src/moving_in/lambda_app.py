import asyncio
import os
from html import escape
from typing import Annotated

import boto3
from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from mangum import Mangum

from starlette_marketplace import (
    Marketplace,
    MarketplaceCustomer,
    MarketplaceMiddleware,
    Registration,
    complete_registration,
    get_registration,
    get_registration_by_id,
)

TABLE = os.environ["SUBSCRIBERS_TABLE"]
HAS_SNS_HANDLERS = os.environ.get("HAS_SNS_HANDLERS") == "true"
dynamodb = boto3.client("dynamodb")
marketplace = Marketplace()
asyncio.run(marketplace.startup())  # while Lambda starts this environment, and not while the first buyer waits

app = FastAPI()
app.add_middleware(MarketplaceMiddleware, marketplace=marketplace)
handler = Mangum(app, lifespan="off")

Field = Annotated[str, Form(min_length=1, max_length=200)]


def item_key(customer: MarketplaceCustomer) -> str:
    # SNS messages name a customer of a legacy product by this alone, and their handlers write to that item.
    if HAS_SNS_HANDLERS and customer.customer_identifier is not None:
        return customer.customer_identifier
    return customer.key


@app.get("/signup")
def show_signup(registration: Annotated[Registration | None, Depends(get_registration)]) -> HTMLResponse:
    if registration is None:
        raise HTTPException(400, "Open AWS Marketplace, and choose Set up your account.")
    return HTMLResponse(
        f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Acme</title>
        <p>AWS account ending in {registration.customer.aws_account_id[-4:]}
        <form method="post">
          <input type="hidden" name="registration_id" value="{escape(registration.id)}">
          <p><label>Company <input name="company" type="text" required></label>
          <p><label>Contact <input name="person" type="text" required></label>
          <p><label>Phone <input name="phone" type="tel" required></label>
          <p><label>E-mail <input name="email" type="email" required></label>
          <p><button>Sign up</button>
        </form>"""
    )


@app.post("/signup")
def sign_up(
    request: Request, registration_id: Field, company: Field, person: Field, phone: Field, email: Field
) -> Response:
    registration = get_registration_by_id(request, registration_id)
    if registration is None:
        raise HTTPException(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    customer = registration.customer
    values = {
        ":company": company,
        ":person": person,
        ":phone": phone,
        ":email": email,
        ":product": customer.product_code,
        ":account": customer.aws_account_id,
    }
    try:
        # An update, as an event may have written to the item before the buyer comes, and that stays.
        dynamodb.update_item(
            TableName=TABLE,
            Key={"customerIdentifier": {"S": item_key(customer)}},
            UpdateExpression="SET companyName = :company, contactPerson = :person, contactPhone = :phone, "
            "contactEmail = :email, productCode = :product, customerAwsAccountId = :account, "
            "successfully_registered = :yes",
            ConditionExpression="attribute_not_exists(contactEmail)",
            ExpressionAttributeValues={
                **{name: {"S": value} for name, value in values.items()},
                ":yes": {"BOOL": True},
            },
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        raise HTTPException(409, "This AWS Marketplace subscription has been set up already: log in.") from None
    response = PlainTextResponse(f"Welcome, {email}! We are setting up your account.")
    complete_registration(request, response, registration)
    return response
