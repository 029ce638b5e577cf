"""Who may use the pages. Every refusal here is of a request that a browser can be made to send by another site."""

import httpx2
import pytest

from starlette_marketplace.local import SCENARIOS, LocalMarketplace, ResolveCall
from tests.local.clients import Aws, body_of, signed_headers
from tests.support.servers import serve, serve_by_hypercorn
from tests.support.sockets import answer_on, connect

PAGES = ["/", "/activity", "/activity/registrations", "/connect", "/static/storefront.css"]
CONTROLS = ["/buyer", "/agreements", "/conditions"]
FIELDS = {"latency": "5", "error-rate": "5", "token-life": "5", "scenario": "new-product"}


def state(marketplace: LocalMarketplace) -> tuple[object, ...]:
    conditions = (marketplace.delay, marketplace.error_rate, marketplace.token_life)
    return marketplace.buyer, conditions, len(marketplace.buyer.agreements(SCENARIOS["new-product"]))


@pytest.mark.parametrize(
    "host", ["evil.example:{port}", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"]
)
def test_no_page_is_shown_under_a_name_that_another_site_can_have(url: str, host: str) -> None:
    for path in PAGES:
        response = httpx2.get(url + path, headers={"Host": host.format(port=httpx2.URL(url).port)})

        assert response.status_code == 403
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert "under the names localhost, 127.0.0.1 and [::1] only" in response.text


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8001", "127.0.0.1:1", "[::1]:8001", "shop.localhost:8001", "LOCALHOST"]
)
def test_every_page_is_shown_under_the_names_of_this_machine(url: str, host: str) -> None:
    assert [httpx2.get(url + path, headers={"Host": host}).status_code for path in PAGES] == [200] * 5


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
    ids=str,
)
def test_no_control_can_be_used_from_another_site(
    marketplace: LocalMarketplace, url: str, headers: dict[str, str]
) -> None:
    before = state(marketplace)

    statuses = [httpx2.post(url + path, data=FIELDS, headers=headers).status_code for path in CONTROLS]

    assert statuses == [403, 403, 403]
    assert state(marketplace) == before


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "{url}"},
        {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "{url}", "Sec-Fetch-Site": "none"},
    ],
    ids=["no browser", "an old browser", "a browser that keeps its origin to itself", "a reload"],
)
def test_every_control_can_be_used_from_our_own_pages(
    marketplace: LocalMarketplace, url: str, headers: dict[str, str]
) -> None:
    before = state(marketplace)
    sent = {name: value.format(url=url) for name, value in headers.items()}

    statuses = [httpx2.post(url + path, data=FIELDS, headers=sent).status_code for path in CONTROLS]

    assert statuses == [303, 303, 303]
    assert not set(state(marketplace)) & set(before)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_another_site_cannot_load_a_page_and_so_use_tokens_up(headers: dict[str, str], method: str) -> None:
    marketplace = LocalMarketplace(limit=1)
    token = marketplace.issue_token("new-product")

    with serve(marketplace) as url, Aws(url) as aws:
        for path in PAGES:
            response = httpx2.request(method, url + path, headers={"Sec-Fetch-Site": "cross-site", **headers})
            assert response.status_code == 403
        assert aws.resolve(token)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
    ],
    ids=["by a link", "by the address bar", "by our own script"],
)
def test_every_page_can_be_opened(url: str, headers: dict[str, str]) -> None:
    assert [httpx2.get(url + path, headers=headers).status_code for path in PAGES] == [200] * 5


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://evil.example", "Host": "evil.example"},
        {"Origin": "http://evil.example", "Host": "evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
    ids=str,
)
def test_aws_cannot_be_asked_by_another_site(marketplace: LocalMarketplace, url: str, headers: dict[str, str]) -> None:
    body = body_of(marketplace.issue_token("new-product"))

    response = httpx2.post(url, content=body, headers={**signed_headers(url, body), **headers})

    assert response.status_code == 403
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert marketplace.resolve_calls == []


def test_a_websocket_is_refused(marketplace: LocalMarketplace) -> None:
    with serve_by_hypercorn(marketplace) as url, connect(url) as connection:
        connection.sendall(
            b"GET /activity HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert answer_on(connection).startswith("HTTP/1.1 403 ")


@pytest.mark.parametrize("host", ["localhost:8001", "host.docker.internal:8001", "aws.test", "10.0.0.1:8001"])
def test_an_sdk_may_call_by_any_name(marketplace: LocalMarketplace, url: str, host: str) -> None:
    body = body_of(marketplace.issue_token("new-product"))

    response = httpx2.post(url, content=body, headers={**signed_headers(f"http://{host}", body), "Host": host})

    assert response.status_code == 200
    assert response.json()["LicenseArn"]
    assert marketplace.resolve_calls == [ResolveCall("new-product", 200)]


def test_boto3_calls_by_the_name_localhost(marketplace: LocalMarketplace, url: str) -> None:
    with Aws(url.replace("127.0.0.1", "localhost")) as aws:
        assert aws.resolve(marketplace.issue_token("new-product"))
