import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from starlette_marketplace import MarketplaceSettings
from starlette_marketplace.cli import main
from starlette_marketplace.local import LocalMarketplace
from tests.doctor.world import (
    AWS_SECRET_KEY,
    CHECKS,
    KEY_ID,
    RIGHT,
    SECRET_KEY,
    Elsewhere,
    Run,
    World,
    secrets_of,
)
from tests.support.aws import FakeAws, answer, failure
from tests.support.hosts import fastapi_middleware
from tests.support.internet import internet
from tests.support.servers import serve


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    marketplace = LocalMarketplace()
    entitlements = FakeAws(answer({}))
    agreements = FakeAws(failure("ResourceNotFoundException", 404))
    with (
        contextlib.ExitStack() as stack,
        pytest.MonkeyPatch.context() as patch,
        internet(tmp_path_factory.mktemp("internet")) as net,
    ):
        url = stack.enter_context(serve(marketplace))
        patch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
        patch.setenv("AWS_SECRET_ACCESS_KEY", AWS_SECRET_KEY)
        settings = MarketplaceSettings(secret_key=SECRET_KEY, product_codes="*", endpoint_url=url, max_attempts=1)
        host = stack.enter_context(serve(fastapi_middleware(settings=settings), lifespan="on"))
        elsewhere = stack.enter_context(serve(Elsewhere(), lifespan="off"))
        net.upstreams |= {
            "entitlement.marketplace.us-east-1.amazonaws.com": stack.enter_context(serve(entitlements, lifespan="off")),
            "agreement-marketplace.us-east-1.amazonaws.com": stack.enter_context(serve(agreements, lifespan="off")),
            ".amazonaws.com": url,
            "shop.example": host,
            "elsewhere.example": elsewhere,
            "strange.example": elsewhere,
        }
        net.certificates["strange.example"] = trustme.CA().issue_cert("strange.example")
        yield World(net, marketplace, url, entitlements, agreements)


@pytest.fixture(autouse=True)
def environment(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The environment of a host where everything is right, and of nothing else on this machine."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "MARKETPLACE_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in (RIGHT | world.internet.environment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    world.marketplace.reset()
    world.entitlements.calls.clear()
    world.agreements.calls.clear()
    return monkeypatch


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """The command, with JSON."""

    def run(*arguments: str) -> Run:
        code = main(["doctor", "--json", *arguments])
        out, err = capsys.readouterr()
        for secret in secrets_of(os.environ):
            assert secret not in out
        assert err == ""
        answer = json.loads(out)
        assert answer["ok"] is (code == 0)
        findings: dict[str, list[dict[str, str]]] = {}
        for finding in answer["findings"]:
            assert set(finding) == {"check", "status", "message", "advice"}
            assert bool(finding["advice"]) is (finding["status"] in ("warning", "problem"))
            findings.setdefault(finding["check"], []).append(finding)
        assert list(findings) == CHECKS
        return Run(code, findings)

    return run


@pytest.fixture
def text(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The command without JSON, and with the number that botocore has in the docs."""

    def run(*arguments: str) -> str:
        code = main(["doctor", *arguments])
        out, err = capsys.readouterr()
        assert err == ""
        assert code == (1 if "PROBLEM" in out else 0)
        return re.sub(r"botocore [\d.]+", "botocore 1.44.5", out)

    return run
