import base64
import contextlib
import gzip
import io
import json
import logging
import os
import re
import secrets
import socket
import subprocess
import sys
import sysconfig
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore
import pytest
import trustme
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.types import Receive, Scope, Send

from starlette_marketplace import AwsUnavailableError, MarketplaceSettings
from starlette_marketplace.cli import main
from starlette_marketplace.doctor import Finding, Status, as_text, examine
from starlette_marketplace.doctor.aws import Aws, halves, utc_now
from starlette_marketplace.doctor.findings import TOPICS
from starlette_marketplace.doctor.landing import check_landing
from starlette_marketplace.local import LocalMarketplace
from tests.hosts import LANDING, fastapi_middleware
from tests.internet import Internet, internet
from tests.network import refusing
from tests.servers import serve

DOCS = (Path(__file__).parent.parent / "docs/doctor.md").read_text()
SECRET_KEY = "Zk3vQ8xW1nB6tY0pL5sD9fG2hJ7aR4uM"
AWS_SECRET_KEY = "wJalrXUtnFEMI0K7MDENG1bPxRfiCYzzKEYabcde"
SESSION_TOKEN = "FwoGZXIvYXdzEJr0123456789sessiontoken"
SELLER = "444455556666"
OTHER = "210987654321"
KEY_ID = f"AKIALOCAL{SELLER}"
ROLE = f"arn:aws:iam::{OTHER}:role/team/resolver"
PRODUCT_CODE = "5z0rgy2jq4t1bw8xk3n6v9m0a"
HOST = "https://shop.example"
CHECKS = [check for checks in TOPICS.values() for check in checks]

# What a right host has, on the internet of these tests. AWS answers at its own names.
RIGHT = {
    "MARKETPLACE_SECRET_KEY": SECRET_KEY,
    "MARKETPLACE_PRODUCT_CODES": PRODUCT_CODE,
    "MARKETPLACE_SUPPORT_URL": "mailto:support@shop.example",
    "MARKETPLACE_SELLER_ACCOUNT_ID": SELLER,
    "MARKETPLACE_MAX_ATTEMPTS": "1",
    "AWS_ACCESS_KEY_ID": KEY_ID,
    "AWS_SECRET_ACCESS_KEY": AWS_SECRET_KEY,
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Elsewhere:
    """Whoever else may answer at a landing URL, by the first part of the host's name."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await self.answer(request)(scope, receive, send)

    def answer(self, request: Request) -> Response:
        name = request.url.hostname or ""
        kind = name.partition(".")[0]
        is_post = request.method == "POST"
        if kind.startswith("status-"):
            return PlainTextResponse("No", int(kind[-3:]))
        if kind.startswith("code-") and is_post:
            code = kind.removeprefix("code-").replace("-", "_").upper()
            return JSONResponse({"success": False, "error": {"code": code, "message": "No"}}, 503)
        if kind.startswith("post-") and is_post:
            return PlainTextResponse("No", int(kind[-3:]))
        match kind:
            case "spa":
                return HTMLResponse("<title>Shop</title>")
            case "login":
                return RedirectResponse("/login?next=secret", 302)
            case "moved":
                return RedirectResponse("https://www.shop.example/marketplace/register", 308)
            case "csrf" if is_post:
                return PlainTextResponse("Cross-site POST form submissions are forbidden", 403)
            case "token-csrf" if is_post:
                return PlainTextResponse("CSRF token verification failed", 403)
            case "names":
                return PlainTextResponse("Invalid host header", 400)
            case "accepts" if is_post:
                return RedirectResponse("/signup", 303)
            case "nonsense" if is_post:
                return JSONResponse({"error": {"code": ["\x1b[31m"]}}, 400)
            case "terminal":
                return PlainTextResponse("No", 302, {"Location": "https://shop.example/\x9b31m"})
            case "head" if request.method == "HEAD":
                return PlainTextResponse("No", 405)
        title = "Set up your account from AWS Marketplace"
        return HTMLResponse(f"<title>{title}</title>")


@dataclass
class World:
    """Everything that a host meets."""

    internet: Internet
    marketplace: LocalMarketplace
    url: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    marketplace = LocalMarketplace()
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
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        net.upstreams |= {
            ".amazonaws.com": url,
            "shop.example": host,
            "elsewhere.example": elsewhere,
            "strange.example": elsewhere,
            "silent.example": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }
        net.certificates["strange.example"] = trustme.CA().issue_cert("strange.example")
        yield World(net, marketplace, url)


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
    return monkeypatch


@dataclass(frozen=True)
class Run:
    """What a run of the command gave."""

    code: int
    findings: dict[str, list[dict[str, str]]]

    def statuses(self, status: str) -> list[str]:
        return [check for check, found in self.findings.items() for finding in found if finding["status"] == status]

    def one(self, check: str, status: str) -> dict[str, str]:
        (finding,) = [finding for finding in self.findings[check] if finding["status"] == status]
        return finding


def secrets_of(environ: Mapping[str, str]) -> list[str]:
    """What may not come out: every key, the session token, and account ids in full."""
    values = [value for name, value in environ.items() if re.search("SECRET|TOKEN", name)]
    keys = [key for value in values for key in value.split(",")]
    return [key for key in [*keys, SECRET_KEY, AWS_SECRET_KEY, SELLER, OTHER] if key]


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


def first(check: str, **options: Any) -> Finding:
    """The first finding of a check; those after it are not made."""
    return next(finding for finding in examine(os.environ, **options) if finding.check == check)


def examined(**options: Any) -> dict[str, Finding]:
    """The findings by check, of a run in which each check has one."""
    findings = list(examine(os.environ, **options))
    by_check = {finding.check: finding for finding in findings}
    assert len(by_check) == len(findings)
    return by_check


def test_a_right_configuration_is_silent(doctor: Callable[..., Run], world: World) -> None:
    run = doctor("--url", HOST + LANDING)

    assert run.code == 0
    assert run.statuses("warning") == run.statuses("problem") == []
    assert run.statuses("skipped") == ["role"]
    assert [call.scenario for call in world.marketplace.resolve_calls] == [None, None]


def test_a_right_configuration_with_a_role_is_silent(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("MARKETPLACE_ROLE_ARN", f"arn:aws:iam::{SELLER}:role/guarded")
    environment.setenv("MARKETPLACE_ROLE_EXTERNAL_ID", "shared")
    environment.setenv("AWS_ACCESS_KEY_ID", f"AKIALOCAL{OTHER}")
    run = doctor("--url", HOST)

    assert run.code == 0
    assert run.statuses("warning") == run.statuses("problem") == run.statuses("skipped") == []
    assert run.one("role", "ok")["message"] == f"The role guarded of account ********{SELLER[-4:]} can be assumed."
    assert "by assumed-role/guarded/starlette-marketplace." in run.one("account", "ok")["message"]


@dataclass(frozen=True)
class Plant:
    """A fault: the variables that make it, and what the doctor has to say of it."""

    check: str
    status: str
    message: str
    advice: str
    variables: dict[str, str | None] = field(default_factory=dict)
    url: str = HOST + LANDING
    config: str = ""


def plant(fault: Plant, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in fault.variables.items():
        if value is None:
            environment.delenv(name)
        else:
            environment.setenv(name, value)
    (tmp_path / "config").write_text(fault.config)


FAULTS = {
    # settings
    "nothing": Plant(
        "settings",
        "problem",
        "No variable of the environment begins with MARKETPLACE_.",
        "Required are MARKETPLACE_SECRET_KEY and MARKETPLACE_PRODUCT_CODES",
        {name: None for name in RIGHT if name.startswith("MARKETPLACE_")},
    ),
    "no-secret-key": Plant(
        "settings",
        "problem",
        "MARKETPLACE_SECRET_KEY is not set.",
        "make one with python -c",
        {"MARKETPLACE_SECRET_KEY": None},
    ),
    "short-secret-key": Plant(
        "settings",
        "problem",
        "must be at least 32 characters each.",
        "Correct MARKETPLACE_SECRET_KEY in the environment of the host: make one with",
        {"MARKETPLACE_SECRET_KEY": "short"},
    ),
    "no-product-code": Plant(
        "settings",
        "problem",
        "MARKETPLACE_PRODUCT_CODES is not set.",
        "product_codes must list the AWS Marketplace product codes",
        {"MARKETPLACE_PRODUCT_CODES": ""},
    ),
    "external-id-without-role": Plant(
        "settings",
        "problem",
        "role_external_id needs role_arn",
        "Correct MARKETPLACE_ROLE_EXTERNAL_ID",
        {"MARKETPLACE_ROLE_EXTERNAL_ID": "shared"},
    ),
    "account-without-its-zero": Plant(
        "settings",
        "problem",
        "seller_account_id must be the 12 digits of an AWS account id",
        "the first may be 0",
        {"MARKETPLACE_SELLER_ACCOUNT_ID": "44455556666"},
    ),
    "misspelt": Plant(
        "variables",
        "warning",
        "MARKETPLACE_PRODUCT_CODE is in the environment, and there is no such setting.",
        "Did you mean MARKETPLACE_PRODUCT_CODES?",
        {"MARKETPLACE_PRODUCT_CODE": "acme"},
    ),
    "unknown-variable": Plant(
        "variables",
        "warning",
        "MARKETPLACE_COLOUR is in the environment",
        "Remove it, or see the table of settings in the README.",
        {"MARKETPLACE_COLOUR": "red"},
    ),
    "nested-variable": Plant(
        "variables",
        "warning",
        "MARKETPLACE__SIGNUP_URL is in the environment",
        "Did you mean MARKETPLACE_SIGNUP_URL?",
        {"MARKETPLACE__SIGNUP_URL": "/join"},
    ),
    "placeholder": Plant(
        "secret_key",
        "problem",
        "secret_key can be guessed: it has the words of a placeholder.",
        "Make a random one with python -c",
        {"MARKETPLACE_SECRET_KEY": "please-CHANGE-ME-3f7a9c1e5b8d2064"},
    ),
    "the-key-of-the-demo": Plant(
        "secret_key",
        "problem",
        "it has the words of a placeholder",
        "Make a random one",
        {"MARKETPLACE_SECRET_KEY": "demo-only-marketplace-secret-never-use-it-elsewhere"},
    ),
    "one-character": Plant(
        "secret_key",
        "problem",
        "it has only 1 different characters",
        "Make a random one",
        {"MARKETPLACE_SECRET_KEY": "k" * 40},
    ),
    "repeated": Plant(
        "secret_key",
        "problem",
        "it repeats itself",
        "Make a random one",
        {"MARKETPLACE_SECRET_KEY": "q7T-vB2xZm" * 4},
    ),
    "sequence": Plant(
        "secret_key",
        "problem",
        "its characters follow one another",
        "Make a random one",
        {"MARKETPLACE_SECRET_KEY": "abcdefghijklmnopqrstuvwxyz0123456789"},
    ),
    "weak-old-key": Plant(
        "secret_key",
        "problem",
        "secret_key_fallbacks, number 2 can be guessed",
        "do not keep the old one",
        {"MARKETPLACE_SECRET_KEY_FALLBACKS": f"{SECRET_KEY[::-1]},{'p' * 32}"},
    ),
    "key-not-changed": Plant(
        "secret_key",
        "warning",
        "The same key is more than once",
        "Put the new key into secret_key",
        {"MARKETPLACE_SECRET_KEY_FALLBACKS": SECRET_KEY},
    ),
    "product-id": Plant(
        "product_codes",
        "problem",
        "prod-abcdefghijklm is a product id and no product code",
        "Take the product code from the product's page",
        {"MARKETPLACE_PRODUCT_CODES": f"{PRODUCT_CODE},prod-abcdefghijklm"},
    ),
    "any-product": Plant(
        "product_codes",
        "warning",
        "a buyer of any product of the seller account is let in",
        "List the product codes of this product",
        {"MARKETPLACE_PRODUCT_CODES": "*"},
    ),
    "plain-http-cookies": Plant(
        "https_only",
        "warning",
        "https_only is false",
        "Leave it out wherever buyers come",
        {"MARKETPLACE_HTTPS_ONLY": "false"},
    ),
    "domain-of-another": Plant(
        "session_domain",
        "problem",
        "session_domain op.example does not cover shop.example: browsers refuse the cookie",
        "set it to shop.example",
        {"MARKETPLACE_SESSION_DOMAIN": "op.example"},
    ),
    # AWS
    "no-such-profile": Plant(
        "aws_config",
        "problem",
        "The config profile (seller) could not be found.",
        "Set profile_name to a profile of the AWS configuration files.",
        {"MARKETPLACE_PROFILE_NAME": "seller"},
    ),
    "broken-config": Plant(
        "aws_config",
        "problem",
        "The AWS configuration cannot be used (ConfigParseError).",
        "Correct it",
        config="[default\n",
    ),
    "no-region": Plant(
        "region",
        "problem",
        "The AWS region is not the name of one.",
        "Set region_name, such as us-east-1.",
        {"MARKETPLACE_REGION_NAME": "us east 1"},
    ),
    "govcloud": Plant(
        "region",
        "problem",
        "AWS Marketplace Metering is not in the region us-gov-west-1",
        "Set region_name to a region that has it, such as us-east-1; GovCloud has none",
        {"MARKETPLACE_REGION_NAME": "us-gov-west-1"},
    ),
    "no-credentials": Plant(
        "credentials",
        "problem",
        "No AWS credentials were found.",
        "Give the host a role of the seller account",
        {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
    ),
    "half-the-credentials": Plant(
        "credentials",
        "problem",
        "No AWS credentials could be had (PartialCredentialsError).",
        "Renew or correct them",
        {"AWS_SECRET_ACCESS_KEY": None},
    ),
    "process-fails": Plant(
        "credentials",
        "problem",
        "No AWS credentials could be had (CredentialRetrievalError).",
        "Renew or correct them",
        {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
        config="[default]\ncredential_process = /bin/false\n",
    ),
    "no-session-token": Plant(
        "credentials",
        "problem",
        "their session token is missing",
        "Set AWS_SESSION_TOKEN",
        {"AWS_ACCESS_KEY_ID": f"ASIALOCAL{SELLER}"},
    ),
    "expired-credentials": Plant(
        "account",
        "problem",
        "AWS does not accept the credentials (ExpiredToken).",
        "Renew or correct them; a wrong clock makes for this too",
        {"AWS_ACCESS_KEY_ID": "expired"},
    ),
    "unknown-credentials": Plant(
        "account",
        "problem",
        "AWS does not accept the credentials (InvalidClientTokenId).",
        "Renew or correct them",
        {"AWS_ACCESS_KEY_ID": "unknown"},
    ),
    "account-not-named": Plant(
        "account",
        "warning",
        "by user/local, and nothing says whether that is the account that published the product.",
        "Set seller_account_id to that account.",
        {"MARKETPLACE_SELLER_ACCOUNT_ID": None},
    ),
    "another-account": Plant(
        "account",
        "problem",
        "made from account ********4321, by user/local, and not from the seller account ********6666",
        "or name a role of it in role_arn",
        {"AWS_ACCESS_KEY_ID": f"AKIALOCAL{OTHER}"},
    ),
    "role-of-another-account": Plant(
        "account",
        "problem",
        "********4321, by assumed-role/resolver/starlette-marketplace, and not from the seller account",
        "Give the host credentials of the account that published the product",
        {"MARKETPLACE_ROLE_ARN": ROLE},
    ),
    "role-denied": Plant(
        "role",
        "problem",
        "role_arn names the role denied. The role cannot be assumed (AssumeRole: AccessDenied, HTTP 403",
        "The trust policy of the role must name the host's own identity",
        {"MARKETPLACE_ROLE_ARN": f"arn:aws:iam::{SELLER}:role/denied"},
    ),
    "external-id-missing": Plant(
        "role",
        "problem",
        "The role cannot be assumed (AssumeRole: AccessDenied",
        "role_external_id must be the one that the trust policy asks for",
        {"MARKETPLACE_ROLE_ARN": f"arn:aws:iam::{SELLER}:role/guarded"},
    ),
    "role-with-expired-credentials": Plant(
        "role",
        "problem",
        "AWS refused us credentials (AssumeRole: ExpiredToken, HTTP 403",
        "Renew or correct those they are had by.",
        {"MARKETPLACE_ROLE_ARN": ROLE, "AWS_ACCESS_KEY_ID": "expired"},
    ),
}

LANDING_FAULTS = {
    "plain-http": Plant(
        "landing_url",
        "problem",
        "http://127.1.2.3:9/marketplace/register is not HTTPS",
        "put the https URL into your listing",
        url="http://127.1.2.3:9",
    ),
    "nobody-listens": Plant(
        "landing_get",
        "problem",
        "GET gets no answer: Connection refused.",
        "whether the host is running",
        url="http://127.1.2.3:9",
    ),
    "no-such-name": Plant(
        "landing_get",
        "problem",
        "GET gets no answer: Tunnel connection failed: 502",
        "Check the name in the DNS",
        url="https://nowhere.invalid",
    ),
    "certificate": Plant(
        "landing_get",
        "problem",
        "GET gets no answer: its certificate is not trusted (unable to get local issuer certificate).",
        "Install a certificate for this host name of a public authority",
        url="https://strange.example",
    ),
    "wrong-path": Plant(
        "landing_get",
        "problem",
        "GET is answered with 404.",
        "The path of the URL is not registration_path",
        url=f"{HOST}/aws",
    ),
    "wrong-path-post": Plant(
        "landing_post",
        "problem",
        "POST is answered with 404.",
        "or the host runs without MarketplaceMiddleware",
        url=f"{HOST}/aws",
    ),
    "get-not-answered": Plant(
        "landing_get",
        "problem",
        "GET is answered with 405.",
        "Another route answers at this address, and not this package",
        url="https://status-405.elsewhere.example",
    ),
    "head-not-answered": Plant(
        "landing_head",
        "problem",
        "HEAD is answered with 405.",
        "Another route answers",
        url="https://head.elsewhere.example",
    ),
    "all-routes-caught": Plant(
        "landing_get",
        "warning",
        "GET is answered with 200, but not with the page of this package.",
        "such as a route that catches all",
        url="https://spa.elsewhere.example",
    ),
    "all-routes-caught-post": Plant(
        "landing_post",
        "problem",
        "answered with 200, as if it were a customer's.",
        "or not this package answers",
        url="https://spa.elsewhere.example",
    ),
    "accepts-anything": Plant(
        "landing_post",
        "problem",
        "answered with 303, as if it were a customer's.",
        "the host asks something else than AWS",
        url="https://accepts.elsewhere.example",
    ),
    "login-before-it": Plant(
        "landing_post",
        "problem",
        "POST is answered with 302, a redirect to https://login.elsewhere.example/login, where the form is lost.",
        "If it is a login page, authentication stands before this package",
        url="https://login.elsewhere.example",
    ),
    "redirect": Plant(
        "landing_post",
        "problem",
        "POST is answered with 308, a redirect to https://www.shop.example/marketplace/register.",
        "Put the URL at its end into the listing",
        url="https://moved.elsewhere.example",
    ),
    "csrf-by-origin": Plant(
        "landing_post",
        "problem",
        "POST is answered with 403 by a CSRF protection.",
        "put MarketplaceMiddleware outside of that middleware",
        url="https://csrf.elsewhere.example",
    ),
    "csrf-by-token": Plant(
        "landing_post",
        "problem",
        "POST is answered with 403 by a CSRF protection.",
        "exempt the landing URL",
        url="https://token-csrf.elsewhere.example",
    ),
    "host-not-allowed": Plant(
        "landing_get",
        "problem",
        "GET is answered with 400: the host name is not allowed.",
        "Add it to allowed_hosts of TrustedHostMiddleware.",
        url="https://names.elsewhere.example",
    ),
    "host-not-allowed-post": Plant(
        "landing_post",
        "problem",
        "POST is answered with 400: the host name is not allowed.",
        "Add it to allowed_hosts",
        url="https://names.elsewhere.example",
    ),
    "firewall": Plant(
        "landing_post",
        "problem",
        "POST is answered with 403.",
        "A firewall (WAF), a CDN or authentication stands before the host",
        url="https://post-403.elsewhere.example",
    ),
    "bad-gateway": Plant(
        "landing_get",
        "problem",
        "GET is answered with 502.",
        "The proxy before the host does not reach it",
        url="https://status-502.elsewhere.example",
    ),
    "not-known": Plant(
        "landing_post",
        "problem",
        "POST is answered with 418.",
        "Look into the log of the host",
        url="https://post-418.elsewhere.example",
    ),
    "no-json-of-ours": Plant(
        "landing_post",
        "warning",
        "answered with 400, but not by the JSON of this package.",
        "If a hook on_error answers so, all is well",
        url="https://nonsense.elsewhere.example",
    ),
    "hosts-credentials": Plant(
        "landing_post",
        "problem",
        "answered with 503 CREDENTIALS: the host has no AWS credentials, or AWS refuses them.",
        "its credentials are not those that were checked here",
        url="https://code-credentials.elsewhere.example",
    ),
    "hosts-network": Plant(
        "landing_post",
        "problem",
        "answered with 503 AWS_UNAVAILABLE: the host does not reach AWS",
        "let the host reach metering.marketplace.<region>.amazonaws.com",
        url="https://code-aws-unavailable.elsewhere.example",
    ),
    "hosts-rate": Plant(
        "landing_post",
        "warning",
        "answered with 503 THROTTLED: AWS limits the rate of the host's calls.",
        "Run doctor again in a minute.",
        url="https://code-throttled.elsewhere.example",
    ),
    "form-read-before": Plant(
        "landing_post",
        "problem",
        "503 MISSING_TOKEN: the form came in without its fields.",
        "put MarketplaceMiddleware outside of it",
        url="https://code-missing-token.elsewhere.example",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found_and_explained(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, tmp_path: Path, fault: Plant
) -> None:
    plant(fault, environment, tmp_path)

    run = doctor("--url", fault.url)

    finding = run.one(fault.check, fault.status)
    assert fault.message in finding["message"]
    assert fault.advice in finding["advice"]
    assert run.code == (1 if run.statuses("problem") else 0)
    # A fault of one topic shows in no other.
    topic = next(checks for checks in TOPICS.values() if fault.check in checks)
    assert {*run.statuses("warning"), *run.statuses("problem")} <= set(topic)


@pytest.mark.parametrize("fault", LANDING_FAULTS.values(), ids=LANDING_FAULTS)
def test_a_fault_of_the_landing_url_is_found_and_explained(fault: Plant) -> None:
    url = fault.url if fault.url.count("/") > 2 else fault.url + LANDING
    found = {finding.check: finding for finding in check_landing(url, token="made-up")}

    assert list(found) == list(TOPICS["Landing URL"])
    assert found[fault.check].status == fault.status
    assert fault.message in found[fault.check].message
    assert fault.advice in found[fault.check].advice


def test_a_fault_of_the_landing_url_alone_is_a_problem(doctor: Callable[..., Run]) -> None:
    run = doctor("--url", "https://csrf.elsewhere.example")

    assert run.code == 1
    assert run.statuses("problem") == ["landing_post"]
    assert run.statuses("warning") == []


def test_all_mistakes_in_the_settings_are_found_at_once(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch
) -> None:
    environment.delenv("MARKETPLACE_SECRET_KEY")
    environment.setenv("MARKETPLACE_MAX_ATTEMPTS", "three")
    environment.setenv("MARKETPLACE_ROLE_ARN", "resolver")
    environment.setenv("MARKETPLACE_ROLE_EXTERNAL_ID", "shared")
    run = doctor()

    assert [finding["message"] for finding in run.findings["settings"]] == [
        "MARKETPLACE_SECRET_KEY is not set.",
        "role_arn must look like arn:aws:iam::123456789012:role/name.",
        "MARKETPLACE_MAX_ATTEMPTS must be a number.",
    ]
    assert run.statuses("ok") == ["variables"]
    assert run.one("account", "skipped")["message"] == "The settings have to be valid first."


@pytest.mark.parametrize("name", ["SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP_ADDR"])
def test_what_kubernetes_puts_beside_a_service_of_our_name_is_no_mistake(
    environment: pytest.MonkeyPatch, name: str
) -> None:
    environment.setenv(f"MARKETPLACE_{name}", "tcp://10.0.0.1:80")

    assert first("variables").status == "ok"


@pytest.mark.parametrize(
    "domain", ["shop.example", ".shop.example", "SHOP.example", "example"], ids=["same", "dot", "case", "above"]
)
def test_a_session_domain_that_covers_the_host_is_right(environment: pytest.MonkeyPatch, domain: str) -> None:
    environment.setenv("MARKETPLACE_SESSION_DOMAIN", domain)

    for url in (HOST, None):
        found = first("session_domain", url=url)
        assert found.status == "ok"
        assert found.message.startswith("Registration cookies are shared with all of ")


def test_without_support_the_remark_is_no_warning(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("MARKETPLACE_SUPPORT_URL")
    found = first("support_url")

    assert found == Finding("support_url", Status.OK, "support_url is not set: error pages tell buyers nobody to ask.")


def test_random_keys_are_never_taken_for_weak_ones() -> None:
    for _ in range(500):
        for key in (
            secrets.token_urlsafe(32),
            secrets.token_hex(16),
            base64.b64encode(secrets.token_bytes(24)).decode(),
        ):
            found = next(
                finding
                for finding in examine({**RIGHT, "MARKETPLACE_SECRET_KEY": key})
                if finding.check == "secret_key"
            )
            assert found.status == "ok", key


# What comes out


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


def page_of(command: str) -> str:
    """The output that the page shows below the command."""
    shown = re.search(rf"```console\n\$ {re.escape(command)}\n(.*?)```", DOCS, re.DOTALL)
    assert shown
    return shown[1]


def test_the_page_shows_a_right_run_as_it_is(text: Callable[..., str], environment: pytest.MonkeyPatch) -> None:
    environment.delenv("MARKETPLACE_MAX_ATTEMPTS")
    command = f"starlette-marketplace doctor --url {HOST}{LANDING}"

    assert text("--url", HOST + LANDING) == page_of(command)


def test_the_page_shows_a_wrong_run_as_it_is(text: Callable[..., str], environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MARKETPLACE_PRODUCT_CODES", "prod-4xk2mq7bqmzfa")
    environment.setenv("MARKETPLACE_SUPORT_URL", "mailto:support@shop.example")
    environment.setenv("AWS_ACCESS_KEY_ID", f"AKIALOCAL{OTHER}")
    command = "starlette-marketplace doctor --url https://csrf.elsewhere.example/marketplace/register"

    assert text(*command.split()[2:]) == page_of(command)


def test_the_page_shows_json_as_it_is(doctor: Callable[..., Run], environment: pytest.MonkeyPatch) -> None:
    for name in FAULTS["no-credentials"].variables:
        environment.delenv(name)
    shown = re.search(r"```json\n(.*?)```", DOCS, re.DOTALL)
    assert shown
    (finding,) = json.loads(shown[1])["findings"]

    assert [finding] == doctor().findings["credentials"]


def test_the_page_has_every_check() -> None:
    assert re.findall(r"^\| `(\w+)` \|", DOCS, re.MULTILINE) == CHECKS


def test_what_is_skipped_for_one_reason_is_told_in_one_line(
    text: Callable[..., str], environment: pytest.MonkeyPatch
) -> None:
    environment.delenv("MARKETPLACE_SECRET_KEY")

    assert (
        "  skipped  secret_key, product_codes, https_only, session_domain, support_url: The settings have to\n"
        "           be valid first.\n"
        "\n"
        "AWS\n"
        "  skipped  aws_config, region, "
    ) in text()


@pytest.mark.parametrize(
    ("variables", "summary"),
    [
        ({}, "Nothing is wrong."),
        ({"MARKETPLACE_HTTPS_ONLY": "false"}, "1 warning."),
        ({"MARKETPLACE_HTTPS_ONLY": "false", "MARKETPLACE_X": "x"}, "2 warnings."),
        ({"MARKETPLACE_HTTPS_ONLY": "false", "MARKETPLACE_PRODUCT_CODES": "prod-1"}, "1 problem and 1 warning."),
    ],
)
def test_the_last_line_counts(
    text: Callable[..., str], environment: pytest.MonkeyPatch, variables: dict[str, str], summary: str
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)

    assert text().endswith(f"\n\n{summary}\n")


def test_a_finding_is_shown_as_soon_as_it_is_there() -> None:
    made = []

    def findings() -> Iterator[Finding]:
        for check in ("settings", "variables", "secret_key"):
            made.append(check)
            yield Finding(check, Status.OK, "Fine.")

    paragraphs = as_text(findings())

    assert next(paragraphs) == "Settings\n  ok       settings: Fine."
    assert made == ["settings"]


def test_what_a_server_sends_cannot_talk_to_the_terminal(text: Callable[..., str]) -> None:
    shown = text("--url", "https://terminal.elsewhere.example")

    assert "a redirect to https://shop.example/" in shown
    assert all(character.isprintable() for character in shown.replace("\n", ""))


@pytest.mark.parametrize(
    "name", ["another-account", "role-denied", "weak-old-key", "broken-config", "expired-credentials"]
)
def test_no_secret_comes_out_not_even_of_a_host_that_logs_everything(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    environment.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    plant(FAULTS[name], environment, tmp_path)
    logging.getLogger().addHandler(handler := logging.StreamHandler())
    logging.getLogger("botocore").setLevel(logging.DEBUG)
    try:
        main(["doctor", "--url", FAULTS[name].url])
    finally:
        logging.getLogger("botocore").setLevel(logging.NOTSET)
        logging.getLogger().removeHandler(handler)

    out, err = capsys.readouterr()
    assert err == ""
    for secret in secrets_of(os.environ):
        assert secret not in out.replace("\n", "")
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize("proxy", ["http://user:hunter2", "http://user:hunter2@127.0.0.1:1", "user:hunter2"])
def test_the_password_of_a_proxy_is_not_shown(
    text: Callable[..., str], environment: pytest.MonkeyPatch, proxy: str
) -> None:
    environment.setenv("https_proxy", proxy)
    assert "hunter2" not in text("--url", "https://shop.invalid/marketplace/register")


def test_what_may_be_secret_in_a_url_is_not_shown(text: Callable[..., str]) -> None:
    with serve(RedirectResponse("http://user:hunter2@login.example/?next=hunter2#hunter2")) as url:
        shown = text("--url", f"{url}/register?bypass=hunter2")
    assert "http://login.example/" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize("url", ["https://user:hunter2@host:99999/x", "ftp://user:hunter2@host/x", "u:hunter2@host"])
def test_a_url_with_a_password_is_refused_without_showing_it(capsys: pytest.CaptureFixture[str], url: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--url", url])
    assert ended.value.code == 2
    assert "hunter2" not in capsys.readouterr().err


def test_the_password_of_an_endpoint_is_not_shown(text: Callable[..., str], environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MARKETPLACE_ENDPOINT_URL", "http://user:hunter2@127.0.0.1:1")
    assert "hunter2" not in text()


def test_an_sts_that_says_nothing_is_a_warning(environment: pytest.MonkeyPatch) -> None:
    empty = "<GetCallerIdentityResponse><GetCallerIdentityResult/></GetCallerIdentityResponse>"
    with serve(Response(empty, media_type="text/xml")) as url:
        environment.setenv("AWS_ENDPOINT_URL_STS", url)
        found = examined()["account"]
    assert (found.status, found.message) == ("warning", "STS did not say whose account it is.")


def test_a_token_that_is_refused_for_its_form_proves_no_permission(environment: pytest.MonkeyPatch) -> None:
    with serve(JSONResponse({"__type": "ValidationException"}, 400)) as url:
        environment.setenv("MARKETPLACE_ENDPOINT_URL", url)
        found = examined()["permission"]
    assert found.status == "warning"
    assert "with ValidationException, which does not prove the permission" in found.message


def test_what_stands_in_for_aws_proves_nothing(environment: pytest.MonkeyPatch) -> None:
    with serve(JSONResponse({"__type": "InvalidTokenException"}, 400)) as url:
        environment.setenv("MARKETPLACE_ENDPOINT_URL", url)
        found = examined()["permission"]
    assert "proves nothing of AWS" in found.message


def test_ctrl_c_ends_it_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = module_of(tmp_path, "raise KeyboardInterrupt")

    assert main(["doctor", "--settings", f"{module}:settings"]) == 130
    assert capsys.readouterr() == ("", "")


def test_the_installed_command_runs_with_nothing_set(tmp_path: Path) -> None:
    command = Path(sysconfig.get_path("scripts"), "starlette-marketplace")
    run = subprocess.run([str(command), "doctor"], env={}, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run.returncode == 1
    assert "No variable of the environment begins with MARKETPLACE_." in run.stdout
    assert run.stderr == ""


# --settings


def module_of(tmp_path: Path, text: str) -> str:
    name = f"host_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    return name


HOST_CODE = f"""
    from functools import lru_cache, partial
    from starlette_marketplace import Marketplace, MarketplaceSettings
    print("hello from the host")
    class Config:
        settings = MarketplaceSettings(secret_key="{SECRET_KEY}", product_codes="{PRODUCT_CODE}",
                                       seller_account_id="{SELLER}", max_attempts=1)
    settings = Config.settings
    marketplace = Marketplace(settings)
    @lru_cache
    def get_settings():
        return settings
    def make(one):
        raise AssertionError
    get_marketplace = partial(Marketplace, settings)
    async def get_later():
        return settings
    def broken():
        return MarketplaceSettings(secret_key="{SECRET_KEY}")
    def fails():
        raise RuntimeError("{SECRET_KEY}")
    def leaves():
        raise SystemExit("{SECRET_KEY}")
    numbers = 5
    uncertain = type
"""


@pytest.mark.parametrize("name", ["settings", "Config.settings", "marketplace", "get_settings", "get_marketplace"])
def test_settings_can_be_named(
    doctor: Callable[..., Run],
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    environment.delenv("MARKETPLACE_SECRET_KEY")
    target = f"{module_of(tmp_path, HOST_CODE)}:{name}"
    with contextlib.redirect_stderr(io.StringIO()) as err:
        run = doctor("--settings", target)

    assert run.code == 0
    assert run.statuses("warning") == []
    assert run.one("settings", "ok")["message"] == f"The settings of {target} are valid."
    assert err.getvalue() == "hello from the host\n"


@pytest.mark.parametrize(
    ("name", "message", "advice"),
    [
        ("broken", "product_codes must list the AWS Marketplace product codes", "Correct {target}."),
        ("numbers", "{target} is no settings, but of the type int.", "Name settings, a Marketplace, or a function"),
        ("make", "{target} is no settings, but of the type function.", "Name settings"),
        ("uncertain", "{target} is no settings, but of the type type.", "Name settings"),
        ("get_later", "{target} is no settings, but of the type coroutine.", "Name settings"),
        ("nothing", "{target} cannot be had: {module} has no nothing.", "Name settings"),
        ("fails", "{target} cannot be had: RuntimeError at {module}.py, line ", "its text may quote a secret"),
        ("leaves", "{target} cannot be had: SystemExit at {module}.py, line ", "Run python -c 'import {module}'"),
    ],
)
def test_settings_that_cannot_be_had_are_a_finding(
    doctor: Callable[..., Run], tmp_path: Path, name: str, message: str, advice: str
) -> None:
    module = module_of(tmp_path, HOST_CODE)
    target = f"{module}:{name}"
    with contextlib.redirect_stderr(io.StringIO()):
        run = doctor("--settings", target)

    finding = run.one("settings", "problem")
    assert message.format(target=target, module=module) in finding["message"]
    assert advice.format(target=target, module=module) in finding["advice"]
    assert run.code == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name", "there is no module nothing_of_that_name."),
        ("import os\nos.nothing", "cannot be had: AttributeError at {module}.py, line 2."),
        ("settings = (", "cannot be had: SyntaxError."),
    ],
)
def test_a_module_that_cannot_be_imported_is_a_finding(
    doctor: Callable[..., Run], tmp_path: Path, text: str, message: str
) -> None:
    module = module_of(tmp_path, text)
    run = doctor("--settings", f"{module}:settings")

    assert message.format(module=module) in run.one("settings", "problem")["message"]


def test_with_named_settings_only_what_is_nearly_ours_is_misspelt(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("MARKETPLACE_COLOUR", "MARKETPLACE__SECRET_KEY", "MARKETPLACE_SIGNUP_ULR"):
        environment.setenv(name, "a value of another program")
    with contextlib.redirect_stderr(io.StringIO()):
        run = doctor("--settings", f"{module_of(tmp_path, HOST_CODE)}:settings")

    assert run.one("variables", "warning")["message"].startswith("MARKETPLACE_SIGNUP_ULR is in the environment")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--settings", "app"], "argument --settings: 'app' is not of the form module:name, such as app.main:settings"),
        (["--settings", ".app:x"], "is not of the form module:name"),
        (["--settings", "app:x y"], "is not of the form module:name"),
        (["--url", "shop.example"], "argument --url: 'shop.example' is not an http or https URL"),
        (["--url", "https://me:hidden@shop.example"], "argument --url: the URL of a listing has no user name"),
        (["--url", "http://[::1"], "argument --url: 'http://[::1' is not an http or https URL"),
    ],
)
def test_wrong_usage_has_an_exit_code_of_its_own(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *arguments])

    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert "hidden" not in err


# AWS


@pytest.mark.parametrize(
    ("scenario", "status", "message", "advice"),
    [
        (
            "access-denied",
            "problem",
            "Our credentials may not resolve customers (ResolveCustomer: AccessDeniedException, HTTP 400",
            '{"Effect": "Allow", "Action": "aws-marketplace:ResolveCustomer", "Resource": "*"}',
        ),
        (
            "invalid-signature",
            "problem",
            "AWS refused our credentials (ResolveCustomer: InvalidSig",
            "Renew or correct",
        ),
        ("unrecognized-client", "problem", "AWS refused our credentials", "Renew or correct them"),
        ("expired-credentials", "problem", "AWS refused our credentials (ResolveCustomer: Expired", "Renew or correct"),
        ("disabled-api", "problem", "ResolveCustomer is disabled in this region", "Change region_name."),
        ("throttled", "warning", "AWS limits the rate of our calls", "AWS knows the credentials; run doctor again"),
        ("internal-error", "problem", "AWS failed (ResolveCustomer: InternalServiceError", "It may pass; if not, see"),
        ("html-503", "problem", "AWS failed (ResolveCustomer: 503", "It may pass"),
        ("not-json", "problem", "AWS answered with nothing in it", "The answer was cut off, or did not come from AWS"),
        ("expired", "problem", "The token has expired (ResolveCustomer", "The buyer needs a fresh link"),
        ("no-account-id", "problem", "AWS accepted the token, but its answer is not usable", "Aws_account_id must"),
        ("new-product", "problem", "A made-up token was taken for that of a customer", "See endpoint"),
        ("hanging-headers", "problem", "AWS was not reached (ReadTimeoutError)", "check the network"),
        ("invalid", "ok", "AWS answered a made-up token with InvalidTokenException", ""),
    ],
)
def test_every_answer_to_the_made_up_token_is_explained(
    world: World, environment: pytest.MonkeyPatch, scenario: str, status: str, message: str, advice: str
) -> None:
    if scenario.startswith("hanging"):
        environment.setenv("MARKETPLACE_READ_TIMEOUT", "0.3")
    found = examined(token=world.marketplace.issue_token(scenario))["permission"]

    assert found.status == status
    assert message in found.message
    assert advice.casefold() in found.advice.casefold()


@pytest.mark.parametrize(
    ("scenario", "status", "message"),
    [
        ("access-denied", "problem", "503 ACCESS_DENIED: the host may not call ResolveCustomer"),
        ("expired-credentials", "problem", "503 CREDENTIALS: the host has no AWS credentials"),
        ("disabled-api", "problem", "503 DISABLED_API: ResolveCustomer is disabled"),
        ("throttled", "warning", "503 THROTTLED: AWS limits"),
        ("internal-error", "problem", "503 AWS_UNAVAILABLE: the host does not reach AWS, or AWS failed."),
        ("new-product", "problem", "answered with 200, as if it were a customer's."),
        ("expired", "warning", "answered with 400, but not by the JSON"),
        ("invalid", "ok", "answered with 400: the host asked AWS"),
    ],
)
def test_every_answer_of_a_host_to_the_made_up_token_is_explained(
    world: World, scenario: str, status: str, message: str
) -> None:
    found = examined(token=world.marketplace.issue_token(scenario), url=HOST + LANDING)["landing_post"]

    assert found.status == status
    assert message in found.message


def test_a_network_without_aws_is_a_problem_and_the_account_could_not_be_told(world: World) -> None:
    with refusing() as nobody, pytest.MonkeyPatch.context() as patch:
        patch.setitem(world.internet.upstreams, ".amazonaws.com", nobody)
        found = examined()

    assert found["account"].status == "warning"
    assert found["account"].message.startswith("STS did not say whose account it is (")
    assert "make sure by yourself" in found["account"].advice
    assert found["permission"].status == "problem"
    assert found["permission"].message.startswith("AWS was not reached (")
    assert found["clock"].message == "AWS gave no answer to compare the clock with."


@pytest.mark.parametrize(
    "name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_MARKETPLACE_METERING", "MARKETPLACE_ENDPOINT_URL"]
)
def test_an_address_that_is_not_aws_is_a_warning(
    doctor: Callable[..., Run], world: World, environment: pytest.MonkeyPatch, name: str
) -> None:
    environment.setenv(name, world.url)
    run = doctor()

    assert run.code == 0
    finding = run.one("endpoint", "warning")
    assert f"The calls go to {world.url.removeprefix('http://')}, which is not AWS" in finding["message"]
    assert name.removeprefix("MARKETPLACE_").replace("ENDPOINT_URL", "endpoint_url").split("_M")[0].lower() in (
        finding["advice"].lower()
    )
    # AWS's own STS is not asked about the credentials of a stand-in.
    account = run.findings["account"][0]
    assert account["status"] == ("ok" if name == "AWS_ENDPOINT_URL" else "skipped")


@pytest.mark.parametrize(
    "endpoint", ["http://metering.marketplace.us-east-1.amazonaws.com", "https://amazonaws.com.evil.example"]
)
def test_what_only_looks_like_aws_is_a_warning(environment: pytest.MonkeyPatch, endpoint: str) -> None:
    environment.setenv("MARKETPLACE_ENDPOINT_URL", endpoint)

    assert first("endpoint").status == "warning"


def test_a_region_without_the_service_makes_no_difference_to_a_stand_in(
    doctor: Callable[..., Run], world: World, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("MARKETPLACE_ENDPOINT_URL", world.url)
    environment.setenv("MARKETPLACE_REGION_NAME", "us-gov-west-1")

    assert doctor().one("region", "skipped")


def test_china_has_the_service(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MARKETPLACE_REGION_NAME", "cn-northwest-1")

    assert first("region").status == "ok"
    assert first("endpoint").message == "The calls go to metering.marketplace.cn-northwest-1.amazonaws.com.cn."


@pytest.mark.parametrize(
    ("old", "status", "message"),
    [
        ("LicenseArn", "problem", "does not know LicenseArn, so buyers of new products cannot be told apart."),
        ("Metadata", "warning", "does not know Metadata.AgreementId, so agreement_id will be None."),
        ("AgreementId", "warning", "does not know Metadata.AgreementId"),
    ],
)
def test_an_old_model_of_botocore_is_found(
    doctor: Callable[..., Run],
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    old: str,
    status: str,
    message: str,
) -> None:
    folder = "meteringmarketplace/2016-01-14"
    (packed,) = Path(botocore.__file__).parent.joinpath("data", folder).glob("service-2.json.gz")
    model = json.loads(gzip.decompress(packed.read_bytes()))
    for shape in model["shapes"].values():
        shape.get("members", {}).pop(old, None)
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "service-2.json").write_text(json.dumps(model))
    environment.setenv("AWS_DATA_PATH", str(tmp_path))
    run = doctor()

    finding = run.one("botocore", status)
    assert finding["message"].startswith(f"botocore {botocore.__version__} {message}")
    assert "Upgrade botocore to 1.43.111 or newer" in finding["advice"]
    assert run.code == (status == "problem")


@pytest.mark.parametrize(
    ("ahead", "status", "message"),
    [
        (0, "ok", "agrees with that of AWS."),
        (-55, "ok", "agrees with that of AWS."),
        (70, "warning", "seconds ahead of that of AWS; from 5 minutes on"),
        (-70, "warning", "seconds behind that of AWS; from 5 minutes on"),
        (-290, "warning", "seconds behind that of AWS"),
        (310, "problem", "seconds ahead of that of AWS, which refuses signatures"),
        (-4000, "problem", "seconds behind that of AWS, which refuses signatures"),
    ],
)
def test_the_clock_is_compared_with_that_of_aws(ahead: int, status: str, message: str) -> None:
    found = examined(clock=lambda: datetime.now(UTC) + timedelta(seconds=ahead))["clock"]

    assert found.status == status
    assert message in found.message
    assert ("NTP" in found.advice) is (status != "ok")


@pytest.mark.parametrize(
    ("variables", "checks"),
    [
        ({"AWS_ACCESS_KEY_ID": "expired"}, ["account"]),
        ({"MARKETPLACE_ROLE_ARN": f"arn:aws:iam::{SELLER}:role/denied"}, ["role"]),
    ],
)
def test_a_refusal_of_sts_tells_the_time_too(
    environment: pytest.MonkeyPatch, variables: dict[str, str], checks: list[str]
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    found = examined(clock=lambda: datetime.now(UTC) + timedelta(hours=1))

    assert [check for check, finding in found.items() if finding.status == "problem"] == [*checks, "clock"]
    assert found["permission"].status == "skipped"


def test_an_answer_of_metering_alone_tells_the_time_too(world: World, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MARKETPLACE_ENDPOINT_URL", world.url)
    found = examined(clock=lambda: datetime.now(UTC) + timedelta(hours=1))

    assert found["account"].status == "skipped"
    assert found["clock"].status == "problem"


def test_temporary_credentials_with_their_token_are_right(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", f"ASIALOCAL{SELLER}")
    environment.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    found = examined()

    assert found["credentials"].message == "AWS credentials come from the environment, access key id ending in 6666."
    assert found["account"].status == "ok"


@pytest.mark.parametrize(
    ("config", "credentials", "source"),
    [
        ("", f"[default]\naws_access_key_id={KEY_ID}\naws_secret_access_key=x\n", "the AWS credentials file"),
        (f"[default]\naws_access_key_id={KEY_ID}\naws_secret_access_key=x\n", "", "the AWS configuration file"),
    ],
)
def test_the_source_of_the_credentials_is_told(
    environment: pytest.MonkeyPatch, tmp_path: Path, config: str, credentials: str, source: str
) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "config").write_text(config)
    (tmp_path / "credentials").write_text(credentials)
    found = first("credentials")

    assert found.message == f"AWS credentials come from {source}, access key id ending in {KEY_ID[-4:]}."


def test_a_profile_is_told(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile seller]\nregion = eu-west-1\n")
    environment.setenv("MARKETPLACE_PROFILE_NAME", "seller")

    assert first("aws_config").message == "The AWS configuration can be read, profile seller."
    assert first("region").message == "AWS Marketplace Metering is in the region eu-west-1."


def test_a_secret_key_in_the_place_of_the_id_is_not_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", AWS_SECRET_KEY)
    found = first("credentials")

    assert found.message == "AWS credentials come from the environment."


def test_what_never_ends_is_waited_for_only_so_long() -> None:
    ended = threading.Event()
    aws = Aws(MarketplaceSettings(secret_key=SECRET_KEY, product_codes="*"), utc_now, 0.05)
    with pytest.raises(AwsUnavailableError, match=r"^There was no answer within 0\.05 seconds$") as caught:
        aws.ask(ended.wait)
    ended.set()

    assert halves(caught.value) == ("There was no answer within 0.05 seconds.", "It may pass: run doctor again.")


def test_a_host_that_does_not_answer_is_waited_for_only_so_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}{LANDING}"
        found = {finding.check: finding for finding in check_landing(url, token="made-up", limit=0.2)}

    assert found["landing_get"].message == "GET gets no answer: no answer within 0.2 seconds."
    assert "firewall" in found["landing_get"].advice
    assert found["landing_post"].message == "See landing_get."


def test_a_port_without_tls_is_told(world: World, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("NO_PROXY", "127.0.0.1")
    found = examined(url=world.url.replace("http:", "https:"))["landing_get"]

    assert found.message.startswith("GET gets no answer: there is no TLS (")
    assert found.advice == "Serve HTTPS on this port, by TLS 1.2 or newer."


def test_an_address_on_this_machine_is_a_warning_and_tried_all_the_same(
    doctor: Callable[..., Run], world: World
) -> None:
    (host,) = {url for end, url in world.internet.upstreams.items() if end == "shop.example"}
    run = doctor("--url", host)

    assert run.code == 0
    assert run.one("landing_url", "warning")["message"] == f"{host}{LANDING} is on this machine and not HTTPS."
    assert run.one("landing_post", "ok")


@pytest.mark.parametrize(("method", "check"), [("HEAD", "landing_head"), ("POST", "landing_post")])
def test_a_host_that_stops_answering_is_told(method: str, check: str) -> None:
    number = {"HEAD": 2, "POST": 3}[method]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answered = _answer_in_thread(listener, number)
        found = examined(url=f"http://127.0.0.1:{listener.getsockname()[1]}")[check]
        answered()

    assert found.status == "problem"
    assert found.message == f"{method} gets no answer: Remote end closed connection without response."


def _answer_in_thread(listener: socket.socket, number: int) -> Callable[[], None]:
    """Answer three requests as a landing URL does, and hang up from the nth on."""
    page = b"<title>Set up your account from AWS Marketplace</title>"

    def answer() -> None:
        for count in (1, 2, 3):
            connection, _ = listener.accept()
            with connection:
                is_head = connection.recv(65_536).startswith(b"HEAD")
                if count < number:
                    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(page)
                    connection.sendall(head + (b"" if is_head else page))

    thread = threading.Thread(target=answer)
    thread.start()
    return thread.join


# STS, by the local marketplace and by moto

MOTO = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
input()
"""


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Moto's server, in a process of its own: importing it changes botocore."""
    with subprocess.Popen(
        [sys.executable, "-c", MOTO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
    ) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.communicate("\n")


@pytest.fixture(params=["local", "moto"])
def sts(request: pytest.FixtureRequest, world: World, environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A host that calls the local marketplace, and one or the other STS."""
    url = world.url if request.param == "local" else request.getfixturevalue("moto")
    environment.setenv("AWS_ENDPOINT_URL_STS", url)
    environment.setenv("MARKETPLACE_ENDPOINT_URL", world.url)
    environment.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    return environment


@pytest.mark.parametrize(
    ("role", "seller", "status", "message"),
    [
        (None, "123456789012", "ok", "The calls are made from the seller account, ********9012, by user/"),
        (None, SELLER, "problem", "from account ********9012, by user/"),
        (None, None, "warning", "and nothing says whether that is the account"),
        (ROLE, OTHER, "ok", "********4321, by assumed-role/resolver/starlette-marketplace."),
        (ROLE, "123456789012", "problem", "from account ********4321, by assumed-role/resolver/starlette-marketplace"),
        (ROLE, None, "warning", "from account ********4321, by assumed-role/resolver/starlette-marketplace"),
    ],
)
def test_both_sts_say_whose_account_it_is(
    sts: pytest.MonkeyPatch, role: str | None, seller: str | None, status: str, message: str
) -> None:
    for name, value in (("ROLE_ARN", role), ("SELLER_ACCOUNT_ID", seller)):
        sts.setenv(f"MARKETPLACE_{name}", value or "")
    found = examined()

    assert found["credentials"].message == "AWS credentials come from the environment, access key id ending in MPLE."
    assert found["role"].status == ("ok" if role else "skipped")
    assert found["account"].status == status
    assert message in found["account"].message
    assert found["permission"].status == found["clock"].status == "ok"


def test_both_sts_take_an_external_id(sts: pytest.MonkeyPatch) -> None:
    sts.setenv("MARKETPLACE_ROLE_ARN", f"arn:aws:iam::{SELLER}:role/guarded")
    sts.setenv("MARKETPLACE_ROLE_EXTERNAL_ID", "shared")

    assert examined()["account"].status == "ok"


def test_both_sts_tell_the_time(sts: pytest.MonkeyPatch) -> None:
    found = examined(clock=lambda: datetime.now(UTC) + timedelta(minutes=6))

    assert found["clock"].status == "problem"


def test_an_address_of_sts_that_is_none_is_a_warning(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ENDPOINT_URL_STS", "nonsense")
    found = examined()

    assert found["account"].message == "STS did not say whose account it is (ValueError)."
    assert found["permission"].status == "ok"
