import dataclasses
import importlib.util
import json
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import httpx2
import pytest
from starlette.testclient import TestClient

from starlette_marketplace import MarketplaceSettings, Registration
from starlette_marketplace.local import SCENARIOS, LocalMarketplace
from starlette_marketplace.session import RegistrationSession
from starlette_marketplace.testing import make_customer
from tests.example_app.browser import hidden_fields
from tests.hosts import LANDING, browser, form
from tests.redis_server import RedisServer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SECURITY = (ROOT / "docs/security.md").read_text()


@pytest.fixture
def environment(running_marketplace: tuple[LocalMarketplace, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the README sets."""
    _, url = running_marketplace
    for name, value in {
        "AWS_ENDPOINT_URL_MARKETPLACE_METERING": url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "MARKETPLACE_PRODUCT_CODES": "acmeanalytics,acmelegacy",
        "MARKETPLACE_SECRET_KEY": "k" * 32,
        "MARKETPLACE_HTTPS_ONLY": "false",
    }.items():
        monkeypatch.setenv(name, value)


def program(name: str) -> ModuleType:
    """The module docs/src/<name>.py, run anew."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/src/{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def start(environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/src/start.py, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return program("start")


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("README.md", "start"),
        ("docs/hosts.md", "litestar_host"),
        ("docs/hosts.md", "quart_host"),
        ("docs/observability.md", "observability/json_logs"),
        ("docs/observability.md", "observability/traced"),
        ("docs/scaling.md", "own_redis"),
        ("docs/security.md", "quiet_botocore"),
        ("docs/security.md", "rate_limit"),
    ],
)
def test_a_page_shows_its_programs_as_they_are(page: str, name: str) -> None:
    assert f"```python\n{(ROOT / f'docs/src/{name}.py').read_text()}```" in (ROOT / page).read_text()


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
    start.database.close()


def test_the_program_of_the_readme_signs_up_others_too(start: ModuleType) -> None:
    with TestClient(start.app) as client:
        for email in ("a@b.example", "c@d.example"):
            assert hidden_fields(client.get("/signup")) == {}
            assert client.post("/signup", data={"email": email}).text == f"Welcome, {email}!"
        response = client.post("/signup", data={"email": "e@f.example", "registration_id": "gone"})
        assert response.status_code == 400
    start.database.close()


@contextmanager
def running(name: str, folder: Path) -> Iterator[str]:
    """Run docs/src/<name>.py in `folder` as its page says, its output in a file `stdout`, and yield its base URL."""
    file = ROOT / f"docs/src/{name}.py"
    with socket.create_server(("127.0.0.1", 0)) as listener, (folder / "stdout").open("wb") as stdout:
        command = [sys.executable, "-W", "error", "-m", "uvicorn", "--fd", str(listener.fileno())]
        process = subprocess.Popen(
            [*command, "--app-dir", str(file.parent), f"{file.stem}:app"],
            cwd=folder,
            pass_fds=[listener.fileno()],
            stdout=stdout,
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield url
    finally:
        process.terminate()
        process.wait()


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


def test_the_table_of_the_readme_has_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", README.partition("## Settings")[2], re.MULTILINE))
    expected = {}
    for field in dataclasses.fields(MarketplaceSettings):
        shown = {None: "none", (): "none", "": "required"}.get(field.default, f"`{field.default}`")  # type: ignore[arg-type]
        expected[field.name] = shown
    expected |= {
        "product_codes": "required",
        "region_name": "AWS configuration, then `us-east-1`",
        "endpoint_url": "AWS",
    }
    assert rows == expected


def test_the_tests_that_the_security_page_names_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", SECURITY)
    assert len(named) > 30
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"


def test_the_page_of_the_local_marketplace_has_every_scenario() -> None:
    page = (ROOT / "docs/local-marketplace.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (.+) \|$", page, re.MULTILINE)
    assert rows == [(slug, scenario.summary) for slug, scenario in SCENARIOS.items()]


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
    begun, failed = [line for line in lines if line["logger"] == "starlette_marketplace"]
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


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))])
def test_the_files_that_a_page_links_to_exist(page: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)[)#]", (ROOT / page).read_text())
    assert targets
    for target in targets:
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_program_with_a_redis_client_of_its_own_shares_by_it(
    environment: None, marketplace: LocalMarketplace, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", server.url + "?socket_timeout=30&socket_connect_timeout=30")
    token = marketplace.issue_token("new-product")
    for _ in range(2):
        with TestClient(program("own_redis").app, follow_redirects=False) as client:
            assert client.post(LANDING, data=form(token)).status_code == 303
    assert len(marketplace.resolve_calls) == 1


def test_the_page_on_scaling_names_the_sizes_of_the_cookie() -> None:
    settings = MarketplaceSettings(secret_key="k" * 32, product_codes="*")
    sizes = []
    for hints in ({}, {"x-amzn-marketplace-a": "b" * 492}):
        registration = Registration(customer=make_customer(), resolved_at=datetime.now(UTC), hints=hints)
        sizes.append(len(RegistrationSession(settings).cookie(registration).partition(";")[0]))
    assert [round(size, -2) for size in sizes] == [500, 1200]
    page = (ROOT / "docs/scaling.md").read_text()
    assert "| the cookie | 500 bytes on each request" in page
    assert "1.2 kB with the longest hints" in page
