import dataclasses
import json
import math
import os
import re
import secrets
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws
from starlette.testclient import TestClient

from starlette_marketplace import MarketplaceSettings
from starlette_marketplace.errors import SettingsError
from starlette_marketplace.local import LocalMarketplace
from tests.docs.programs import ROOT, program
from tests.support.hosts import LANDING, form

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/settings.md").read_text()
SECTION = re.compile(
    r"^### `(\w+)`\n\n`(\w+)` · (.+) · (required|default .+) · (.+)\n\n((?:.+\n+)+?)(?=^#)", re.MULTILINE
)
FIELDS = {field.name: field for field in dataclasses.fields(MarketplaceSettings)}
KEY, NEXT_KEY = "0123456789abcdef" * 2, "fedcba9876543210" * 2
KINDS = {
    "bool": {"true or false"},
    "float": {"seconds"},
    "int": {"whole number", "seconds, whole number", "bytes"},
    "str": {"text"},
    "str | None": {"text"},
    "tuple[str, ...] | str": {"list"},
}
DEFAULTS = {
    "secret_key": "required",
    "product_codes": "required",
    "region_name": "default that of the AWS configuration, then `us-east-1`",
    "endpoint_url": "default AWS",
    "entitlement_endpoint_url": "default AWS",
    "agreement_endpoint_url": "default AWS",
}


def make(**settings: Any) -> MarketplaceSettings:
    return MarketplaceSettings(**{"secret_key": KEY, "product_codes": "acme"} | settings)


def test_the_page_has_every_setting_once_with_its_variable_its_type_and_its_default() -> None:
    sections = SECTION.findall(PAGE)
    assert len(sections) == PAGE.count("\n### `")
    assert sorted(name for name, *_ in sections) == sorted(FIELDS)
    for name, variable, kind, default, _, _ in sections:
        field = FIELDS[name]
        shown = {None: "none", (): "none"}.get(field.default, f"`{field.default}`")  # type: ignore[arg-type]
        assert variable == f"MARKETPLACE_{name.upper()}"
        assert kind in KINDS[str(field.type)], name
        assert default == DEFAULTS.get(name, f"default {shown}")


def test_every_setting_is_described_with_when_to_change_it() -> None:
    for name, *_, text in SECTION.findall(PAGE):
        assert re.search(r"^\*(Change|Set) it\*", text, re.MULTILINE), name


def test_the_limits_of_the_page_are_those_of_the_settings() -> None:
    limits = {name: re.fullmatch(r"at least ([\d.]+)", limit) for name, _, _, _, limit, _ in SECTION.findall(PAGE)}
    numbers = {name for name, field in FIELDS.items() if field.type in ("int", "float")}
    assert {name for name, limit in limits.items() if limit} == numbers
    for name, limit in limits.items():
        if limit:
            least = float(limit[1])
            whole = FIELDS[name].type == "int"
            make(**{name: int(least) if whole else least})
            with pytest.raises(SettingsError, match=rf"{name} must be a number of at least {limit[1]}\.$"):
                make(**{name: int(least) - 1 if whole else math.nextafter(least, -1)})


@pytest.fixture
def settings_app(nested_environment: None) -> ModuleType:
    """docs/src/settings_app.py, with the nested variables of a pydantic-settings model."""
    return program("settings_app")


def keys_file(folder: Path, **keys: object) -> Path:
    file = folder / "keys.json"
    file.write_text(json.dumps(keys))
    return file


def test_the_three_sources_of_the_program_make_an_app_that_works(
    settings_app: ModuleType, marketplace: LocalMarketplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = keys_file(tmp_path, secret_key=KEY, secret_key_fallbacks=[NEXT_KEY])
    monkeypatch.setenv("SHOP_KEYS_FILE", str(keys))
    monkeypatch.setenv("SHOP_MARKETPLACE_PRODUCT_CODES", "acmeanalytics")
    monkeypatch.setenv("SHOP_MARKETPLACE_HTTPS_ONLY", "false")
    monkeypatch.setenv("SHOP_MARKETPLACE_SIGNUP_URL", "/elsewhere")
    sources = {
        settings_app.from_pydantic: "/signup",
        settings_app.from_environment: "/signup?from=aws",
        settings_app.from_arguments: "/signup",
    }
    for source, signup_url in sources.items():
        settings = source()
        assert settings.secret_key == KEY
        assert settings.secret_key_fallbacks == (() if source is settings_app.from_pydantic else (NEXT_KEY,))
        with TestClient(settings_app.create_app(settings)) as client:
            page = client.post(LANDING, data=form(marketplace.issue_token("new-product")))
        assert page.text == "Welcome from AWS Marketplace!"
        assert page.url.raw_path.decode() == signup_url
    with TestClient(settings_app.app) as client:
        assert client.get("/signup").text == "Welcome!"
        assert client.post(LANDING, data=form(marketplace.issue_token("new-product"))).url.path == "/signup"


@mock_aws
def test_the_program_reads_its_keys_from_secrets_manager(
    settings_app: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    keys = {"secret_key": KEY, "secret_key_fallbacks": [NEXT_KEY]}
    boto3.client("secretsmanager").create_secret(Name="shop/marketplace", SecretString=json.dumps(keys))
    assert settings_app.read_keys() == keys
    # What the page says of the other store.
    ssm = boto3.client("ssm")
    ssm.put_parameter(Name="shop", Value=json.dumps(keys), Type="SecureString")
    assert 'get_parameter(Name=..., WithDecryption=True)["Parameter"]["Value"]' in PAGE
    assert json.loads(ssm.get_parameter(Name="shop", WithDecryption=True)["Parameter"]["Value"]) == keys


def test_doctor_takes_the_settings_of_the_program_by_name(
    settings_app: ModuleType, running_marketplace: tuple[LocalMarketplace, str]
) -> None:
    _, url = running_marketplace
    command = [str(Path(sys.executable).with_name("starlette-marketplace")), "doctor", "--json"]
    done = subprocess.run(
        [*command, "--settings", "settings_app:from_pydantic"],
        cwd=ROOT / "docs/src",
        env=os.environ | {"AWS_ENDPOINT_URL_STS": url, "MARKETPLACE__SECRET_KEY": secrets.token_urlsafe(32)},
        capture_output=True,
        text=True,
    )
    findings = {finding["check"]: finding["status"] for finding in json.loads(done.stdout)["findings"]}
    assert (done.returncode, findings["settings"], findings["permission"]) == (0, "ok", "ok"), done.stdout
    assert "`--settings settings_app:from_environment`" in PAGE


def test_a_key_is_replaced_in_the_steps_of_the_page_without_losing_a_buyer(
    settings_app: ModuleType, marketplace: LocalMarketplace
) -> None:
    def worker(secret_key: str, *fallbacks: str) -> TestClient:
        settings = MarketplaceSettings(
            secret_key=secret_key, secret_key_fallbacks=fallbacks, product_codes="*", https_only=False
        )
        return TestClient(settings_app.create_app(settings))

    def is_known(landing: TestClient, signup: TestClient) -> bool:
        """Whether a buyer who lands at one worker is known to the other, which answers the next request."""
        page = landing.post(LANDING, data=form(marketplace.issue_token("new-product")), follow_redirects=False)
        answer = signup.get("/signup", headers={"Cookie": page.headers["set-cookie"].partition(";")[0]})
        return answer.text == "Welcome from AWS Marketplace!"

    steps = [worker(KEY), worker(KEY, NEXT_KEY), worker(NEXT_KEY, KEY), worker(NEXT_KEY)]
    for old, new in pairwise(steps[:3]):
        assert is_known(old, new)
        assert is_known(new, old)
    # In the last step, those who landed before it have had their time.
    assert is_known(steps[3], steps[2])
    assert not is_known(steps[1], steps[3])
    # Without the first step, buyers are lost while the second rolls out.
    assert not is_known(worker(NEXT_KEY, KEY), worker(KEY))
