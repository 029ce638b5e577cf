"""What the oldest botocore makes of a buyer with its own model of AWS: run by a Python that has the lowest versions."""

import logging
import os
import sys

import botocore
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from starlette_marketplace import MarketplaceMiddleware, MarketplaceSettings, get_registration
from starlette_marketplace.testing import run_local_marketplace

SETTINGS = MarketplaceSettings(secret_key="k" * 32, product_codes=("acmeanalytics",), https_only=False)


def signup(request: Request) -> Response:
    registration = get_registration(request)
    assert registration is not None
    return JSONResponse([registration.customer.key, registration.customer.agreement_id])


def main() -> None:
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("starlette_marketplace").addHandler(handler)
    app = Starlette(routes=[Route("/signup", signup)])
    app.add_middleware(MarketplaceMiddleware, settings=SETTINGS)
    with run_local_marketplace() as aws:
        os.environ.update(aws.environment())
        with TestClient(app) as client:
            key, agreement_id = client.post("/marketplace/register", data=aws.form()).json()
    assert key.startswith("arn:aws:license-manager:"), key
    assert agreement_id is None, agreement_id
    assert [text.partition(",")[0] for text in warnings] == [
        f"Identities come from {aws.url}",
        f"botocore {botocore.__version__} does not know Metadata.AgreementId",
    ], warnings
    sys.stdout.write(f"botocore {botocore.__version__} finds the licence, and warns that it knows no agreements")


if __name__ == "__main__":
    main()
