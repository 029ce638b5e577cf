from dataclasses import replace
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient, WebSocketDenialResponse

from starlette_marketplace import (
    Entitlement,
    MarketplaceMiddleware,
    MarketplaceSettings,
    Registration,
    complete_registration,
    discard_registration,
    get_agreement,
    get_entitlements,
    get_registration,
    get_registration_by_id,
    get_registrations,
    refuse_foreign_posts,
)
from starlette_marketplace.testing import FakeReader, add_registration, make_agreement, make_customer
from tests.support.fakes import FakeResolver
from tests.support.hosts import LANDING, fastapi_middleware, form

OWN: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
    {"Origin": "https://app.example"},
    {"Origin": "https://APP.example"},
    {"Origin": "https://app.example", "Host": "app.example:443"},
    {},
]
FOREIGN: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://app.example"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "same-site, same-origin"},
    {"Origin": "https://evil.example"},
    {"Origin": "https://app.example.evil.example"},
    {"Origin": "https://app.example:444"},
    {"Origin": "http://[evil"},
    {"Origin": "app.example"},
    {"Origin": "null"},
    {"Origin": "null", "Host": ""},
    {"Origin": "http://app.example", "Host": "app.example:443"},
]


def test_a_websocket_can_read_the_registration(settings: MarketplaceSettings) -> None:
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware, settings=settings, resolver=FakeResolver())

    @app.websocket("/live")
    async def live(websocket: WebSocket) -> None:
        await websocket.accept()
        registration = get_registration(websocket)
        await websocket.send_text(registration.customer.key if registration else "nobody")
        await websocket.close()

    with TestClient(app, base_url="https://app.example") as client:
        client.post(LANDING, data=form("good"), follow_redirects=False)
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        with client.websocket_connect("/live", headers={"cookie": cookie}) as websocket:
            assert websocket.receive_text().startswith("arn:aws:license-manager")


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (get_registration, ()),
        (get_registrations, ()),
        (get_registration_by_id, ("x",)),
        (complete_registration, (Response(), None)),
        (discard_registration, (Response(), None)),
    ],
)
def test_without_the_middleware_the_error_says_how_to_install_it(function: Any, arguments: tuple[Any, ...]) -> None:
    request = Request({"type": "http", "headers": []})
    with pytest.raises(RuntimeError, match=r"call app\.add_middleware\(MarketplaceMiddleware\)"):
        function(request, *arguments)


def test_the_dependency_adds_nothing_to_the_api_of_the_host(settings: MarketplaceSettings) -> None:
    app = fastapi_middleware(settings=settings)
    assert isinstance(app, FastAPI)
    assert "parameters" not in app.openapi()["paths"]["/signup"]["get"]
    assert "requestBody" not in app.openapi()["paths"]["/signup"]["get"]


def test_a_plain_endpoint_can_depend_on_the_registration(settings: MarketplaceSettings) -> None:
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware, settings=settings, resolver=FakeResolver())

    @app.get("/signup")
    def signup(registration: Annotated[Registration | None, Depends(get_registration)]) -> str:
        return registration.customer.aws_account_id if registration else "nobody"

    with TestClient(app, base_url="https://app.example") as client:
        assert client.get("/signup").json() == "nobody"
        assert client.post(LANDING, data=form("good")).json() == "123456789012"


def test_all_registrations_of_the_browser_are_given_newest_first(settings: MarketplaceSettings) -> None:
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware, settings=settings, resolver=FakeResolver())

    @app.get("/keys")
    def keys(registrations: Annotated[list[Registration], Depends(get_registrations)]) -> list[str]:
        return [registration.customer.key for registration in registrations]

    with TestClient(app, base_url="https://app.example") as client:
        customers = [make_customer(license_arn=f"arn:license-{number}") for number in range(2)]
        for customer in customers:
            add_registration(client, settings, customer=customer)
        assert client.get("/keys").json() == [customer.key for customer in reversed(customers)]


def test_entitlements_and_agreement_are_read_where_only_the_middleware_is(settings: MarketplaceSettings) -> None:
    customer = make_customer()
    users = Entitlement(dimension="users", value=25, expires_at=None)
    agreement = make_agreement(id=customer.agreement_id or "", status="RENEWED")
    reader = FakeReader({customer.key: [users]}, {agreement.id: agreement})
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware, settings=settings, resolver=FakeResolver(), reader=reader)

    @app.get("/plan")
    async def plan(request: Request, refresh: bool = False) -> dict[str, object]:
        [entitlement] = await get_entitlements(request, customer, refresh=refresh)
        known = await get_agreement(request, agreement.id, refresh=refresh)
        return {"value": entitlement.value, "status": known.status}

    with TestClient(app) as client:
        for _ in range(2):
            assert client.get("/plan").json() == {"value": 25, "status": "RENEWED"}
        assert reader.calls == [customer.key, agreement.id]
        reader.entitlements[customer.key] = [replace(users, value=50)]
        reader.agreements[agreement.id] = replace(agreement, status="CANCELLED")
        assert client.get("/plan?refresh=true").json() == {"value": 50, "status": "CANCELLED"}


def test_a_registration_that_the_visitor_discards_is_gone_and_the_others_stay(settings: MarketplaceSettings) -> None:
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware, settings=settings, resolver=FakeResolver())

    @app.post("/not-mine")
    def not_mine(request: Request, response: Response) -> None:
        registration = get_registration(request)
        assert registration is not None
        discard_registration(request, response, registration)

    @app.get("/keys")
    def keys(request: Request) -> list[str]:
        return [registration.customer.key for registration in get_registrations(request)]

    with TestClient(app, base_url="https://app.example") as client:
        for number in range(2):
            add_registration(client, settings, customer=make_customer(license_arn=f"arn:license-{number}"))
        client.post("/not-mine")
        assert client.get("/keys").json() == ["arn:license-0"]


def guarded_fastapi() -> FastAPI:
    app = FastAPI(dependencies=[Depends(refuse_foreign_posts)])

    @app.api_route("/", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def answer() -> str:
        return "done"

    @app.websocket("/live")
    async def live(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    return app


def guarded_starlette() -> Starlette:
    async def answer(request: Request) -> Response:
        refuse_foreign_posts(request)
        return PlainTextResponse("done")

    return Starlette(routes=[Route("/", answer, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])])


@pytest.mark.parametrize("app", [guarded_fastapi(), guarded_starlette()], ids=["FastAPI", "Starlette"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_what_changes_something_is_refused_when_another_site_has_sent_it(app: Any, method: str) -> None:
    client = TestClient(app, base_url="https://app.example")
    for headers in FOREIGN:
        assert client.request(method, "/", headers=headers).status_code == 403, headers
    for headers in OWN:
        assert client.request(method, "/", headers=headers).status_code == 200, headers


@pytest.mark.parametrize("app", [guarded_fastapi(), guarded_starlette()], ids=["FastAPI", "Starlette"])
def test_another_site_can_link_to_a_page(app: Any) -> None:
    client = TestClient(app, base_url="https://app.example")
    for headers in FOREIGN:
        assert client.get("/", headers=headers).status_code == 200


def test_a_websocket_of_another_site_is_refused() -> None:
    client = TestClient(guarded_fastapi(), base_url="https://app.example")
    with client.websocket_connect("/live", headers={"Origin": "https://testserver"}):
        pass
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect("/live", headers=FOREIGN[0]):
        pass
    assert caught.value.status_code == 403


def test_the_post_of_aws_marketplace_is_not_refused(settings: MarketplaceSettings) -> None:
    app = guarded_fastapi()
    app.add_middleware(MarketplaceMiddleware, settings=settings, resolver=FakeResolver())
    client = TestClient(app, base_url="https://app.example", follow_redirects=False)
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://aws.amazon.example"}
    assert client.post(LANDING, data=form("good"), headers=headers).status_code == 303
