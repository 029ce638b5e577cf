"""An app that has never heard of this package reads from the local marketplace what it would read from AWS."""

import json
import subprocess
import sys

from starlette_marketplace.testing import RunningMarketplace

# As sellers write it: FastAPI, boto3, and the environment says where AWS is.
AN_APP = """
import json
import sys

import boto3
from fastapi import FastAPI, Form
from fastapi.testclient import TestClient

metering = boto3.client("meteringmarketplace")
entitlement = boto3.client("marketplace-entitlement")
agreement = boto3.client("marketplace-agreement")
app = FastAPI()


@app.post("/register")
def register(token: str = Form(alias="x-amzn-marketplace-token")):
    customer = metering.resolve_customer(RegistrationToken=token)
    pages = entitlement.get_paginator("get_entitlements").paginate(
        ProductCode=customer["ProductCode"], Filter={"LICENSE_ARN": [customer["LicenseArn"]]}
    )
    agreement_id = customer["Metadata"]["AgreementId"]
    described = agreement.describe_agreement(agreementId=agreement_id)
    found = agreement.search_agreements(
        catalog="AWSMarketplace",
        filters=[
            {"name": "PartyType", "values": ["Proposer"]},
            {"name": "AgreementType", "values": ["PurchaseAgreement"]},
            {"name": "ResourceIdentifier", "values": [described["proposalSummary"]["resources"][0]["id"]]},
        ],
    )
    return {
        "bought": {
            row["Dimension"]: next(iter(row["Value"].values()))
            for page in pages
            for row in page["Entitlements"]
        },
        "status": described["status"],
        "lasts_for_days": (described["endTime"] - described["startTime"]).days,
        "found": [summary["agreementId"] == agreement_id for summary in found["agreementViewSummaries"]],
    }


with TestClient(app) as browser:
    answer = browser.post("/register", data=json.load(sys.stdin))
    print(answer.text)
assert "starlette_marketplace" not in sys.modules
"""


def test_a_foreign_app_reads_what_was_bought(served_marketplace: RunningMarketplace) -> None:
    served_marketplace.reset()
    form = served_marketplace.form("new-product")
    served_marketplace.change_plan(None, "Enterprise")

    app = subprocess.run(
        [sys.executable, "-c", AN_APP],
        input=json.dumps(form),
        env=served_marketplace.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert app.returncode == 0, app.stderr
    assert json.loads(app.stdout) == {
        "bought": {"users": 500, "sso": True, "tier": "enterprise", "storage_tb": 40.0},
        "status": "ACTIVE",
        "lasts_for_days": 365,
        "found": [True],
    }
