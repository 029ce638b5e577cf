import json
import os
from pathlib import Path
from typing import Any

import boto3
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from pydantic_settings import BaseSettings, SettingsConfigDict

from starlette_marketplace import MarketplaceMiddleware, MarketplaceSettings, get_registration


class ShopSettings(BaseSettings):
    """The host's own settings with ours among them: MARKETPLACE__SECRET_KEY, MARKETPLACE__PRODUCT_CODES and so on."""

    model_config = SettingsConfigDict(env_nested_delimiter="__")

    database_url: str = "sqlite:///shop.db"
    marketplace: MarketplaceSettings


def from_pydantic() -> MarketplaceSettings:
    return ShopSettings().marketplace


def from_environment() -> MarketplaceSettings:
    """SHOP_MARKETPLACE_PRODUCT_CODES and so on, and what is named here wins."""
    return MarketplaceSettings.from_env(prefix="SHOP_MARKETPLACE_", signup_url="/signup?from=aws", **read_keys())


def from_arguments() -> MarketplaceSettings:
    return MarketplaceSettings(product_codes=["acmeanalytics", "acmelegacy"], https_only=False, **read_keys())


def read_keys() -> dict[str, Any]:
    """The keys, as JSON {"secret_key": "...", "secret_key_fallbacks": ["..."]}, from a file or from Secrets Manager."""
    file = os.environ.get("SHOP_KEYS_FILE")  # what Docker, Kubernetes and systemd make of a secret
    if file:
        return json.loads(Path(file).read_text())
    return json.loads(boto3.client("secretsmanager").get_secret_value(SecretId="shop/marketplace")["SecretString"])


def create_app(settings: MarketplaceSettings) -> FastAPI:
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware, settings=settings)

    @app.get("/signup")
    def show_signup(request: Request) -> PlainTextResponse:
        return PlainTextResponse("Welcome from AWS Marketplace!" if get_registration(request) else "Welcome!")

    return app


app = create_app(from_pydantic())  # or from_environment(), or from_arguments()
