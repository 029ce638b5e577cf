import os
import re
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch
from urllib.parse import urlsplit

import boto3
import httpx2
import pytest
from botocore import BOTOCORE_ROOT
from freezegun import freeze_time
from starlette.testclient import TestClient

from starlette_marketplace import (
    ExpiredTokenError,
    InvalidTokenError,
    MarketplaceCustomer,
    MarketplaceSettings,
    Registration,
    SettingsError,
)
from starlette_marketplace.local import PRODUCT_CODES, SCENARIOS
from starlette_marketplace.registration.resolver import AwsResolver
from starlette_marketplace.testing import (
    FakeResolver,
    RunningMarketplace,
    ScenarioName,
    add_registration,
    make_customer,
    registration_form,
    run_local_marketplace,
)
from tests.support.fakes import CUSTOMER
from tests.support.hosts import LANDING, browser, described, fastapi_middleware, form
from tests.support.servers import serve

SETTINGS = MarketplaceSettings(secret_key="0123456789abcdef" * 2, product_codes="acmeanalytics")


def test_a_fake_resolver_answers_what_it_was_given() -> None:
    resolver = FakeResolver({"good": CUSTOMER, "old": ExpiredTokenError("too old")})
    assert resolver.resolve("good") == CUSTOMER
    with pytest.raises(ExpiredTokenError, match="too old"):
        resolver.resolve("old")
    with pytest.raises(InvalidTokenError):
        resolver.resolve("junk")
    assert resolver.calls == ["good", "old", "junk"]


def test_a_host_tests_its_signup_page_with_it() -> None:
    app = fastapi_middleware(settings=SETTINGS, resolver=FakeResolver({"good": CUSTOMER}))
    with TestClient(app, base_url="https://app.example") as client:
        assert client.post(LANDING, data=form("good")).json()["customer"]["license_arn"] == CUSTOMER.license_arn


def test_made_up_customers_are_different_ones() -> None:
    one, other = make_customer(), make_customer()
    assert one.key != other.key
    assert one.aws_account_id != other.aws_account_id
    assert one.agreement_id != other.agreement_id
    assert one.product_code == other.product_code
    assert one.product_code in PRODUCT_CODES


def test_what_is_given_of_a_customer_is_not_made_up() -> None:
    customer = make_customer(
        aws_account_id="000000000001",
        product_code="mine",
        license_arn=None,
        customer_identifier="AbCdEf",
        agreement_id=None,
    )
    assert customer == MarketplaceCustomer(
        aws_account_id="000000000001", product_code="mine", customer_identifier="AbCdEf"
    )
    with pytest.raises(ValueError, match="12 digits"):
        make_customer(aws_account_id="1")
    with pytest.raises(TypeError):
        make_customer(account_id="000000000001")  # type: ignore[call-arg]


def test_the_form_is_read_as_that_of_aws() -> None:
    hints = {"x-amzn-marketplace-agreement-id": "agmt-1"}
    resolver = FakeResolver({"a+b/c==": CUSTOMER})
    app = fastapi_middleware(settings=SETTINGS, resolver=resolver)
    with TestClient(app, base_url="https://app.example") as client:
        plain = client.post(LANDING, data=registration_form("a+b/c==")).json()
        trial = client.post(LANDING, data=registration_form("a+b/c==", free_trial=True, hints=hints)).json()
    assert (plain["free_trial"], plain["hints"]) == (False, {})
    assert (trial["free_trial"], trial["hints"]) == (True, {"x-amzn-marketplace-offer-type": "free-trial", **hints})
    assert resolver.calls == ["a+b/c=="]


@pytest.mark.parametrize("base_url", ["http://testserver", "https://app.acme.example", "http://127.0.0.1:8000"])
@pytest.mark.parametrize("https_only", [True, False])
@pytest.mark.parametrize("session_domain", [None, "acme.example", ".acme.example", "other.example"])
def test_a_registration_is_put_into_a_client_and_completed(
    base_url: str, https_only: bool, session_domain: str | None
) -> None:
    settings = replace(SETTINGS, https_only=https_only, session_domain=session_domain)
    app = fastapi_middleware(settings=settings, resolver=FakeResolver({}))
    with TestClient(app, base_url=base_url) as client:
        registration = add_registration(client, settings)
        assert client.get("/signup").json() == described(registration)
        again = add_registration(client, settings, customer=registration.customer, free_trial=True)
        assert client.get("/signup").json() == described(again) != described(registration)
        assert len(client.cookies) == 1
        assert client.post(f"/signup/{registration.id}").json() == described(again)
        # Elsewhere than below it, a browser takes no cookie of the domain, not even its deletion.
        if session_domain is None or f".{urlsplit(base_url).hostname}".endswith(f".{session_domain.lstrip('.')}"):
            assert not client.cookies
            assert client.get("/signup").json() is None


def test_who_arrives_again_by_the_form_replaces_what_was_put_in() -> None:
    app = fastapi_middleware(settings=SETTINGS, resolver=FakeResolver({"good": CUSTOMER}))
    with TestClient(app, base_url="https://app.example") as client:
        add_registration(client, SETTINGS, customer=CUSTOMER)
        client.post(LANDING, data=registration_form("good", free_trial=True))
        assert len(client.cookies) == 1
        assert client.get("/signup").json()["free_trial"] is True


@pytest.mark.anyio
async def test_a_registration_is_put_into_an_async_client() -> None:
    async with browser(fastapi_middleware(settings=SETTINGS, resolver=FakeResolver({}))) as client:
        registration = add_registration(client, SETTINGS)
        assert (await client.get("/signup")).json() == described(registration)
        await client.post(f"/signup/{registration.id}")
        assert (await client.get("/signup")).json() is None


def test_a_registration_is_put_into_a_client_without_a_base_url() -> None:
    with serve(fastapi_middleware(settings=SETTINGS, resolver=FakeResolver({}))) as url, httpx2.Client() as client:
        registration = add_registration(client, SETTINGS)
        assert client.get(f"{url}/signup").json() == described(registration)


def test_a_registration_has_what_it_is_given() -> None:
    hints = {"x-amzn-marketplace-agreement-id": "agmt-1"}
    client = TestClient(fastapi_middleware(settings=SETTINGS, resolver=FakeResolver({})))
    registration = add_registration(client, SETTINGS, customer=CUSTOMER, free_trial=True, hints=hints)
    assert registration.customer == CUSTOMER
    assert registration.free_trial
    assert registration.hints == {"x-amzn-marketplace-offer-type": "free-trial", **hints}
    shown = client.get("/signup").json()
    assert Registration.from_dict({key: value for key, value in shown.items() if key != "id"}) == registration


@pytest.mark.parametrize(("product_codes", "code"), [("mine,acmelegacy", "mine"), ("*", "acmeanalytics")])
def test_a_made_up_registration_is_for_a_product_of_the_host(product_codes: str, code: str) -> None:
    settings = replace(SETTINGS, product_codes=product_codes)
    client = TestClient(fastapi_middleware(settings=settings, resolver=FakeResolver({})))
    assert add_registration(client, settings).customer.product_code == code


def test_a_customer_of_a_product_that_the_host_would_not_read_is_refused() -> None:
    client = TestClient(fastapi_middleware(settings=SETTINGS, resolver=FakeResolver({})))
    with pytest.raises(ValueError, match="product_codes does not list 'another'"):
        add_registration(client, SETTINGS, customer=make_customer(product_code="another"))
    assert not client.cookies


def test_settings_of_a_registration_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MARKETPLACE_SECRET_KEY", raising=False)
    client = TestClient(fastapi_middleware(settings=SETTINGS, resolver=FakeResolver({})))
    with pytest.raises(SettingsError, match="SECRET_KEY"):
        add_registration(client)
    monkeypatch.setenv("MARKETPLACE_SECRET_KEY", SETTINGS.secret_key)
    monkeypatch.setenv("MARKETPLACE_PRODUCT_CODES", "acmeanalytics")
    registration = add_registration(client)
    assert client.get("/signup").json() == described(registration)


def test_editors_know_the_name_of_every_scenario() -> None:
    assert get_args(ScenarioName) == tuple(SCENARIOS)


@pytest.mark.parametrize("scenario", get_args(ScenarioName))
def test_the_form_of_a_scenario_is_that_of_the_storefront(
    scenario: ScenarioName, served_marketplace: RunningMarketplace
) -> None:
    served_marketplace.reset()
    card = httpx2.get(served_marketplace.url).text.partition(f'<article id="{scenario}"')[2].partition("</article>")[0]
    fields = dict(re.findall(r'name="(x-amzn-[\w-]+)" value="([^"]*)"', card))
    assert fields
    shown = served_marketplace.form(scenario)
    token = "x-amzn-marketplace-token"
    assert fields | {token: ""} == shown | {token: ""}
    assert fields[token] != shown[token] != served_marketplace.issue_token(scenario)


def test_a_scenario_that_is_not_there_is_named(served_marketplace: RunningMarketplace) -> None:
    for ask in (served_marketplace.form, served_marketplace.issue_token):
        with pytest.raises(ValueError, match=r"'happy' is not a scenario .* new-product"):
            ask("happy")  # type: ignore[arg-type]


def test_reset_undoes_whatever_can_be_set(served_marketplace: RunningMarketplace) -> None:
    marketplace = served_marketplace.marketplace
    served_marketplace.reset()

    def settable() -> dict[str, Any]:
        """The attributes that a test can assign, with what they are now."""
        names = [name for name in dir(marketplace) if not name.startswith("_")]
        properties = {name: getattr(type(marketplace), name, None) for name in names}
        return {
            name: getattr(marketplace, name)
            for name in names
            if (name in vars(marketplace) if properties[name] is None else getattr(properties[name], "fset", None))
        }

    before = settable()
    assert {"delay", "registration_url"} <= before.keys()
    for name, value in before.items():
        setattr(marketplace, name, "http://127.0.0.1/" if isinstance(value, str) else 0.5)
    assert not before.items() & settable().items()
    token, account_id = served_marketplace.issue_token(), served_marketplace.account_id
    served_marketplace.reset()
    assert settable() == before
    assert served_marketplace.account_id != account_id
    assert served_marketplace.resolve_calls == []
    with patch.dict(os.environ, served_marketplace.environment(), clear=True), pytest.raises(InvalidTokenError):
        AwsResolver(MarketplaceSettings.from_env()).resolve(token)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of somebody who works with AWS."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(
        "[default]\nregion = xx-nowhere-1\nignore_configured_endpoint_urls = true\nuse_fips_endpoint = true\n"
        "[profile prod]\nregion = eu-west-1\n"
    )
    (tmp_path / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = mine\naws_secret_access_key = mine\n"
        "[prod]\naws_access_key_id = prod\naws_secret_access_key = prod\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "mine", "AWS_SESSION_TOKEN": "mine"},
        {"AWS_SECURITY_TOKEN": "mine"},
        {"AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z"},
        {"AWS_PROFILE": "prod"},
        {"AWS_DEFAULT_PROFILE": "prod"},
        {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
        {"AWS_ENDPOINT_URL_MARKETPLACE_METERING": "http://127.0.0.1:1"},
        {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1", "MARKETPLACE_ROLE_ARN": "arn:aws:iam::123456789012:role/seller"},
        {"MARKETPLACE_ENDPOINT_URL": "http://127.0.0.1:1"},
        {"MARKETPLACE_PROFILE_NAME": "prod"},
        {"MARKETPLACE_ROLE_ARN": "arn:aws:iam::123456789012:role/seller", "MARKETPLACE_ROLE_EXTERNAL_ID": "x-1"},
        {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "elsewhere.example"},
        {"http_proxy": "http://127.0.0.1:1", "no_proxy": "elsewhere.example"},
        {"HTTPS_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"},
        {"AWS_CA_BUNDLE": ""},
        {"AWS_CA_BUNDLE": "/nowhere", "SSL_CERT_FILE": "/nowhere"},
        {"REQUESTS_CA_BUNDLE": ""},
        {"AWS_STS_REGIONAL_ENDPOINTS": "legacy", "MARKETPLACE_ROLE_ARN": "arn:aws:iam::123456789012:role/seller"},
        {"AWS_MAX_ATTEMPTS": "9", "AWS_RETRY_MODE": "adaptive"},
        {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/mine", "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere"},
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1"},
        {"AWS_REGION": "xx-nowhere-1"},
    ],
    ids=lambda variables: "+".join(variables) or "nothing",
)
def test_no_environment_leads_to_aws_or_to_anybodys_credentials(
    variables: dict[str, str], home: Path, served_marketplace: RunningMarketplace
) -> None:
    served_marketplace.reset()
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        assert name not in os.environ
    environment = served_marketplace.environment({"HOME": str(home), **variables})
    assert environment["HOME"] == str(home)
    with patch.dict(os.environ, environment, clear=True):
        customer = AwsResolver(MarketplaceSettings.from_env()).resolve(served_marketplace.issue_token())
        credentials = boto3.Session().get_credentials()
        assert boto3.Session().region_name == "us-east-1"
    assert customer.aws_account_id == served_marketplace.account_id
    assert served_marketplace.resolve_calls
    assert credentials is not None
    assert (credentials.access_key, credentials.secret_key, credentials.token) == ("local", "local", None)


def test_no_environment_asks_the_metadata_service_of_ec2(served_marketplace: RunningMarketplace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as metadata_service:
        url = f"http://127.0.0.1:{metadata_service.getsockname()[1]}"
        theirs = {"AWS_DEFAULTS_MODE": "auto", "AWS_EC2_METADATA_SERVICE_ENDPOINT": url}
        with patch.dict(os.environ, served_marketplace.environment(theirs), clear=True):
            AwsResolver(MarketplaceSettings.from_env()).resolve(served_marketplace.issue_token())
        metadata_service.setblocking(False)
        with pytest.raises(BlockingIOError):
            metadata_service.accept()


def test_a_profile_in_code_leads_to_nobodys_credentials_either(
    home: Path, served_marketplace: RunningMarketplace
) -> None:
    with patch.dict(os.environ, served_marketplace.environment({"HOME": str(home)}), clear=True):
        resolver = AwsResolver(MarketplaceSettings.from_env(profile_name="prod"))
        with pytest.raises(SettingsError, match="prod"):
            resolver.resolve(served_marketplace.issue_token())


def test_what_a_host_sets_of_the_marketplace_stays(served_marketplace: RunningMarketplace) -> None:
    theirs = {
        "MARKETPLACE_SECRET_KEY": "fedcba9876543210" * 2,
        "MARKETPLACE_PRODUCT_CODES": "mine",
        "MARKETPLACE_HTTPS_ONLY": "true",
        "MARKETPLACE_MAX_ATTEMPTS": "2",
        "MARKETPLACE_SIGNUP_URL": "/welcome",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_CA_BUNDLE": "/etc/authority.pem",
        "AWS_DATA_PATH": "/models",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000",
        "no_proxy": "db.example",
    }
    environment = served_marketplace.environment(theirs)
    more = {
        "AWS_DATA_PATH": f"{BOTOCORE_ROOT}/data{os.pathsep}/models",
        "MARKETPLACE_PRODUCT_CODES": "mine,acmeanalytics,acmelegacy,acmepipelines,acmegateway",
        "no_proxy": "db.example,127.0.0.1",
    }
    assert environment.items() >= (theirs | more).items()
    assert environment["NO_PROXY"] == environment["no_proxy"]
    assert served_marketplace.environment(environment) == environment
    empty = served_marketplace.environment(dict.fromkeys(theirs, ""))
    assert MarketplaceSettings.from_env(empty) == MarketplaceSettings.from_env(served_marketplace.environment({}))


def test_the_environment_begins_with_that_of_the_process(
    served_marketplace: RunningMarketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKETPLACE_SIGNUP_URL", "/welcome")
    settings = MarketplaceSettings.from_env(served_marketplace.environment())
    assert settings.signup_url == "/welcome"
    assert not settings.https_only
    assert settings.max_attempts == 1


def test_the_local_marketplace_is_gone_afterwards() -> None:
    before = set(threading.enumerate())
    with run_local_marketplace() as running:
        assert httpx2.get(running.url).status_code == 200
        [thread] = [thread for thread in set(threading.enumerate()) - before if "marketplace" in thread.name]
    assert not thread.is_alive()
    address = urlsplit(running.url)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((str(address.hostname), address.port or 0))


# uvicorn looks for a parser of HTTP when it starts; and the event loop needs three files more than the listener.
STARTS_BADLY = {
    "without a parser of HTTP": (
        "sys.modules['h11'] = sys.modules['httptools'] = None\nwith run_local_marketplace(): print('it runs')",
        "ModuleNotFoundError",
    ),
    "without a file for the event loop": (
        "with run_local_marketplace(): pass\n"
        "probe = socket.socket()\n"
        "_, most = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno() + 1, most))\n"
        "probe.close()\n"
        "with run_local_marketplace(): print('it runs')",
        "OSError: [Errno 24]",
    ),
}


@pytest.mark.parametrize(("program", "error"), STARTS_BADLY.values(), ids=STARTS_BADLY.keys())
def test_a_local_marketplace_that_does_not_start_says_why(program: str, error: str) -> None:
    run = run_python(
        f"import resource, socket, sys\nfrom starlette_marketplace.testing import run_local_marketplace\n{program}"
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert f"\n{error}" in run.stderr


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_importing_it_brings_no_server_no_sdk_and_no_pytest() -> None:
    heavy = "{'boto3', 'botocore', 'jinja2', 'pytest', 'uvicorn'}"
    run = run_python(f"import starlette_marketplace.testing, sys; sys.exit(', '.join({heavy} & sys.modules.keys()))")
    assert run.stderr.strip() == ""


@pytest.mark.parametrize("package", ["uvicorn", "jinja2"])
def test_without_the_extra_the_error_names_it(package: str) -> None:
    run = run_python(
        f"import sys; sys.modules[{package!r}] = None\n"
        "from starlette_marketplace.testing import run_local_marketplace\n"
        "with run_local_marketplace(): pass"
    )
    assert run.returncode == 1
    assert 'pip install "starlette-marketplace[local]"' in run.stderr.splitlines()[-1]


def test_time_may_be_frozen_while_buyers_arrive_and_registrations_grow_old_with_it(
    local_marketplace: RunningMarketplace,
) -> None:
    with TestClient(fastapi_middleware(), follow_redirects=False) as client:
        with freeze_time("2026-01-15 12:00:00"):
            assert client.post(LANDING, data=local_marketplace.form()).status_code == 303
            registration = client.get("/signup").json()
            assert datetime.fromtimestamp(registration["resolved_at"], UTC) == datetime(2026, 1, 15, 12, tzinfo=UTC)
        with freeze_time("2026-01-15 13:00:01"):
            assert client.get("/signup").json() is None
        with freeze_time("2026-01-16"):
            add_registration(client)
            assert client.get("/signup").json() is not None


def test_tokens_of_the_local_marketplace_grow_old_with_the_time_that_a_test_moves(
    local_marketplace: RunningMarketplace,
) -> None:
    local_marketplace.marketplace.token_life = 60
    app = fastapi_middleware()
    with freeze_time() as time, TestClient(app, follow_redirects=False) as client:
        fresh, old = local_marketplace.form(), local_marketplace.form()
        assert client.post(LANDING, data=fresh).status_code == 303
        time.tick(61)
        assert client.post(LANDING, data=old).status_code == 400


def test_the_local_marketplace_answers_and_stops_while_time_stands_still() -> None:
    with freeze_time("2020-02-02"), run_local_marketplace() as running:
        running.marketplace.delay = 0.05
        settings = replace(SETTINGS, endpoint_url=running.url, region_name="us-east-1")
        with patch.dict(os.environ, running.environment()):
            assert AwsResolver(settings).resolve(running.issue_token()).product_code == "acmeanalytics"
