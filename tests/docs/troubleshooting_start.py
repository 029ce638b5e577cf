"""Reproductions of what raises at start, and in the code of a host or of its tests."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest
import redis.asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from starlette_marketplace import (
    Marketplace,
    MarketplaceCustomer,
    MarketplaceMiddleware,
    MarketplaceSettings,
    Registration,
    SettingsError,
    get_registration,
)
from starlette_marketplace.registration.redis import RedisCache
from starlette_marketplace.testing import add_registration, make_customer
from tests.docs.troubleshooting_scene import Reproduction, Scene
from tests.support.hosts import starlette_middleware
from tests.support.observability import older_opentelemetry

ENVIRONMENT = {"MARKETPLACE_SECRET_KEY": "0123456789abcdef" * 2, "MARKETPLACE_PRODUCT_CODES": "acme"}


def raised_by(kind: type[Exception], function: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        function()
    assert type(caught.value) is kind
    return str(caught.value)


def setting(**values: Any) -> Reproduction:
    """Settings with a mistake, given by code."""
    return lambda scene: raised_by(SettingsError, lambda: replace(scene.settings, **values))


def variable(name: str, value: str) -> Reproduction:
    """An environment with a mistake."""
    environ = ENVIRONMENT | {f"MARKETPLACE_{name}": value}
    return lambda _: raised_by(SettingsError, lambda: MarketplaceSettings.from_env(environ))


def with_a_key_that_repeats_one_character(_: Scene) -> str:
    environ = ENVIRONMENT | {"MARKETPLACE_SECRET_KEY": "x" * 32}
    return raised_by(SettingsError, lambda: MarketplaceSettings.from_env(environ))


def starting(**values: Any) -> Reproduction:
    """A server that does not start; the text is what it prints."""

    def start(scene: Scene) -> str:
        app = starlette_middleware(settings=replace(scene.settings, **values))
        sent: list[Any] = []

        async def run() -> None:
            async def receive() -> Any:
                return {"type": "lifespan.startup"}

            async def send(message: Any) -> None:
                sent.append(message)

            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)

        with pytest.raises(Exception) as caught:  # noqa: PT011 - the message is what is looked at
            anyio.run(run)
        assert sent == [{"type": "lifespan.startup.failed", "message": str(caught.value)}]
        return str(caught.value)

    return start


def without_redis_py(scene: Scene) -> None:
    scene.environment.setitem(sys.modules, "redis", None)
    scene.environment.delitem(sys.modules, "starlette_marketplace.registration.redis", raising=False)


def starting_without_redis_py(scene: Scene) -> str:
    without_redis_py(scene)
    return raised_by(SettingsError, lambda: Marketplace(replace(scene.settings, cache_url="redis://localhost")))


def importing_without_redis_py(scene: Scene) -> str:
    without_redis_py(scene)
    return raised_by(ImportError, lambda: importlib.import_module("starlette_marketplace.registration.redis"))


def importing_with_an_old_opentelemetry(scene: Scene) -> str:
    with older_opentelemetry(scene.environment):
        return raised_by(ImportError, lambda: importlib.import_module("starlette_marketplace.otel"))


def without_variables(scene: Scene) -> str:
    """The server is started without any, and prints the sentence."""
    for name in ENVIRONMENT:
        scene.environment.delenv(name, raising=False)
    with pytest.raises(SettingsError) as caught, TestClient(starlette_middleware()):
        pass
    return str(caught.value)


def with_both(scene: Scene) -> str:
    options: dict[str, Any] = {"settings": scene.settings}
    marketplace = Marketplace(scene.settings)
    return raised_by(TypeError, lambda: MarketplaceMiddleware(PlainTextResponse(), marketplace, **options))


def with_part(**arguments: Any) -> Reproduction:
    return lambda scene: raised_by(TypeError, lambda: Marketplace(**{"settings": scene.settings} | arguments))


class AsyncResolver:
    async def resolve(self, token: str) -> MarketplaceCustomer:
        raise AssertionError


def with_settings_for_a_marketplace(scene: Scene) -> str:
    app = Starlette()
    app.add_middleware(MarketplaceMiddleware, scene.settings)  # type: ignore[arg-type]
    return raised_by(TypeError, lambda: TestClient(app).get("/"))


def beside_the_app_that_has_the_middleware(scene: Scene) -> str:
    """The middleware is added to an app that is mounted, and the one that answers stands beside it."""

    async def signup(request: Request) -> Response:
        return PlainTextResponse(str(get_registration(request)))

    inner = Starlette(routes=[Route("/signup", signup)])
    inner.add_middleware(MarketplaceMiddleware, settings=scene.settings)
    app = Starlette(routes=[Route("/signup", signup), Mount("/inner", inner)])
    with TestClient(app) as client:
        assert client.get("/inner/signup").text == "None"
        return raised_by(RuntimeError, lambda: client.get("/signup"))


def customer(**fields: Any) -> Reproduction:
    values = {"aws_account_id": "123456789012", "product_code": "acme", "license_arn": "arn:aws:license-manager::1:l"}
    return lambda _: raised_by(ValueError, lambda: MarketplaceCustomer(**values | fields))


def customer_of_another_product(scene: Scene) -> str:
    customer = make_customer(product_code="another")
    return raised_by(ValueError, lambda: add_registration(TestClient(Starlette()), scene.settings, customer=customer))


def customer_without_a_license(scene: Scene) -> str:
    customer = make_customer(license_arn=None, customer_identifier="c-1")
    settings = replace(scene.settings, legacy_product_codes="none")
    return raised_by(ValueError, lambda: add_registration(TestClient(Starlette()), settings, customer=customer))


def of_the_local_marketplace(use: Callable[[Scene], object]) -> Reproduction:
    return lambda scene: raised_by(ValueError, lambda: use(scene))


START: dict[str, Reproduction] = {
    "several-settings": without_variables,
    "secret-key": setting(secret_key=""),
    "short-key": setting(secret_key="k" * 31),
    "short-fallback": setting(secret_key_fallbacks="k" * 31),
    "published-fallback": setting(secret_key_fallbacks="not a secret: only tests sign by it", https_only=True),
    "product-codes": setting(product_codes=""),
    "bad-product-codes": setting(product_codes="acme,"),
    "registration-path": setting(registration_path="register"),
    "signup-url": setting(signup_url="signup"),
    "product-name": setting(product_name="Acme\nAnalytics"),
    "logo-url": setting(product_name="Acme", logo_url="data:image/svg+xml,<svg/>"),
    "logo-without-name": setting(logo_url="/static/logo.svg"),
    "support-url": setting(support_url="support@acme.example"),
    "endpoint-url": setting(endpoint_url="localhost:8001"),
    "entitlement-endpoint-url": setting(entitlement_endpoint_url="localhost:8001"),
    "agreement-endpoint-url": setting(agreement_endpoint_url="localhost:8001"),
    "published-key": setting(secret_key="not a secret: only tests sign by it", https_only=True),
    "repeated-key": with_a_key_that_repeats_one_character,
    "legacy-codes": setting(legacy_product_codes="acme,,b"),
    "region-space": setting(region_name="us east 1"),
    "external-id-space": setting(role_arn="arn:aws:iam::123456789012:role/name", role_external_id="a\n"),
    "role-arn": setting(role_arn="arn:aws:sts::123456789012:assumed-role/name/session"),
    "role-external-id": setting(role_external_id="a"),
    "seller-account-id": setting(seller_account_id="1234-5678-9012"),
    "cache-url": setting(cache_url="localhost:6379"),
    "cache-url-unreadable": lambda scene: raised_by(
        SettingsError, lambda: Marketplace(replace(scene.settings, cache_url="redis://:pass/word@localhost"))
    ),
    "no-redis-py": starting_without_redis_py,
    "session-cookie": setting(session_cookie="market place"),
    "session-domain": setting(session_domain="https://acme.example"),
    "too-small": setting(deadline=0),
    "no-number": variable("DEADLINE", "12s"),
    "no-whole-number": setting(max_attempts="3"),
    "not-true-or-false": variable("HTTPS_ONLY", "maybe"),
    "no-bool": setting(https_only="false"),
    "no-string": setting(secret_key=None),
    "no-string-or-none": setting(seller_account_id=123456789012),
    "no-strings": setting(product_codes={"acme"}),
    "no-profile": starting(profile_name="seller"),
    "bad-region": starting(region_name="us_east_1"),
    "both": with_both,
    "class-given": with_part(resolver=AsyncResolver),
    "no-method": with_part(shared_cache={}),
    "part-is-async": with_part(resolver=AsyncResolver()),
    "redis-async": lambda _: raised_by(TypeError, lambda: RedisCache(redis.asyncio.Redis())),  # type: ignore[arg-type]
    "redis-no-client": lambda _: raised_by(TypeError, lambda: RedisCache("redis://localhost")),  # type: ignore[arg-type]
    "redis-url": lambda _: raised_by(ValueError, lambda: RedisCache.from_url("redis://localhost:port")),
    "redis-client-given": with_part(shared_cache=redis.Redis()),
    "hook-not-callable": with_part(on_resolved="/login"),
    "no-such-hook": with_part(on_resolve=lambda event: None),
    "settings-kind": with_part(settings={}),
    "marketplace-kind": with_settings_for_a_marketplace,
    "redis-missing": importing_without_redis_py,
    "opentelemetry-old": importing_with_an_old_opentelemetry,
    "not-installed": beside_the_app_that_has_the_middleware,
    "account-id": customer(aws_account_id="12345678901"),
    "no-product-code": customer(product_code=""),
    "no-key": customer(license_arn=None),
    "too-long": customer(agreement_id="a" * 513),
    "no-registration-dict": lambda _: raised_by(ValueError, lambda: Registration.from_dict({"user": "ada"})),
    "another-product": customer_of_another_product,
    "license-in-test": customer_without_a_license,
    "no-scenario": of_the_local_marketplace(lambda scene: scene.marketplace.issue_token("newproduct")),
    "not-bought-again": of_the_local_marketplace(lambda scene: scene.marketplace.buy_again("legacy-product")),
    "delay": of_the_local_marketplace(lambda scene: setattr(scene.marketplace, "delay", -1)),
    "error-rate": of_the_local_marketplace(lambda scene: setattr(scene.marketplace, "error_rate", 25)),
    "token-life": of_the_local_marketplace(lambda scene: setattr(scene.marketplace, "token_life", 0)),
}
