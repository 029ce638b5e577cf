import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from starlette.testclient import TestClient

from starlette_marketplace import MarketplaceSettings
from starlette_marketplace.local import LocalMarketplace
from tests.example_app.browser import hidden_fields
from tests.hosts import LANDING, form

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.fixture
def start(
    running_marketplace: tuple[LocalMarketplace, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """docs/src/start.py, in an empty folder and in the environment that the README sets."""
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
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("start", ROOT / "docs/src/start.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_shows_the_program_as_it_is() -> None:
    assert f"```python\n{(ROOT / 'docs/src/start.py').read_text()}```" in README


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


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_files_that_a_page_links_to_exist(page: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    assert targets
    for target in targets:
        assert (ROOT / page).parent.joinpath(target).exists(), target
