import socket
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from starlette.responses import HTMLResponse, RedirectResponse, Response

from starlette_marketplace import MarketplaceSettings, errors
from starlette_marketplace.doctor import landing
from starlette_marketplace.hooks import RegistrationFailed
from starlette_marketplace.registration.responses import Seller, landing_page
from tests.doctor.world import (
    HOST,
    LANDING_CHECKS,
    Plant,
    Run,
    World,
    asked,
    examined,
)
from tests.support.fakes import CUSTOMER, FakeResolver
from tests.support.hosts import LANDING, fastapi_middleware
from tests.support.servers import serve

LANDING_FAULTS = {
    "plain-http": Plant(
        "landing_url",
        "problem",
        "http://127.1.2.3:9/marketplace/register is not HTTPS",
        "put the https URL into your listing",
        url="http://127.1.2.3:9",
    ),
    "nobody-listens": Plant(
        "landing_get",
        "problem",
        "GET gets no answer: Connection refused.",
        "that your app is running",
        url="http://127.1.2.3:9",
    ),
    "no-such-name": Plant(
        "landing_get",
        "problem",
        "GET gets no answer: Tunnel connection failed: 502",
        "Check the name in the DNS",
        url="https://nowhere.invalid",
    ),
    "certificate": Plant(
        "landing_get",
        "problem",
        "GET gets no answer: its certificate is not trusted (unable to get local issuer certificate).",
        "Install a certificate of a public authority for this host name",
        url="https://strange.example",
    ),
    "wrong-path": Plant(
        "landing_get",
        "problem",
        "GET is answered with 404.",
        "Correct the path (registration_path, or the mount's prefix and /register)",
        url=f"{HOST}/aws",
    ),
    "wrong-path-post": Plant(
        "landing_post",
        "problem",
        "POST is answered with 404.",
        "or install MarketplaceMiddleware",
        url=f"{HOST}/aws",
    ),
    "get-not-answered": Plant(
        "landing_get",
        "problem",
        "GET is answered with 405.",
        "Another route answers at this address: install MarketplaceMiddleware",
        url="https://status-405.elsewhere.example",
    ),
    "all-routes-caught": Plant(
        "landing_get",
        "warning",
        "GET is answered with 200, but not with the page of this package.",
        "such as a route that catches all",
        url="https://spa.elsewhere.example",
    ),
    "all-routes-caught-post": Plant(
        "landing_post",
        "problem",
        "POST is answered with 200.",
        "Another route answers at this address",
        url="https://spa.elsewhere.example",
    ),
    "accepts-anything": Plant(
        "landing_post",
        "problem",
        "answered with 303 and a registration, as if it were a customer's.",
        "Your app asks something else than AWS",
        url="https://accepts.elsewhere.example",
    ),
    "own-pages-of-hooks": Plant(
        "landing_post",
        "warning",
        "answered with 400, but not by the JSON of this package.",
        "If a hook on_error answers so, all is well.",
        url="https://own-pages.elsewhere.example",
    ),
    "own-redirects-of-hooks": Plant(
        "landing_post",
        "warning",
        "answered with 303, a redirect to https://own-redirect.elsewhere.example/help, but not by the JSON",
        "If not, something else answers at this address",
        url="https://own-redirect.elsewhere.example",
    ),
    "login-for-forms-behind-another-page": Plant(
        "landing_post",
        "problem",
        "POST is answered with 303, a redirect to https://login-after.elsewhere.example/login.",
        "If it is a login page",
        url="https://login-after.elsewhere.example",
    ),
    "login-before-it": Plant(
        "landing_post",
        "problem",
        "POST is answered with 302, a redirect to https://login.elsewhere.example/login.",
        "If it is a login page, authentication stands before this package",
        url="https://login.elsewhere.example",
    ),
    "login-for-forms": Plant(
        "landing_post",
        "warning",
        "is answered with 302, a redirect to https://asks-to-log-in.elsewhere.example/account/sign-in, but",
        "let the fulfillment URL through without it",
        url="https://asks-to-log-in.elsewhere.example",
    ),
    "redirect-of-everything": Plant(
        "landing_post",
        "problem",
        "POST is answered with 302, a redirect to https://shop.elsewhere.example/shop.",
        "If not, put the URL at its end into the listing, and run doctor with that one.",
        url="https://shop.elsewhere.example",
    ),
    "redirect-of-forms": Plant(
        "landing_post",
        "problem",
        "POST is answered with 301, a redirect to https://moved-post.elsewhere.example/marketplace/register/.",
        "put the URL at its end into the listing",
        url="https://moved-post.elsewhere.example",
    ),
    "redirect-to-nowhere": Plant(
        "landing_get",
        "problem",
        "GET is answered with 302, a redirect to what is not a URL.",
        "If it is a login page",
        url="https://malformed.elsewhere.example",
    ),
    "redirect-of-forms-to-nowhere": Plant(
        "landing_post",
        "problem",
        "POST is answered with 302, a redirect to what is not a URL",
        "If it is a login page",
        url="https://malformed-post.elsewhere.example",
    ),
    "redirect": Plant(
        "landing_post",
        "problem",
        "POST is answered with 308, a redirect to https://www.shop.example/marketplace/register.",
        "put the URL at its end into the listing",
        url="https://moved.elsewhere.example",
    ),
    "csrf-by-origin": Plant(
        "landing_post",
        "problem",
        "POST is answered with 403 by a CSRF protection.",
        "put MarketplaceMiddleware outside of that middleware",
        url="https://csrf.elsewhere.example",
    ),
    "csrf-by-token": Plant(
        "landing_post",
        "problem",
        "POST is answered with 403 by a CSRF protection.",
        "exempt the fulfillment URL",
        url="https://token-csrf.elsewhere.example",
    ),
    **{
        f"csrf-by-{kind}": Plant(
            "landing_post",
            "problem",
            f"POST is answered with {status} by a CSRF protection.",
            "exempt the fulfillment URL",
            url=f"https://{kind}.elsewhere.example",
        )
        for kind, status in (("json-csrf", 400), ("origin", 403))
    },
    **{
        f"https-taken-for-http-{check}": Plant(
            check,
            "problem",
            f"{method} is answered with 307, a redirect to https://loop.elsewhere.example/register.",
            "let its server trust X-Forwarded-Proto of the proxy (uvicorn: --forwarded-allow-ips)",
            url="https://loop.elsewhere.example/register?plan=1",
        )
        for check, method in (("landing_get", "GET"), ("landing_post", "POST"))
    },
    "https-to-http": Plant(
        "landing_get",
        "problem",
        "GET is answered with 301, a redirect to http://downgrade.elsewhere.example/marketplace/register.",
        "let its server trust X-Forwarded-Proto",
        url="https://downgrade.elsewhere.example",
    ),
    "rate-limit": Plant(
        "landing_get",
        "problem",
        "GET is answered with 429.",
        "A rate limit stands before your app",
        url="https://status-429.elsewhere.example",
    ),
    "host-not-allowed": Plant(
        "landing_get",
        "problem",
        "GET is answered with 400: the host name is not allowed.",
        "Add it to allowed_hosts of TrustedHostMiddleware.",
        url="https://names.elsewhere.example",
    ),
    "host-not-allowed-post": Plant(
        "landing_post",
        "problem",
        "POST is answered with 400: the host name is not allowed.",
        "Add it to allowed_hosts",
        url="https://names.elsewhere.example",
    ),
    "firewall": Plant(
        "landing_post",
        "problem",
        "POST is answered with 403.",
        "A firewall (WAF), a CDN or authentication stands before your app",
        url="https://post-403.elsewhere.example",
    ),
    "bad-gateway": Plant(
        "landing_get",
        "problem",
        "GET is answered with 502.",
        "The proxy before your app does not reach it",
        url="https://status-502.elsewhere.example",
    ),
    "not-known": Plant(
        "landing_post",
        "problem",
        "POST is answered with 418.",
        "See the log of your app",
        url="https://post-418.elsewhere.example",
    ),
    "no-json-of-ours": Plant(
        "landing_post",
        "warning",
        "answered with 400, but not by the JSON of this package.",
        "If a hook on_error answers so, all is well",
        url="https://nonsense.elsewhere.example",
    ),
    "hosts-credentials": Plant(
        "landing_post",
        "problem",
        "answered with 503 CREDENTIALS: your app cannot call AWS with its own configuration",
        "run doctor where your app runs, with its environment",
        url="https://code-credentials.elsewhere.example",
    ),
    "hosts-network": Plant(
        "landing_post",
        "problem",
        "answered with 503 AWS_UNAVAILABLE: your app does not reach AWS",
        "let your app reach metering.marketplace.<region>.amazonaws.com",
        url="https://code-aws-unavailable.elsewhere.example",
    ),
    "hosts-rate": Plant(
        "landing_post",
        "warning",
        "answered with 503 THROTTLED: too many buyers are waiting, or AWS throttles your app.",
        "Run doctor again in a minute.",
        url="https://code-throttled.elsewhere.example",
    ),
    "form-read-before": Plant(
        "landing_post",
        "problem",
        "503 MISSING_TOKEN: the form arrived without its fields.",
        "Put MarketplaceMiddleware outside of what reads the form",
        url="https://code-missing-token.elsewhere.example",
    ),
}


@pytest.mark.parametrize("fault", LANDING_FAULTS.values(), ids=LANDING_FAULTS)
def test_a_fault_of_the_landing_url_is_found_and_explained(fault: Plant) -> None:
    url = fault.url if fault.url.count("/") > 2 else fault.url + LANDING
    found = asked(url)

    assert tuple(found) == LANDING_CHECKS
    assert found[fault.check].status == fault.status
    assert fault.message in found[fault.check].message
    assert fault.advice in found[fault.check].advice


@pytest.mark.parametrize("status", [302, 303])
def test_a_hook_that_sends_refused_buyers_elsewhere_is_no_problem(settings: MarketplaceSettings, status: int) -> None:
    def to_the_help(event: RegistrationFailed) -> Response:
        return RedirectResponse("/help/aws?reason=secret", status)

    with serve(fastapi_middleware(settings=settings, on_error=to_the_help)) as url:
        found = asked(url + LANDING)["landing_post"]

    assert found.status == "warning"
    assert found.message == (
        f"A form with a made-up token is answered with {status}, a redirect to {url}/help/aws, but not by the JSON of "
        "this package."
    )
    assert "If a hook on_error answers so, all is well." in found.advice


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: RedirectResponse("/signup?error=expired", 303), "answered with 303, a redirect to "),
        (lambda: RedirectResponse("/sign-in?error=expired", 302), "answered with 302, a redirect to "),
        (lambda: HTMLResponse("Go back to AWS Marketplace."), "answered with 200, but not by the JSON"),
        (lambda: HTMLResponse("Go back to AWS Marketplace.", 422), "answered with 422, but not by the JSON"),
        (
            lambda: HTMLResponse('<meta name="csrf-token"><script>let csrf = 1;</script>Go back.', 400),
            "answered with 400, but not by the JSON",
        ),
    ],
)
def test_whatever_a_hook_answers_a_refused_token_with_is_no_problem(
    settings: MarketplaceSettings, answer: Callable[[], Response], message: str
) -> None:
    def refuse(event: RegistrationFailed) -> Response:
        response = answer()
        response.set_cookie("session", "0123")
        return response

    with serve(fastapi_middleware(settings=settings, on_error=refuse)) as url:
        found = asked(url + LANDING)["landing_post"]

    assert found.status == "warning"
    assert message in found.message
    assert "If a hook on_error" in found.advice


@pytest.mark.parametrize("domain", [None, "shop.example"])
@pytest.mark.parametrize("https_only", [True, False])
def test_a_host_that_lets_a_made_up_token_in_is_a_problem(
    settings: MarketplaceSettings, https_only: bool, domain: str | None
) -> None:
    settings = replace(settings, https_only=https_only, session_domain=domain, session_cookie="my_shop-1")
    with serve(fastapi_middleware(settings=settings, resolver=FakeResolver({"made-up": CUSTOMER}))) as url:
        found = asked(url + LANDING)["landing_post"]

    assert found.status == "problem"
    assert found.message.endswith(" and a registration, as if it were a customer's.")


@pytest.mark.parametrize("location", ["", "/other", "http://other.example/register", "http://[", "?again=1"])
def test_a_redirect_elsewhere_is_not_one_to_itself(world: World, location: str) -> None:
    with serve(Response(status_code=301, headers={"Location": location})) as url, pytest.MonkeyPatch.context() as patch:
        patch.setitem(world.internet.upstreams, "other-place.test", url)
        found = asked("https://other-place.test/register")["landing_get"]

    assert "If it is a login page" in found.advice


@pytest.mark.parametrize(
    ("url", "no_proxy", "advice"),
    [
        ("https://shop.invalid", "", "that your app is running, and the proxy in HTTPS_PROXY."),
        ("https://127.1.2.3:9", "127.1.2.3", "that your app is running."),
        ("http://127.1.2.3:9", "", "that your app is running."),
    ],
)
def test_a_proxy_on_the_way_may_be_at_fault(
    environment: pytest.MonkeyPatch, url: str, no_proxy: str, advice: str
) -> None:
    environment.setenv("HTTPS_PROXY", "http://127.1.2.3:9")
    environment.setenv("NO_PROXY", no_proxy)
    found = asked(url + LANDING)["landing_get"]

    assert found.message == "GET gets no answer: Connection refused."
    assert found.advice.endswith(advice)


def test_a_made_up_token_that_is_taken_for_one_of_another_product_is_a_problem(settings: MarketplaceSettings) -> None:
    resolver = FakeResolver({"made-up": replace(CUSTOMER, product_code="another")})
    with serve(fastapi_middleware(settings=settings, resolver=resolver)) as url:
        found = asked(url + LANDING)["landing_post"]

    assert found.status == "problem"
    assert "403 PRODUCT_MISMATCH: it was taken for the token of a customer" in found.message


def test_every_code_of_our_errors_is_explained() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.code for kind in kinds if issubclass(kind, errors.MarketplaceError)}
    assert {"MARKETPLACE_ERROR", "PRODUCT_MISMATCH", "EXPIRED_TOKEN", "OVERLOADED"} <= codes
    for code in codes:
        host = f"https://code-{code.lower().replace('_', '-')}.elsewhere.example"
        found = asked(host + LANDING)["landing_post"]
        assert found.message.startswith(f"A form with a made-up token is answered with 503 {code}: ")
        assert bool(found.advice) is (code != "INVALID_TOKEN")
        assert (found.status == "ok") is (code == "INVALID_TOKEN")


def test_a_fault_of_the_landing_url_alone_is_a_problem(doctor: Callable[..., Run]) -> None:
    run = doctor("--url", "https://csrf.elsewhere.example")

    assert run.code == 1
    assert run.statuses("problem") == ["landing_post"]
    assert run.statuses("warning") == []


@pytest.mark.parametrize(
    ("scenario", "status", "message"),
    [
        ("access-denied", "problem", "503 ACCESS_DENIED: your app cannot call AWS"),
        ("expired-credentials", "problem", "503 CREDENTIALS: your app cannot call AWS"),
        ("disabled-api", "problem", "503 DISABLED_API: your app cannot call AWS"),
        ("throttled", "warning", "503 THROTTLED: too many"),
        ("internal-error", "problem", "503 AWS_UNAVAILABLE: your app does not reach AWS in time, or AWS failed."),
        ("new-product", "problem", "answered with 200 and a registration, as if it were a customer's."),
        ("expired", "warning", "400 EXPIRED_TOKEN: your app was told that the token has expired"),
        ("invalid", "ok", "answered with 400 INVALID_TOKEN: your app refuses it, as it should."),
    ],
)
def test_every_answer_of_a_host_to_the_made_up_token_is_explained(
    world: World, scenario: str, status: str, message: str
) -> None:
    found = examined(token=world.marketplace.issue_token(scenario), url=HOST + LANDING)["landing_post"]

    assert found.status == status
    assert message in found.message


def test_a_host_that_does_not_answer_is_waited_for_only_so_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}{LANDING}"
        found = asked(url, limit=0.2)

    assert found["landing_get"].message == "GET gets no answer: no answer within 0.2 seconds."
    assert "firewall" in found["landing_get"].advice
    assert found["landing_post"].message == "See landing_get."


def test_a_port_without_tls_is_told(world: World, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("NO_PROXY", "127.0.0.1")
    found = examined(url=world.url.replace("http:", "https:"))["landing_get"]

    assert found.message.startswith("GET gets no answer: there is no TLS (")
    assert found.advice == "Serve HTTPS on this port, by TLS 1.2 or newer."


def test_an_address_on_this_machine_is_a_warning_and_tried_all_the_same(
    doctor: Callable[..., Run], world: World
) -> None:
    (host,) = {url for end, url in world.internet.upstreams.items() if end == "shop.example"}
    run = doctor("--url", host)

    assert run.code == 0
    assert run.one("landing_url", "warning")["message"] == f"{host}{LANDING} is on this machine and not HTTPS."
    assert run.one("landing_post", "ok")


def test_an_app_that_stops_answering_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answered = _answer_in_thread(listener)
        found = asked(f"http://127.0.0.1:{listener.getsockname()[1]}")["landing_post"]
        answered()

    assert found.status == "problem"
    assert found.message == "POST gets no answer: Remote end closed connection without response."


def _answer_in_thread(listener: socket.socket) -> Callable[[], None]:
    """Answer a GET as a fulfillment URL does, and hang up on the next request."""
    page = b"<title>Set up your account from AWS Marketplace</title>"

    def answer() -> None:
        for end in (b"\r\n\r\n", b"=made-up"):
            connection, _ = listener.accept()
            with connection:
                request = b""
                while not request.endswith(end):
                    request += connection.recv(65_536)
                if request.startswith(b"GET"):
                    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(page)
                    connection.sendall(head + page)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread.join


def test_the_page_of_the_package_is_known_by_its_title_with_a_product_name_too() -> None:
    page = bytes(landing_page(Seller(product_name="Acme", logo_url=None, support_url=None)).body).decode()
    assert landing._TITLE in page
