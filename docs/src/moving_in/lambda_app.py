import asyncio
import os
from datetime import UTC, datetime
from html import escape
from typing import Annotated
from urllib.parse import urlsplit

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
    discard_registration,
    get_registration,
    get_registration_by_id,
)

TABLE = os.environ["SUBSCRIBERS_TABLE"]
PUBLIC_HOST = os.environ["PUBLIC_HOST"]
HAS_SNS_HANDLERS = os.environ.get("HAS_SNS_HANDLERS") == "true"
dynamodb = boto3.client("dynamodb")
marketplace = Marketplace()
asyncio.run(marketplace.startup())  # while Lambda starts this environment, and not while the first buyer waits

app = FastAPI()
app.add_middleware(MarketplaceMiddleware, marketplace=marketplace)
handler = Mangum(app, lifespan="off")

Field = Annotated[str, Form(min_length=1, max_length=200)]


def refuse_foreign_posts(request: Request) -> None:
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is None and origin is not None:  # an older browser; Host is API Gateway's, and not what the buyer sees
        site = "same-origin" if urlsplit(origin).netloc == PUBLIC_HOST else "cross-site"
    if site not in {"same-origin", "none", None}:
        raise HTTPException(403, "This form was sent from another site. Open our own page and try again.")


def item_keys(customer: MarketplaceCustomer) -> list[str]:
    """Under what the customer may have an item; a new one goes under the first."""
    keys = [customer.key]
    if customer.customer_identifier is not None:
        # SNS messages name a customer of a legacy product by this alone, and their handlers write to that item.
        keys.insert(0 if HAS_SNS_HANDLERS else 1, customer.customer_identifier)
    return keys


def is_registered(key: str) -> bool:
    answer = dynamodb.get_item(TableName=TABLE, Key={"customerIdentifier": {"S": key}}, ConsistentRead=True)
    return "contactEmail" in answer.get("Item", {})


def page(content: str) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Acme</title>{content}',
        headers={"Cache-Control": "no-store", "Content-Security-Policy": "frame-ancestors 'none'"},
    )


@app.get("/signup")
def show_signup(registration: Annotated[Registration | None, Depends(get_registration)]) -> HTMLResponse:
    if registration is None:
        return page("<p>In AWS Marketplace, open Manage subscriptions and choose Set up your account.")
    hidden = f'<input type="hidden" name="registration_id" value="{escape(registration.id)}">'
    return page(
        f"""<form method="post" action="decline">
          {hidden}
          <p>AWS account ending in {registration.customer.aws_account_id[-4:]} <button>Not mine</button>
        </form>
        <form method="post">
          {hidden}
          <p><label>Company <input name="company" type="text" required></label>
          <p><label>Contact <input name="person" type="text" required></label>
          <p><label>Phone <input name="phone" type="tel" required></label>
          <p><label>E-mail <input name="email" type="email" required></label>
          <p><button>Sign up</button>
        </form>"""
    )


@app.post("/signup", dependencies=[Depends(refuse_foreign_posts)])
def sign_up(
    request: Request, registration_id: Field, company: Field, person: Field, phone: Field, email: Field
) -> Response:
    registration = get_registration_by_id(request, registration_id)
    if registration is None:
        raise HTTPException(400, "This took too long. Choose Set up your account in AWS Marketplace once more.")
    customer, now = registration.customer, datetime.now(UTC)
    values: dict[str, str | bool] = {
        "companyName": company,
        "contactPerson": person,
        "contactPhone": phone,
        "contactEmail": email,
        "productCode": customer.product_code,
    }
    if HAS_SNS_HANDLERS:  # each version of the sample has names of its own
        values |= {"customerAWSAccountID": customer.aws_account_id, "created": str(int(now.timestamp() * 1000))}
    else:
        values |= {
            "customerAwsAccountId": customer.aws_account_id,
            "successfully_registered": True,
            "updated_at": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
    key, *other_keys = item_keys(customer)
    is_known = any(is_registered(other) for other in other_keys)
    if not is_known:
        try:
            # An update, as an event may have written to the item before the buyer comes, and that stays.
            dynamodb.update_item(
                TableName=TABLE,
                Key={"customerIdentifier": {"S": key}},
                UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in values),
                ConditionExpression="attribute_not_exists(contactEmail)",
                ExpressionAttributeValues={
                    f":{name}": {"BOOL": value} if isinstance(value, bool) else {"S": value}
                    for name, value in values.items()
                },
            )
        except dynamodb.exceptions.ConditionalCheckFailedException:
            is_known = True
    if is_known:
        raise HTTPException(409, "This AWS Marketplace subscription has been set up already: log in.")
    response = PlainTextResponse(f"Welcome, {email}! We are setting up your account.")
    complete_registration(request, response, registration)
    return response


@app.post("/decline", dependencies=[Depends(refuse_foreign_posts)])
def decline(request: Request, registration_id: Field) -> Response:
    response = page("<p>We have forgotten this AWS account, and set up nothing.")
    registration = get_registration_by_id(request, registration_id)
    if registration is not None:
        discard_registration(request, response, registration)
    return response
