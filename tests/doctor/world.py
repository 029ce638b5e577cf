import os
import re
import textwrap
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.types import Receive, Scope, Send

from starlette_marketplace.doctor import Finding, examine
from starlette_marketplace.doctor.case import Case, utc_now
from starlette_marketplace.doctor.checks import CHECKS as TABLE
from starlette_marketplace.doctor.checks import walk
from starlette_marketplace.local import LocalMarketplace
from tests.support.aws import FakeAws
from tests.support.hosts import LANDING
from tests.support.internet import Internet

SECRET_KEY = "Zk3vQ8xW1nB6tY0pL5sD9fG2hJ7aR4uM"
AWS_SECRET_KEY = "wJalrXUtnFEMI0K7MDENG1bPxRfiCYzzKEYabcde"
SESSION_TOKEN = "FwoGZXIvYXdzEJr0123456789sessiontoken"
SELLER = "444455556666"
OTHER = "210987654321"
KEY_ID = f"AKIALOCAL{SELLER}"
ROLE = f"arn:aws:iam::{OTHER}:role/team/resolver"
PRODUCT_CODE = "5z0rgy2jq4t1bw8xk3n6v9m0a"
HOST = "https://shop.example"
CHECKS = [check.name for check in TABLE]
LANDING_CHECKS = ("landing_url", "landing_get", "landing_post")
TOPIC_OF = {check.name: check.topic for check in TABLE}

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
            case "shop":
                return RedirectResponse("/shop", 302)
            case "moved":
                return RedirectResponse("https://www.shop.example/marketplace/register", 308)
            case "csrf" if is_post:
                return PlainTextResponse("Cross-site POST form submissions are forbidden", 403)
            case "token-csrf" if is_post:
                return PlainTextResponse("CSRF token verification failed", 403)
            case "names":
                return PlainTextResponse("Invalid host header", 400)
            case "accepts" if is_post:
                return RedirectResponse("/signup", 303, {"Set-Cookie": f"__Host-shop-{'0a' * 12}=signed; Secure"})
            case "own-pages":
                return PlainTextResponse("No", 400) if is_post else HTMLResponse("<title>Shop</title>")
            case "own-redirect":
                return RedirectResponse("/help", 303) if is_post else HTMLResponse("<title>Shop</title>")
            case "login-after":
                return RedirectResponse("/login", 303) if is_post else HTMLResponse("<title>Shop</title>")
            case "json-csrf" if is_post:
                return JSONResponse({"detail": "CSRF token missing"}, 400)
            case "origin" if is_post:
                return PlainTextResponse("Origin checking failed", 403)
            case "loop":
                return RedirectResponse(str(request.url.replace(scheme="https")), 307)
            case "downgrade":
                return RedirectResponse(str(request.url.replace(scheme="http", query="again")), 301)
            case "asks-to-log-in" if is_post:
                return RedirectResponse("/account/sign-in?next=secret", 302)
            case "moved-post" if is_post:
                return RedirectResponse("/marketplace/register/", 301)
            case "malformed" | "malformed-post" if is_post or kind == "malformed":
                return PlainTextResponse("No", 302, {"Location": "http://["})
            case "nonsense" if is_post:
                return JSONResponse({"error": {"code": ["\x1b[31m"]}}, 400)
            case "terminal":
                return PlainTextResponse("No", 302, {"Location": "https://shop.example/\x9b31m"})
        title = "Set up your account from AWS Marketplace"
        return HTMLResponse(f"<title>{title}</title>")


@dataclass
class World:
    """Everything that a host meets."""

    internet: Internet
    marketplace: LocalMarketplace
    url: str
    entitlements: FakeAws
    agreements: FakeAws


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


def secrets_of(environ: Mapping[str, str]) -> list[str]:
    """What may not come out: every key, the session token, and account ids in full."""
    values = [value for name, value in environ.items() if re.search("SECRET|TOKEN", name)]
    keys = [key for value in values for key in value.split(",")]
    return [key for key in [*keys, SECRET_KEY, AWS_SECRET_KEY, SELLER, OTHER] if key]


def first(check: str, **options: Any) -> Finding:
    """The first finding of a check; those after it are not made."""
    return next(finding for finding in examine(os.environ, **options) if finding.check == check)


def examined(**options: Any) -> dict[str, Finding]:
    """The findings by check, of a run in which each check has one."""
    findings = list(examine(os.environ, **options))
    by_check = {finding.check: finding for finding in findings}
    assert len(by_check) == len(findings)
    return by_check


def asked(url: str, *, limit: float = 30.0) -> dict[str, Finding]:
    """What is found of a fulfillment URL, without the rest."""
    case = Case(environ={}, target=None, url=url, token="made-up", clock=utc_now, limit=limit)
    return {
        finding.check: finding for finding in walk(case, [check for check in TABLE if check.name in LANDING_CHECKS])
    }


def module_of(tmp_path: Path, text: str) -> str:
    name = f"host_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    return name


def assert_found(fault: Plant, doctor: Callable[..., Run], environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That the doctor finds a fault and explains it."""
    plant(fault, environment, tmp_path)

    run = doctor("--url", fault.url)

    finding = run.one(fault.check, fault.status)
    assert fault.message in finding["message"]
    assert fault.advice in finding["advice"]
    assert run.code == (1 if run.statuses("problem") else 0)
    # A fault of one topic shows in no other.
    found = {*run.statuses("warning"), *run.statuses("problem")}
    assert {TOPIC_OF[check] for check in found} == {TOPIC_OF[fault.check]}
