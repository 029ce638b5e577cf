# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What type checkers make of our public names: never run, read by mypy (`make check`) and pyright (`make package`).

Each `type: ignore` is a mistake that they have to see: one that they would let pass makes the comment an error.
"""

from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Annotated, assert_type

from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from starlette_marketplace import (
    InvalidTokenError,
    Marketplace,
    MarketplaceCustomer,
    MarketplaceError,
    MarketplaceMiddleware,
    MarketplaceSettings,
    Registration,
    Resolver,
    complete_registration,
    get_registration,
    get_registration_by_id,
)
from starlette_marketplace.hooks import (
    LandingVisited,
    OnError,
    OnRequest,
    OnResolved,
    OnVisit,
    RegistrationFailed,
    RegistrationRequested,
    RegistrationResolved,
)
from starlette_marketplace.local import Agreement, Call, LocalMarketplace, ResolveCall
from starlette_marketplace.registration.redis import RedisCache
from starlette_marketplace.registration.shared_cache import SharedCache
from starlette_marketplace.testing import (
    FakeResolver,
    RunningMarketplace,
    add_registration,
    make_customer,
    registration_form,
    run_local_marketplace,
)

# The functions that a host calls.


def of_a_request(request: Request, connection: HTTPConnection, response: Response, registration: Registration) -> None:
    assert_type(get_registration(request), Registration | None)
    assert_type(get_registration(connection), Registration | None)
    assert_type(get_registration_by_id(request, "id"), Registration | None)
    complete_registration(request, response, registration)
    get_registration_by_id(request)  # type: ignore[call-arg]
    get_registration_by_id(request, None)  # type: ignore[arg-type]
    complete_registration(request, response, get_registration(request))  # type: ignore[arg-type]
    registration = get_registration(request)  # type: ignore[assignment]


def of_a_mounted_marketplace(marketplace: Marketplace, request: Request, response: Response) -> None:
    assert_type(marketplace.get_registrations(request), list[Registration])
    assert_type(marketplace.get_registration(request), Registration | None)
    assert_type(marketplace.get_registration(request, "id"), Registration | None)
    assert_type(marketplace.routes, list[Route])
    assert_type(marketplace.settings, MarketplaceSettings)
    marketplace.complete_registration(response, marketplace.get_registrations(request)[0])
    Starlette(routes=[Mount("/marketplace", routes=marketplace.routes), Mount("/also", marketplace)])


async def of_a_lifespan(marketplace: Marketplace) -> None:
    await marketplace.startup()
    marketplace.shutdown()


def of_a_registration(registration: Registration) -> None:
    assert_type(registration.id, str)
    assert_type(registration.customer, MarketplaceCustomer)
    assert_type(registration.customer.key, str)
    assert_type(registration.customer.aws_account_id, str)
    assert_type(registration.customer.license_arn, str | None)
    assert_type(registration.resolved_at, datetime)
    assert_type(registration.free_trial, bool)
    assert_type(registration.hints["name"], str)
    assert_type(registration.to_dict(), dict[str, object])
    assert_type(Registration.from_dict({}), Registration)
    registration.free_trial = True  # type: ignore[misc]
    registration.customer.product_code = "another"  # type: ignore[misc]


def of_an_error(error: MarketplaceError) -> None:
    assert_type(error.code, str)
    assert_type(error.status, int)
    assert_type(error.message, str)
    assert_type(error.retry_after, int | None)


# FastAPI

api = FastAPI()
api.add_middleware(MarketplaceMiddleware)


@api.get("/signup")
async def signup(registration: Annotated[Registration | None, Depends(get_registration)]) -> str:
    assert_type(registration, Registration | None)
    return registration.customer.key if registration else ""


# Settings

assert_type(MarketplaceSettings.from_env(), MarketplaceSettings)
MarketplaceSettings(secret_key="k" * 32, product_codes=("acme",))
MarketplaceSettings("k" * 32, ("acme",))  # type: ignore[call-arg]
MarketplaceSettings(secret_key=b"k" * 32, product_codes=("acme",))  # type: ignore[arg-type]

# Hooks: plain or async, as functions and as objects.


def refuse(event: RegistrationRequested) -> Response | None:
    assert_type(event.request, Request)
    return PlainTextResponse("Not so fast", 429)


async def refuse_async(event: RegistrationRequested) -> Response | None:
    return refuse(event)


def allow(event: RegistrationRequested) -> None:
    assert_type(event.request, Request)


def go_to(event: RegistrationResolved) -> str:
    assert_type(event.registration, Registration)
    return "/welcome"


async def go_to_async(event: RegistrationResolved) -> str:
    return go_to(event)


async def answer_async(event: RegistrationResolved) -> Response | str | None:
    return PlainTextResponse(go_to(event))


def report(event: RegistrationFailed) -> None:
    assert_type(event.error, MarketplaceError)
    assert_type(event.reference, str)
    assert_type(event.response, Response)


async def report_async(event: RegistrationFailed) -> Response:
    return event.response


def show(event: LandingVisited) -> Response | None:
    assert_type(event.request, Request)
    return event.response


async def show_async(event: LandingVisited) -> None:
    assert_type(event.response, Response)


class Limiter:
    async def __call__(self, event: RegistrationRequested, /) -> Response | None:
        return refuse(event)


def number(event: RegistrationResolved) -> int:
    return 1


async def number_async(event: RegistrationResolved) -> int:
    return 1


def of_nothing() -> None: ...


on_request: list[OnRequest] = [refuse, refuse_async, allow, Limiter(), lambda event: None]
on_resolved: list[OnResolved] = [go_to, go_to_async, answer_async]
on_error: list[OnError] = [report, report_async]
on_visit: list[OnVisit] = [show, show_async]

wrong_event: OnRequest = go_to  # type: ignore[assignment]
wrong_answer: OnResolved = number  # type: ignore[assignment]
wrong_async_answer: OnResolved = number_async  # type: ignore[assignment]
wrong_page: OnVisit = go_to  # type: ignore[assignment]
no_event: OnError = of_nothing  # type: ignore[assignment]

Marketplace(on_request=refuse_async, on_resolved=go_to, on_error=report)
Marketplace(on_request=report)  # type: ignore[arg-type]
Marketplace(on_resolve=go_to)  # type: ignore[call-arg]

# The middleware, in every way in which it is added.

api.add_middleware(MarketplaceMiddleware, marketplace=Marketplace())
api.add_middleware(MarketplaceMiddleware, on_request=refuse, on_resolved=go_to_async, on_error=report, on_visit=show)
api.add_middleware(MarketplaceMiddleware, resolver=FakeResolver({}), settings=MarketplaceSettings.from_env())
api.add_middleware(MarketplaceMiddleware, on_resolve=go_to)  # type: ignore[call-arg]
Starlette(middleware=[Middleware(MarketplaceMiddleware, on_error=report_async)])
MarketplaceMiddleware(api, on_request=refuse)
MarketplaceMiddleware(api, on_request=report)  # type: ignore[arg-type]

# What a host can put in the place of ours.


class OwnResolver:
    def resolve(self, token: str) -> MarketplaceCustomer:
        raise InvalidTokenError("no token is valid")


class AsyncResolver:
    async def resolve(self, token: str) -> MarketplaceCustomer:
        raise InvalidTokenError("no token is valid")


class OwnCache:
    def get(self, key: str) -> str | None: ...

    def set(self, key: str, value: str, ttl: float) -> None: ...

    def lock(self, key: str) -> AbstractContextManager[object]:
        return nullcontext()


resolvers: list[Resolver] = [OwnResolver(), FakeResolver({"token": make_customer()})]
wrong_resolver: Resolver = AsyncResolver()  # type: ignore[assignment]
caches: list[SharedCache] = [OwnCache(), RedisCache.from_url("redis://localhost")]
Marketplace(resolver=OwnResolver(), shared_cache=OwnCache())
Marketplace(resolver=AsyncResolver())  # type: ignore[arg-type]

# What hosts test with.


def of_a_test(client: TestClient, local_marketplace: RunningMarketplace) -> None:
    assert_type(add_registration(client), Registration)
    assert_type(add_registration(client, customer=make_customer(product_code="acme"), free_trial=True), Registration)
    assert_type(registration_form("token"), dict[str, str])
    with run_local_marketplace() as running:
        assert_type(running, RunningMarketplace)
    assert_type(local_marketplace.form("new-product"), dict[str, str])
    assert_type(local_marketplace.marketplace, LocalMarketplace)
    assert_type(local_marketplace.resolve_calls, list[ResolveCall])
    assert_type(local_marketplace.marketplace.calls, list[Call])
    assert_type(local_marketplace.marketplace.cancel(), Agreement)
    assert_type(local_marketplace.marketplace.change_plan(None, "Team"), Agreement)
    assert_type(local_marketplace.marketplace.renew("agmt-1", new_license=True), Agreement)
    make_customer(product="acme")  # type: ignore[call-arg]
