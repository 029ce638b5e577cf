import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from starlette_marketplace.local import ENDPOINTS, PRODUCT_CODES, LocalMarketplace, ResolveCall
from tests.local.pages import open_page

A_HOST = """
import sys
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette_marketplace import MarketplaceMiddleware

app = Starlette()
app.add_middleware(MarketplaceMiddleware)
with TestClient(app, follow_redirects=False) as client:
    form = {"x-amzn-marketplace-token": sys.stdin.read()}
    print(client.post("/marketplace/register", data=form).status_code)
"""
DOCS = (Path(__file__).parents[2] / "docs/local-marketplace.md").read_text()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_page_says_what_to_set_with_the_address_under_which_it_was_found(url: str, name: str) -> None:
    address = url.replace("127.0.0.1", name)

    page = open_page(f"{address}/connect")

    command, environment, python, javascript, cli, registration_url, with_address = page.preformatted
    assert command == "starlette-marketplace local -- uvicorn acme:app"
    for name in ENDPOINTS:
        assert f"export {name}={address}\n" in environment
    assert f'endpoint_url="{address}"' in python
    assert f'endpoint: "{address}"' in javascript
    assert f"--endpoint-url {address} " in cli
    assert registration_url == LocalMarketplace().registration_url
    port = httpx2.URL(url).port
    assert with_address == f"starlette-marketplace local --port {port} --app {registration_url} -- uvicorn acme:app"
    assert page.headings[0] == "h1"
    for code in PRODUCT_CODES:
        assert code in page.text


def test_the_python_example_resolves_a_token(marketplace: LocalMarketplace, url: str) -> None:
    example = open_page(f"{url}/connect").preformatted[2]
    names: dict[str, object] = {"token": marketplace.issue_token("new-product")}

    exec(compile(example + "\nmetering.close()", "connect.html", "exec"), names)

    answer = names["answer"]
    assert isinstance(answer, dict)
    assert answer["CustomerAWSAccountId"] == marketplace.buyer.account_id


def test_an_app_with_this_package_needs_no_more_than_the_variables(
    marketplace: LocalMarketplace, url: str, tmp_path: Path
) -> None:
    example = open_page(f"{url}/connect").preformatted[1]
    environment = {"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"}

    host = subprocess.run(
        ["sh", "-euc", f'{example}\nexec python -c "$0"', A_HOST],
        input=marketplace.issue_token("new-product"),
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert host.stdout == "303\n", host.stderr
    assert marketplace.resolve_calls == [ResolveCall("new-product", 200)]


def test_the_documentation_has_the_same_example(url: str) -> None:
    example = open_page(f"{url}/connect").preformatted[1]

    assert f"```sh\n{example.replace(url, 'http://localhost:8001')}\n```" in DOCS


def test_the_address_of_a_marketplace_behind_the_default_port_is_whole(url: str) -> None:
    page = httpx2.get(f"{url}/connect", headers={"Host": "localhost"}).text

    assert "METERING=http://localhost\n" in page
    assert "--port 80 " in page
