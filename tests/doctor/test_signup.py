import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from starlette_marketplace import MarketplaceMiddleware, MarketplaceSettings, Registration, get_registration
from starlette_marketplace.doctor import Finding
from starlette_marketplace.hooks import RegistrationResolved
from tests.doctor.world import HOST, Run, World, examined
from tests.support.fakes import FakeResolver
from tests.support.hosts import LANDING, fastapi_middleware
from tests.support.servers import serve


def app_with(settings: MarketplaceSettings, signup: Callable[[Request], Response]) -> Starlette:
    app = Starlette(routes=[Route("/signup", signup)])
    app.add_middleware(MarketplaceMiddleware, settings=settings, resolver=FakeResolver({}))
    return app


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (HTMLResponse("Sign up"), "ok", "A visitor gets 200 from the signup page {url}/signup."),
        (PlainTextResponse("No", 404), "problem", "A visitor gets 404 from the signup page {url}/signup."),
        (PlainTextResponse("No", 422), "problem", "A visitor gets 422 from the signup page {url}/signup."),
        (PlainTextResponse("No", 500), "problem", "A visitor gets 500 from the signup page {url}/signup."),
        (PlainTextResponse("No", 503), "problem", "A visitor gets 503 from the signup page {url}/signup."),
        (PlainTextResponse("No", 302), "problem", "A visitor gets 302 from the signup page {url}/signup."),
        (PlainTextResponse("No", 401), "warning", "{url}/signup, which requires a login."),
        (PlainTextResponse("No", 403), "warning", "{url}/signup, which requires a login."),
        (RedirectResponse("/login?next=secret"), "warning", "{url}/signup, a redirect to {url}/login."),
        (RedirectResponse("https://id.example/oauth2/authorize"), "warning", "to https://id.example/oauth2/authorize."),
        (RedirectResponse("/signup/?token=secret"), "ok", "{url}/signup, a redirect to {url}/signup/."),
    ],
)
def test_the_signup_page_has_to_be_there_for_a_visitor_without_an_account(
    settings: MarketplaceSettings, environment: pytest.MonkeyPatch, answer: Response, status: str, message: str
) -> None:
    with serve(app_with(settings, lambda _: answer)) as url:
        found = examined(url=url + LANDING)["signup_page"]

    assert found.status == status
    assert message.format(url=url) in found.message
    assert ("Let the signup page through without a login" in found.advice) is (status == "warning")
    assert ("Serve a page at signup_url" in found.advice) is (status == "problem")


def test_a_redirect_of_the_signup_page_is_not_followed(settings: MarketplaceSettings) -> None:
    asked = []

    def elsewhere(request: Request) -> Response:
        asked.append(request)
        return HTMLResponse("Sign up")

    with (
        serve(Starlette(routes=[Route("/", elsewhere)])) as other,
        serve(app_with(settings, lambda _: RedirectResponse(f"{other}/"))) as url,
    ):
        assert examined(url=url + LANDING)["signup_page"].status == "ok"
    assert asked == []


@pytest.mark.parametrize(
    ("variables", "url", "page"),
    [
        ({}, f"{HOST}{LANDING}/", f"{HOST}/signup"),
        ({}, f"{HOST}/shop{LANDING}", f"{HOST}/shop/signup"),
        ({"REGISTRATION_PATH": "/aws"}, f"{HOST}/shop/aws?x=1", f"{HOST}/shop/signup"),
        ({"SIGNUP_URL": "/join?plan=secret"}, f"{HOST}{LANDING}", f"{HOST}/join"),
        ({"SIGNUP_URL": "https://www.shop.example/join"}, f"{HOST}/aws", "https://www.shop.example/join"),
    ],
)
def test_the_signup_page_is_below_the_root_path_of_the_app(
    world: World, environment: pytest.MonkeyPatch, variables: dict[str, str], url: str, page: str
) -> None:
    for name, value in variables.items():
        environment.setenv(f"MARKETPLACE_{name}", value)
    ours = HTMLResponse("<title>Set up your account from AWS Marketplace</title>")
    with serve(ours) as upstream:
        environment.setitem(world.internet.upstreams, "shop.example", upstream)
        found = examined(url=url)["signup_page"]

    assert (found.status, found.message) == ("ok", f"A visitor gets 200 from the signup page {page}.")


def test_without_the_root_path_the_signup_page_is_not_guessed(world: World, environment: pytest.MonkeyPatch) -> None:
    ours = HTMLResponse("<title>Set up your account from AWS Marketplace</title>")
    with serve(ours) as upstream:
        environment.setitem(world.internet.upstreams, "shop.example", upstream)
        found = examined(url=f"{HOST}/shop/aws")["signup_page"]

    assert found.status == "skipped"
    assert "--url does not end in registration_path" in found.message


def test_a_fulfillment_url_that_does_not_work_hides_the_signup(doctor: Callable[..., Run]) -> None:
    run = doctor("--url", "https://csrf.elsewhere.example")

    assert run.one("signup_page", "skipped")["message"] == "See landing_post."
    assert run.one("landing_registration", "skipped")["message"] == "See landing_post."


# A buyer of the local marketplace


@pytest.fixture
def local(world: World, environment: pytest.MonkeyPatch) -> str:
    """The doctor of an app that asks the local marketplace."""
    environment.setenv("MARKETPLACE_ENDPOINT_URL", world.url)
    environment.setenv("MARKETPLACE_PRODUCT_CODES", "acmeanalytics")
    environment.setenv("MARKETPLACE_HTTPS_ONLY", "false")
    return world.url


@contextmanager
def asking(marketplace: str, host: Callable[..., ASGIApp] = fastapi_middleware, **options: object) -> Iterator[str]:
    settings = MarketplaceSettings(
        secret_key="k" * 40, product_codes="acmeanalytics", endpoint_url=marketplace, https_only=False
    )
    with serve(host(settings=settings, **options), lifespan="on") as url:
        yield url + LANDING


def registration_at(url: str) -> Finding:
    return examined(url=url)["landing_registration"]


def test_a_buyer_of_the_local_marketplace_gets_through_to_the_signup_page(
    world: World, local: str, doctor: Callable[..., Run]
) -> None:
    with asking(local) as url:
        run = doctor("--url", url)

    page = url.removesuffix(LANDING) + "/signup"
    assert run.one("landing_registration", "ok")["message"] == (
        f"A buyer of the local marketplace gets a registration, and with it 200 from the signup page {page}."
    )
    assert run.statuses("problem") == []
    *_, call = world.marketplace.resolve_calls
    assert call.scenario == "new-product"


def test_the_signup_page_gets_the_registration(local: str, settings: MarketplaceSettings) -> None:
    seen: list[Registration | None] = []

    def host(settings: MarketplaceSettings) -> Starlette:
        def signup(request: Request) -> Response:
            seen.append(get_registration(request))
            return HTMLResponse("Sign up") if seen[-1] is None else PlainTextResponse("No", 500)

        app = Starlette(routes=[Route("/signup", signup)])
        app.add_middleware(MarketplaceMiddleware, settings=settings)
        return app

    with asking(local, host) as url:
        found = examined(url=url)

    assert found["signup_page"].status == "ok"
    assert found["landing_registration"].status == "problem"
    assert "and with it 500 from the signup page" in found["landing_registration"].message
    visitor, buyer = seen
    assert visitor is None
    assert buyer is not None
    assert buyer.customer.product_code == "acmeanalytics"


@pytest.mark.parametrize("path", ["/help", "https://other.example/signup"])
def test_a_hook_that_answers_for_itself_is_a_warning_and_the_cookie_goes_to_no_other_host(
    local: str, path: str
) -> None:
    def answer(event: RegistrationResolved) -> Response:
        return RedirectResponse(path, 302) if path == "/help" else RedirectResponse(path, 303)

    with asking(local, on_resolved=answer) as url:
        found = registration_at(url)

    assert found.status == "warning"
    assert f"and a registration, a redirect to {path if path[0] == 'h' else url.removesuffix(LANDING) + path}" in (
        found.message
    )
    assert "If a hook on_resolved answers so, all is well" in found.advice


def test_a_redirect_that_leads_nowhere_is_a_warning(local: str) -> None:
    def answer(event: RegistrationResolved) -> Response:
        return PlainTextResponse("", 303)

    with asking(local, on_resolved=answer) as url:
        found = registration_at(url)

    assert (found.status, found.message) == (
        "warning",
        "A buyer of the local marketplace is answered with 303 and a registration, not with a redirect to signup_url.",
    )


def test_an_app_that_refuses_the_buyer_is_a_problem(local: str, settings: MarketplaceSettings) -> None:
    with serve(fastapi_middleware(settings=settings, resolver=FakeResolver({}))) as url:
        found = registration_at(url + LANDING)

    assert found.status == "problem"
    assert found.message == (
        "A buyer of the local marketplace is answered with 400 INVALID_TOKEN, without a registration."
    )
    assert "endpoint_url and product_codes" in found.advice


def test_an_app_that_answers_the_buyer_in_its_own_way_is_a_problem(local: str, settings: MarketplaceSettings) -> None:
    def refuse(event: object) -> Response:
        return HTMLResponse("No", 400)

    with serve(fastapi_middleware(settings=settings, resolver=FakeResolver({}), on_error=refuse)) as url:
        found = registration_at(url + LANDING)

    assert found.message == "A buyer of the local marketplace is answered with 400, without a registration."


@pytest.mark.parametrize("codes", ["*", "other,acmelegacy"])
def test_the_buyer_has_one_of_the_products_of_the_settings(
    world: World, local: str, environment: pytest.MonkeyPatch, codes: str
) -> None:
    environment.setenv("MARKETPLACE_PRODUCT_CODES", codes)
    with asking(local) as url:
        found = registration_at(url)

    scenario = world.marketplace.resolve_calls[-1].scenario
    assert (found.status, scenario) == (("ok", "new-product") if codes == "*" else ("problem", "legacy-product"))


def test_a_product_that_the_local_marketplace_does_not_sell_is_not_tried(
    local: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("MARKETPLACE_PRODUCT_CODES", "5z0rgy2jq4t1bw8xk3n6v9m0a")
    with asking(local) as url:
        found = registration_at(url)

    host = local.removeprefix("http://")
    assert (found.status, found.message) == (
        "skipped",
        f"What answers at {host} sells nothing that product_codes lists.",
    )


@pytest.mark.parametrize("is_there", [True, False])
def test_what_is_no_local_marketplace_gives_no_token(environment: pytest.MonkeyPatch, is_there: bool) -> None:
    with serve(PlainTextResponse("moto")) as url:
        environment.setenv("MARKETPLACE_ENDPOINT_URL", url if is_there else "http://user:hunter2@127.0.0.1:1")
        found = registration_at(HOST + LANDING)

    assert found.status == "skipped"
    assert re.fullmatch(r"What answers at 127\.0\.0\.1:\d+ shows no storefront of a local marketplace\.", found.message)


def test_with_aws_no_buyer_is_tried(world: World) -> None:
    found = registration_at(HOST + LANDING)

    assert (found.status, found.message) == (
        "skipped",
        "Only a local marketplace gives tokens to try, and your app asks AWS.",
    )
    assert len(world.marketplace.resolve_calls) == 2
