"""What the reproductions of docs/troubleshooting.md have in common: the page itself, and where things go wrong."""

import logging
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from playwright.sync_api import BrowserContext
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from starlette_marketplace import MarketplaceSettings
from starlette_marketplace.local import LocalMarketplace
from tests.docs.programs import ROOT
from tests.support.chromium import open_chromium
from tests.support.hosts import LANDING, form, starlette_middleware
from tests.support.network import Network

PAGE = (ROOT / "docs/troubleshooting.md").read_text()

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of the page that says what went wrong.

    Attributes:
        id: Its anchor.
        text: What somebody gets to see; None for a heading that describes something that says nothing.
    """

    id: str
    text: str | None

    def is_of(self, text: str) -> bool:
        """Whether it is the heading under which `text` is explained, with values in the place of its ellipses."""
        assert self.text is not None
        pattern = re.sub(r"…|%(\\\.0f|s)", ".+", re.escape(self.text))
        return bool(re.fullmatch(pattern, " ".join(text.split())))


def headings() -> list[Heading]:
    found = re.findall(r"^###+ (.+?) \{ #([\w-]+)(?: data-toc-label=\"[^\"]+\")? \}$", PAGE, re.MULTILINE)
    return [Heading(name, text[1:-1] if text.startswith("`") else None) for text, name in found]


@dataclass(frozen=True, slots=True)
class Row:
    """What the page says of a code: what the buyer sees, and the headings of what it may come from."""

    heading: str
    title: str
    code: str
    status: int
    message: str
    leads_to: frozenset[str]


def rows() -> list[Row]:
    found = []
    for heading in headings():
        entry = PAGE.partition(f" {{ #{heading.id} ")[2].partition("\n#")[0]
        for code, status, message, reasons in re.findall(
            r"^\| `([A-Z_]+)` \| (\d+) \| (.+?) \| (.+) \|$", entry, re.MULTILINE
        ):
            assert heading.text
            leads_to = frozenset(re.findall(r"\(#([\w-]+)\)", reasons))
            found.append(Row(heading.id, heading.text, code, int(status), message, leads_to))
    return found


@dataclass(frozen=True, slots=True)
class Failure:
    """A registration that failed: what the log says, and what the buyer sees."""

    reason: str
    code: str
    status: int
    title: str
    message: str
    is_json: bool = False


class Scene:
    """Where something goes wrong: a host, the local marketplace in the place of AWS, and the environment of both."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self.settings: MarketplaceSettings = request.getfixturevalue("settings")
        self.marketplace: LocalMarketplace = request.getfixturevalue("marketplace")
        self.environment: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        self.log: pytest.LogCaptureFixture = request.getfixturevalue("caplog")
        self.folder: Path = request.getfixturevalue("tmp_path")
        self.output: pytest.CaptureFixture[str] = request.getfixturevalue("capsys")

    def ask_for(self, fixture: str) -> Any:
        """What costs something, such as a Redis."""
        return self._request.getfixturevalue(fixture)

    def network(self) -> Network:
        """The network to the local marketplace, to be given faults."""
        found: Network = self.ask_for("to_aws")
        return found

    def said(self) -> str:
        """What the last line of our log says; that the local marketplace is not AWS is said each time."""
        return self.lines()[-1].getMessage()

    def lines(self) -> list[logging.LogRecord]:
        """The lines of our log, without those which say that the local marketplace is not AWS."""
        return [record for record in self.log.records if not str(record.msg).startswith("Identities come from")]

    def register(
        self,
        scenario: str | None = None,
        *,
        sends: dict[str, Any] | None = None,
        host: Callable[..., ASGIApp] = starlette_middleware,
        starts: bool = True,
        hooks: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Failure:
        """A registration that fails.

        Args:
            scenario: Of the local marketplace.
            sends: What the browser sends, instead of the form of a scenario.
            host: Makes the app.
            starts: Whether the server runs a lifespan.
            hooks: And other arguments of the middleware.
            **changes: Settings.
        """
        app = host(settings=replace(self.settings, **changes), **hooks or {})
        sent = sends or {"data": form(self.marketplace.issue_token(scenario or "new-product"))}
        client = TestClient(app, base_url="https://app.example", follow_redirects=False)
        if starts:
            with client:
                return self.failure(client.post(LANDING, **sent))
        return self.failure(client.post(LANDING, **sent))

    def failure(self, response: httpx2.Response) -> Failure:
        """What the answer and the log say of a registration that failed."""
        record = self.lines()[-1]
        said = vars(record)
        assert record.msg == "AWS Marketplace registration failed: %s (%s, reference %s)"
        assert record.levelname == ("ERROR" if said["code"] in CONFIGURATION_CODES else "WARNING")
        if response.headers["content-type"] == "application/json":
            error = response.json()["error"]
            assert error["code"] == said["code"]
            return Failure(said["reason"], said["code"], response.status_code, "", error["message"], is_json=True)
        assert f"Reference <code>{said['reference']}</code>" in response.text
        [title], [message, *_] = texts_in(response.text, "h1"), texts_in(response.text.partition("</h1>")[2], "p")
        return Failure(said["reason"], said["code"], response.status_code, title, message)


CONFIGURATION_CODES = {"CONFIGURATION", "SETTINGS", "CREDENTIALS", "ACCESS_DENIED", "REGION", "DISABLED_API"}

Reproduction = Callable[[Scene], str | None]
"""Makes something go wrong. Gives the text that somebody sees, or nothing when it has looked by itself."""


def texts_in(page: str, tag: str) -> list[str]:
    """What the elements of a page hold."""
    return [unescape(text) for text in re.findall(rf"<{tag}[^>]*>([^<]+)</{tag}>", page)]


class ChromiumThread:
    """Chromium in a thread of its own, as Playwright keeps an event loop in the thread that it runs in.

    Every host `*.example` is this machine. Such names are as far from each other as those of two companies.
    """

    def __init__(self, profile: Path, *, cookies: bool = True) -> None:
        self._profile = profile
        self._cookies = cookies

    def run(self, visit: Callable[[BrowserContext], R]) -> R:
        """What `visit` gives for a fresh browser."""
        with ThreadPoolExecutor(1) as thread:
            ended: Future[R] = thread.submit(self._visit, visit)
            return ended.result()

    def _visit(self, visit: Callable[[BrowserContext], R]) -> R:
        names = "--host-resolver-rules=MAP *.example 127.0.0.1"
        with (
            open_chromium(self._profile, takes_cookies=self._cookies, arguments=[names]) as chromium,
            closing(chromium.new_context()) as context,
        ):
            return visit(context)
