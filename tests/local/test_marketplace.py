import base64
import importlib
import sys
from typing import Any

import anyio
import boto3
import httpx2
import pytest
import trio
from trio.testing import MockClock

from starlette_marketplace.local import LocalMarketplace
from tests.local.clients import Aws
from tests.support.servers import serve


def test_a_token_looks_like_those_of_aws_and_is_awkward_in_a_form(marketplace: LocalMarketplace) -> None:
    token = marketplace.issue_token("new-product")

    assert len(token) == 184
    assert len(base64.b64decode(token, validate=True)) == 136
    assert "+" in token
    assert "/" in token
    assert token.endswith("==")


def test_a_scenario_that_does_not_exist_is_answered_with_those_that_do(marketplace: LocalMarketplace) -> None:
    with pytest.raises(
        ValueError, match=r"'old-product' is not a scenario .*: new-product, free-trial, legacy-product"
    ):
        marketplace.issue_token("old-product")


def test_reset_forgets_tokens_buyers_and_calls(marketplace: LocalMarketplace, aws: Aws) -> None:
    token, account_id = marketplace.issue_token("new-product"), marketplace.buyer.account_id
    aws.resolve(token)

    marketplace.reset()

    assert marketplace.resolve_calls == []
    assert marketplace.buyer.account_id != account_id
    assert aws.refusal(token)[0] == "InvalidTokenException"


def test_only_so_many_tokens_and_calls_are_remembered() -> None:
    marketplace = LocalMarketplace(limit=3)
    oldest, *kept = (marketplace.issue_token("new-product") for _ in range(4))

    with serve(marketplace) as url, Aws(url) as aws:
        assert aws.refusal(oldest)[0] == "InvalidTokenException"
        assert len([aws.resolve(token) for token in kept]) == 3

    assert [call.scenario for call in marketplace.resolve_calls] == ["new-product"] * 3


def test_ten_thousand_tokens_are_remembered_unless_told_otherwise(marketplace: LocalMarketplace, aws: Aws) -> None:
    oldest, second = marketplace.issue_token("new-product"), marketplace.issue_token("new-product")
    for _ in range(9_999):
        marketplace.issue_token("new-product")

    assert aws.refusal(oldest)[0] == "InvalidTokenException"
    assert aws.resolve(second)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_marketplace_runs_on_either_event_loop(marketplace: LocalMarketplace, backend: str) -> None:
    async def visit() -> list[int]:
        async with client_of(marketplace) as client:
            paths = ("/", "/activity", "/activity/registrations", "/connect", "/static/storefront.css")
            pages = [*[await client.get(path) for path in paths], await client.post("/buyer")]
        return [page.status_code for page in pages]

    assert anyio.run(visit, backend=backend) == [200, 200, 200, 200, 200, 303]


def test_a_delay_makes_aws_slow_and_the_call_is_recorded_meanwhile(marketplace: LocalMarketplace) -> None:
    marketplace.delay = 3600
    waited: list[float] = []
    recorded: list[int] = []

    async def call() -> None:
        async with client_of(marketplace) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(look_in_the_middle)
            start = trio.current_time()
            await client.post("/", headers={"X-Amz-Target": "AWSMPMeteringService.ResolveCustomer"})
            waited.append(trio.current_time() - start)

    async def look_in_the_middle() -> None:
        await anyio.sleep(1800)
        assert waited == []
        recorded.append(len(marketplace.resolve_calls))

    options: dict[str, Any] = {"clock": MockClock(autojump_threshold=0)}
    anyio.run(call, backend="trio", backend_options=options)

    assert waited == [pytest.approx(3600)]
    assert recorded == [1]


def test_the_security_token_service_answers_at_the_same_address_and_is_no_resolve_call(
    marketplace: LocalMarketplace, url: str
) -> None:
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
    sts: Any = boto3.client("sts", endpoint_url=url, region_name="us-east-1", **keys)  # type: ignore[call-overload]

    assert sts.get_caller_identity()["Account"] == "123456789012"
    sts.close()
    assert marketplace.resolve_calls == []


@pytest.mark.parametrize("package", ["jinja2", "uvicorn"])
def test_without_the_extra_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith("starlette_marketplace.local")]:
        monkeypatch.delitem(sys.modules, name)

    with pytest.raises(ImportError, match=rf'needs {package} .* pip install "starlette-marketplace\[local\]"'):
        importlib.import_module("starlette_marketplace.local")


def client_of(marketplace: LocalMarketplace) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(marketplace), base_url="http://localhost")
