import json
import logging
import os
import sys
import time
from datetime import datetime
from pathlib import Path
from types import ModuleType

import httpx2
import pytest
from limits import parse
from starlette.datastructures import Address
from starlette.testclient import TestClient

from starlette_marketplace.local import LocalMarketplace
from tests.docs.programs import program, running
from tests.example_app.browser import hidden_fields
from tests.support.hosts import LANDING, browser, form
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.slow


@pytest.fixture
def start(environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/src/start.py, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return program("start")


def test_the_program_of_the_readme_signs_up_each_customer_once(
    start: ModuleType, marketplace: LocalMarketplace
) -> None:
    token = marketplace.issue_token("new-product")
    with TestClient(start.app) as client:
        for status in (200, 409):
            page = client.post(LANDING, data=form(token))
            assert page.url.path == "/signup"
            assert f"ending in {marketplace.buyer.account_id[-4:]}" in page.text
            response = client.post("/signup", data={"email": "a@b.example"} | hidden_fields(page))
            assert response.status_code == status
        assert client.cookies, "the registration that was not linked can still be linked otherwise"


def test_the_program_of_the_readme_signs_up_others_too(start: ModuleType) -> None:
    with TestClient(start.app) as client:
        for email in ("a@b.example", "c@d.example"):
            assert hidden_fields(client.get("/signup")) == {}
            assert client.post("/signup", data={"email": email}).text == f"Welcome, {email}!"
        response = client.post("/signup", data={"email": "e@f.example", "registration_id": "gone"})
        assert response.status_code == 400


@pytest.mark.parametrize("name", ["litestar_host", "quart_host"])
def test_a_program_for_another_framework_signs_up_each_customer_once(
    name: str, environment: None, marketplace: LocalMarketplace, tmp_path: Path
) -> None:
    token = marketplace.issue_token("new-product")
    with running(name, tmp_path) as url, httpx2.Client(base_url=url, timeout=60, follow_redirects=True) as buyer:
        for email in ("a@b.example", "c@d.example"):  # Who does not come from AWS can sign up as well.
            assert hidden_fields(buyer.get("/signup")) == {}
            assert buyer.post("/signup", data={"email": email}).text == f"Welcome, {email}!"
        gone = buyer.post("/signup", data={"email": "e@f.example", "registration_id": "gone"})
        assert gone.status_code == 400
        assert "This took too long" in gone.text

        page = buyer.post(LANDING, data=form(token))
        assert page.url.path == "/signup"
        assert f"ending in {marketplace.buyer.account_id[-4:]}" in page.text
        assert buyer.cookies
        unconfirmed = buyer.post("/signup", data={"email": "g@h.example"})
        assert unconfirmed.text == "Welcome, g@h.example!"
        assert buyer.cookies, "without the hidden id nothing is linked"
        linked = buyer.post("/signup", data={"email": "i@j.example"} | hidden_fields(page))
        assert linked.text == "Welcome, i@j.example!"
        assert not buyer.cookies

        page = buyer.post(LANDING, data=form(token))
        again = buyer.post("/signup", data={"email": "k@l.example"} | hidden_fields(page))
        assert again.status_code == 409
        assert "log in" in again.text
        assert buyer.cookies, "the registration that was not linked can still be linked otherwise"


def set_up_accounts(name: str, folder: Path, tokens: list[str]) -> str:
    """What docs/src/<name>.py says on its standard output while buyers arrive."""
    with running(name, folder) as url, httpx2.Client(base_url=url, timeout=60, follow_redirects=True) as buyer:
        assert buyer.get("/signup").text == "Welcome!"
        pages = [buyer.post(LANDING, data=form(token)) for token in tokens]
    assert pages[0].text == "Welcome from AWS Marketplace!"
    return (folder / "stdout").read_text()


def test_the_program_of_the_docs_for_opentelemetry_exports_spans_and_metrics(
    environment: None, marketplace: LocalMarketplace, tmp_path: Path
) -> None:
    told = set_up_accounts("observability/traced", tmp_path, [marketplace.issue_token("new-product")])
    for name in ("registration", "resolution", "resolve_customer"):
        assert f'"name": "marketplace.{name}"' in told
    for name in ("registrations", "lookups", "active_resolutions", "resolve_customer.duration"):
        assert f'"name": "marketplace.{name}"' in told
    assert '"service.name": "acme-analytics"' in told


def test_the_program_of_the_docs_for_logs_writes_json(
    environment: None, marketplace: LocalMarketplace, tmp_path: Path
) -> None:
    tokens = [marketplace.issue_token(scenario) for scenario in ("new-product", "access-denied")]
    told = set_up_accounts("observability/json_logs", tmp_path, tokens)
    lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    local, begun, failed = [line for line in lines if line["logger"] == "starlette_marketplace"]
    assert (local["level"], local["endpoint"]) == ("WARNING", os.environ["AWS_ENDPOINT_URL_MARKETPLACE_METERING"])
    assert begun["event"] == "AWS Marketplace registration begun: account %s, product %s"
    assert begun["account"] == "*" * 8 + marketplace.buyer.account_id[-4:]
    assert begun["product_code"] == "acmeanalytics"
    assert (failed["level"], failed["code"]) == ("ERROR", "ACCESS_DENIED")
    assert failed["message"].endswith(f"(ACCESS_DENIED, reference {failed['reference']})")
    assert datetime.fromisoformat(failed["time"]) >= datetime.fromisoformat(begun["time"])


def test_the_json_of_the_docs_has_the_exceptions_of_the_host_too(environment: None) -> None:
    try:
        raise ValueError("a bug")
    except ValueError:
        record = logging.makeLogRecord(
            {"msg": "%s failed", "args": ("it",), "exc_info": sys.exc_info(), "path": Path()}
        )
    line = json.loads(program("observability/json_logs").JsonFormatter().format(record))
    assert (line["event"], line["message"], line["path"]) == ("%s failed", "it failed", ".")
    assert line["exception"].endswith("ValueError: a bug")


@pytest.mark.anyio
async def test_the_rate_limit_of_the_docs_refuses_without_asking_aws(
    environment: None, marketplace: LocalMarketplace
) -> None:
    app = program("rate_limit").app
    async with browser(app) as buyer:
        statuses = [(await buyer.post(LANDING, data=form(f"junk-{number}"))).status_code for number in range(25)]
    assert statuses == [400] * 20 + [429] * 5
    assert len(marketplace.resolve_calls) == 20


@pytest.fixture
def limited(environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the programs that limit the rate need."""
    for variable in ("CRM_URL", "PAGER_URL"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("ALLOWED_HOSTS", "app.example")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["rate_limit", "hooks_app", "going_live"])
def test_the_rate_limits_of_the_docs_count_a_network_that_one_person_can_have(limited: None, name: str) -> None:
    network_of = program(name).network_of

    def counted_with(host: str) -> str:
        return str(network_of(Address(host, 1)))

    assert counted_with("2001:db8:1:2::1") == counted_with("2001:db8:1:2:ffff:ffff:ffff:ffff")
    assert counted_with("2001:db8:1:2::1") != counted_with("2001:db8:1:3::1")
    assert counted_with("::ffff:192.0.2.1") == counted_with("192.0.2.1") != counted_with("192.0.2.2")
    assert counted_with("fe80::1%eth0") == counted_with("fe80::2%eth1")
    assert network_of(None) == counted_with("") == counted_with("testclient") == "unknown"


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["rate_limit", "going_live"])
async def test_a_network_over_its_limit_does_not_use_up_what_there_is_for_all(
    limited: None, marketplace: LocalMarketplace, name: str
) -> None:
    module = program(name)
    vars(module).update(per_network=parse("2/hour"), for_all=parse("6/hour"))

    async def post(host: str, number: int) -> int:
        transport = httpx2.ASGITransport(app=module.app, client=(host, 1))
        async with httpx2.AsyncClient(transport=transport, base_url="https://app.example") as client:
            return (await client.post(LANDING, data=form(f"junk-{number}"))).status_code

    flood = [await post(f"2001:db8::{number:x}", number) for number in range(9)]
    others = [await post(f"192.0.2.{number}", number) for number in range(2) for _ in range(2)]
    assert flood == [400] * 2 + [429] * 7
    assert others == [400] * 4
    assert [await post("198.51.100.1", number) for number in range(2)] == [429, 429], "6 in all"


@pytest.mark.parametrize("name", ["rate_limit", "hooks_app", "going_live"])
def test_the_rate_limits_of_the_docs_forget_networks_whose_time_is_over(
    limited: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module = program(name)
    storage = module.limiter.storage
    for number in range(100):
        module.limiter.hit(module.per_network, f"192.0.2.{number}")
    storage.timer.join()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    module.limiter.hit(module.per_network, "198.51.100.1")
    storage.timer.join()
    assert max(len(storage.storage), len(storage.events)) == 1


def test_the_program_with_a_redis_client_of_its_own_shares_by_it(
    environment: None, marketplace: LocalMarketplace, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", server.url + "?socket_timeout=30&socket_connect_timeout=30")
    token = marketplace.issue_token("new-product")
    for _ in range(2):
        with TestClient(program("own_redis").app, follow_redirects=False) as client:
            assert client.post(LANDING, data=form(token)).status_code == 303
    assert len(marketplace.resolve_calls) == 1
