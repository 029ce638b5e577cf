import ast
import re
from datetime import UTC, datetime

from starlette_marketplace import MarketplaceSettings, Registration
from starlette_marketplace.local import PRODUCT_CODES, SCENARIOS, app_environment
from starlette_marketplace.registration.session import RegistrationSession
from starlette_marketplace.testing import make_customer
from tests.docs.programs import ROOT

README = (ROOT / "README.md").read_text()
SECURITY = (ROOT / "docs/security.md").read_text()


def test_the_readme_shows_its_program_as_it_is() -> None:
    assert f"```python\n{(ROOT / 'docs/src/start.py').read_text()}```" in README


def test_every_program_is_shown_by_a_page() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    shown = set(re.findall(r'^--8<-- "([\w/]+\.py)', pages, re.MULTILINE))
    assert shown == {str(file.relative_to(ROOT / "docs/src")) for file in (ROOT / "docs/src").rglob("*.py")}


def test_the_tests_that_the_security_page_names_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", SECURITY)
    assert len(named) > 30
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"


def test_the_recipes_send_the_headers_that_the_security_page_asks_for() -> None:
    section = SECURITY.partition("## Headers of your own pages")[2].partition("\n## ")[0]
    headers = re.findall(r"^\| `([\w-]+): ([^`]+)` \|", section, re.MULTILINE)
    assert headers
    for recipe in (ROOT / "docs/src/recipes").glob("*.py"):
        program = recipe.read_text()
        if "<form" in program:
            for name, value in headers:
                assert name in program, (recipe, name)
                assert value in program, (recipe, value)


def test_every_program_names_its_login_cookie_so_that_no_subdomain_can_set_it() -> None:
    found = set()
    for file in [ROOT / "example_app/app.py", *(ROOT / "docs/src").rglob("*.py")]:
        for call in (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)):
            function, *_ = what = [ast.unparse(part).rpartition(".")[2] for part in (call.func, *call.args)]
            assert function not in {"set_cookie", "JWTCookieAuth", "ClientSideSessionConfig"}, file
            if not {"SessionMiddleware", "CookieTransport"} & set(what):
                continue
            options = {str(keyword.arg): ast.unparse(keyword.value) for keyword in call.keywords}
            assert not {"domain", "path", "cookie_domain", "cookie_path"} & set(options), "none of them with __Host-"
            # What is being replaced: it has every fault, and this one with them.
            if file.stem == "endpoint_before":
                continue
            name = options.get("session_cookie") or options["cookie_name"]
            https_only = options.get("https_only") or options["cookie_secure"]
            assert name == f"'__Host-session' if {https_only} else 'session'", file
            found.add(file.stem)
    recipes = {"authlib_login", "existing_customer", "hosted_login", "new_customer", "own_session", "several_users"}
    assert found == recipes | {"app", "endpoint_after", "endpoint_between", "with_fastapi_users"}


def test_the_page_of_the_local_marketplace_has_every_scenario() -> None:
    page = (ROOT / "docs/local-marketplace.md").read_text().partition("| scenario |")[2]
    rows = re.findall(r"^\| `([\w-]+)` \| (.+) \|$", page, re.MULTILINE)
    assert rows == [(slug, scenario.summary) for slug, scenario in SCENARIOS.items()]


def test_the_page_of_the_local_marketplace_names_what_it_sets() -> None:
    page = (ROOT / "docs/local-marketplace.md").read_text()
    for name in app_environment("http://localhost:8001", {}):
        assert f"`{name}`" in page or name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE") or f" {name}=" in page


def test_the_page_of_the_local_marketplace_names_its_product_codes() -> None:
    page = (ROOT / "docs/local-marketplace.md").read_text()
    [row] = re.findall(r"^\| `MARKETPLACE_PRODUCT_CODES` \| (.+) \|$", page, re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == list(PRODUCT_CODES)


def test_the_page_on_scaling_names_the_sizes_of_the_cookie() -> None:
    settings = MarketplaceSettings(secret_key="k" * 32, product_codes="*")
    sizes = []
    for hints in ({}, {"x-amzn-marketplace-a": "b" * 357}):
        registration = Registration(customer=make_customer(), resolved_at=datetime.now(UTC), hints=hints)
        sizes.append(len(RegistrationSession(settings).cookie(registration).partition(";")[0]))
    assert [round(size, -2) for size in sizes] == [500, 1000]
    page = (ROOT / "docs/scaling.md").read_text()
    assert "| the cookie | 500 bytes on each request" in page
    assert "1 kB with the longest hints" in page


def test_the_files_that_the_readme_links_to_exist() -> None:
    targets = re.findall(r"\]\(([^)#:]+)[)#]", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


def test_contributors_are_told_of_every_target() -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    told = re.findall(r"^\| `make ([a-z-]+)` \| .+ \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(targets)
