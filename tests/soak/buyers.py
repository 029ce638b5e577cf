"""Buyers: how they come, what they must be answered, and what the signup must then know of them."""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx2

from starlette_marketplace.local import PRODUCT_CODES, SCENARIOS
from tests.support.hosts import LANDING

from .aws import Aws
from .report import Tally

TOKEN = "x-amzn-marketplace-token"
TRIES = 12
_PATIENCE = 30.0  # seconds, above whatever the host may take

# Those that hang hold a thread of the host for as long as its timeouts are.
_WEIGHTS = {
    "new-product": 25,
    "second-agreement": 10,
    "free-trial": 10,
    "legacy-product": 12,
    "no-license-yet": 4,
    "slow": 0.5,
    "hanging-headers": 0.1,
    "hanging-body": 0.1,
}
_OTHER_WEIGHT = 1.5

_STATUSES = {"EXPIRED_TOKEN": 400, "INVALID_TOKEN": 400, "PRODUCT_MISMATCH": 403}  # 503 for every other code
# May come whatever AWS would say, and trying again leads on.
_PASSING = {"AWS_UNAVAILABLE", "DEADLINE_EXCEEDED", "OVERLOADED"}
_FIRST = {"no-license-yet": {"INCOMPLETE_ANSWER"}}
# Where it ends for buyers who are not led on. A scenario that is missing here may end with any error.
_ENDS = {
    "wrong-product": "PRODUCT_MISMATCH",
    "expired": "EXPIRED_TOKEN",
    "namespaced-error": "EXPIRED_TOKEN",
    "invalid": "INVALID_TOKEN",
    "throttled": "THROTTLED",
    "internal-error": "AWS_UNAVAILABLE",
    "html-503": "AWS_UNAVAILABLE",
    "not-json": "AWS_UNAVAILABLE",
    "hanging-headers": "AWS_UNAVAILABLE",
    "hanging-body": "AWS_UNAVAILABLE",
    "disabled-api": "DISABLED_API",
    "expired-credentials": "CREDENTIALS",
    "invalid-signature": "CREDENTIALS",
    "unrecognized-client": "CREDENTIALS",
    "access-denied": "ACCESS_DENIED",
    "empty-answer": "INCOMPLETE_ANSWER",
    "no-account-id": "INCOMPLETE_ANSWER",
    "no-product-code": "INCOMPLETE_ANSWER",
    "nulls": "INCOMPLETE_ANSWER",
    "empty-strings": "INCOMPLETE_ANSWER",
}


@dataclass(frozen=True, slots=True)
class Soak:
    """What all buyers share."""

    seed: int
    url: str
    aws: Aws
    tally: Tally

    def browser(self, transport: httpx2.AsyncBaseTransport) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=transport, base_url=self.url, timeout=_PATIENCE)


class Visit:
    """One registration, from the click in the marketplace to the end of the signup; the same for the same seed."""

    def __init__(self, soak: Soak, number: int, browser: httpx2.AsyncClient, slug: str | None = None) -> None:
        self.rng = random.Random(f"{soak.seed}/{number}")
        self.soak, self.tally, self.browser = soak, soak.tally, browser
        weights = [_WEIGHTS.get(slug, _OTHER_WEIGHT) for slug in SCENARIOS]
        self.slug = slug or self.rng.choices(list(SCENARIOS), weights)[0]
        self.scenario = SCENARIOS[self.slug]
        self.leads_on = self.scenario.resolves and self.scenario.product.code in PRODUCT_CODES
        self.end = _ENDS.get(self.slug)
        # Neither our own failures nor those of AWS are.
        self.is_kept = self.leads_on or self.end in _STATUSES
        self.ticket = soak.aws.issue(self.slug, to_another=self.rng.random() < 0.5)
        self.epoch = soak.aws.epoch
        self.body = self.rng.choices(("form", "multipart", "json"), (8, 1, 1))[0]
        self.is_chunked = self.rng.random() < 0.05
        self.as_json = self.body == "json" or self.rng.random() < 0.5
        self.habit = self.rng.choices(list(HABITS), [weight for weight, _ in HABITS.values()])[0]
        self.codes: set[str | None] = set()
        self.name = f"{number} ({self.slug}, {self.habit}, {self.body})"

    async def go(self) -> None:
        await HABITS[self.habit][1](self)
        answer = await self.register()
        if answer is not None and _succeeded(answer):
            if self.habit == "reload":
                again = await self.post()
                self.expect(again is not None and again.status_code == answer.status_code, "a reload led elsewhere")
            await self.sign_up()
        if self.soak.aws.epoch == self.epoch and self.epoch % 2 == 0:
            if self.is_kept and self.slug not in _FIRST:
                self.expect(self.ticket.calls == 1, "AWS was not asked once", f"{self.ticket.calls} calls")
            if self.leads_on:
                self.expect("AWS_UNAVAILABLE" not in self.codes, "AWS was there and could not be reached")

    async def register(self) -> httpx2.Response | None:
        """Try until the answer is one that stays."""
        answer, is_settled, tries = None, False, []
        for attempt in range(TRIES if self.is_kept else 3):
            if attempt:
                self.tally.counts["tries again"] += 1
                # Calls that hang can hold all threads for ten seconds: pauses that grow outlast that.
                await asyncio.sleep(self.rng.uniform(0.1, 0.2) * 2 ** min(attempt, 5))
            began, calls = time.monotonic(), self.ticket.calls
            answer = await self.post()
            tries.append(f"{_told(answer)} in {time.monotonic() - began:.1f} s, {self.ticket.calls - calls} calls")
            if answer is not None:
                is_settled = answer.status_code != 503 or (not self.is_kept and _code(answer) in (self.end, None))
            if is_settled:
                break
        succeeded = answer is not None and _succeeded(answer)
        if self.ticket.is_confirmed and self.leads_on:
            self.expect(succeeded, "a registration that AWS confirmed was lost", _told(answer))
        elif self.is_kept:
            self.expect(is_settled, "trying again led nowhere", "; ".join(tries))
        self.expect(self.ticket.is_confirmed or not succeeded, "led on without a word from AWS")
        self.tally.counts["led on to the signup"] += succeeded
        return answer

    async def post(self) -> httpx2.Response | None:
        answer = await self.ask(self.landing())
        if answer is None:
            return None
        code = _code(answer)
        self.codes.add(code)
        is_json = _is_json(answer)
        if _succeeded(answer):
            belongs = self.leads_on and answer.status_code == (200 if self.as_json else 303)
            if is_json:
                self.expect_customer(answer.json()["data"])
            else:
                self.expect(answer.headers["location"] == "/signup", "sent elsewhere", answer.headers["location"])
        elif self.leads_on or self.end:
            codes = _PASSING | _FIRST.get(self.slug, set()) | ({self.end} if self.end else set())
            belongs = code in codes if is_json else answer.status_code in {_STATUSES.get(code, 503) for code in codes}
        else:
            belongs = answer.status_code in (400, 403, 503)
        self.expect(belongs, "an answer that does not belong here", _told(answer))
        self.expect(is_json == self.as_json, "a page for JSON, or JSON for a page", _told(answer))
        headers = answer.headers
        self.expect(len(headers.get_list("set-cookie")) == _succeeded(answer), "not one cookie for a registration")
        self.expect(headers.get("cache-control") == "no-store", "an answer that may be stored", _told(answer))
        self.expect(("retry-after" in headers) == (answer.status_code == 503), "Retry-After astray", _told(answer))
        return answer

    def landing(self) -> httpx2.Request:
        hints = {"x-amzn-marketplace-offer-type": "free-trial"} if self.scenario.free_trial else {}
        fields = {TOKEN: self.ticket.token, **hints}
        contents: dict[str, dict[str, Any]] = {
            "form": {"data": fields},
            "multipart": {"files": {name: (None, value) for name, value in fields.items()}},
            "json": {"json": {"RegistrationToken": self.ticket.token, **hints}},
        }
        headers = {"Accept": "application/json" if self.as_json else "text/html,application/xhtml+xml,*/*;q=0.8"}
        request = self.browser.build_request("POST", LANDING, headers=headers, **contents[self.body])
        if not self.is_chunked:
            return request
        headers["Content-Type"] = request.headers["content-type"]
        return self.browser.build_request("POST", LANDING, headers=headers, content=_in_pieces(request.read()))

    async def sign_up(self) -> None:
        """The signup must know who came; once it is completed it must not know any more."""
        registration = await self.signup("GET", "/signup")
        if registration is None:
            self.expect(False, "the signup does not know who came")
            return
        self.expect_customer(registration)
        self.expect(registration["free_trial"] == self.scenario.free_trial, "the hint of a free trial is wrong")
        if self.rng.random() < 0.5:
            self.expect_customer(await self.signup("POST", f"/signup/{registration['id']}") or {})
            rest = await self.signup("GET", "/signup")
            self.expect(rest is None or rest["id"] != registration["id"], "a completed registration is still there")
            self.tally.counts["completed"] += 1

    async def signup(self, method: str, path: str) -> Mapping[str, Any] | None:
        answer = await self.ask(self.browser.build_request(method, path))
        if answer is None or answer.status_code != 200:
            self.expect(False, "the signup failed", _told(answer))
            return None
        registration: Mapping[str, Any] | None = answer.json()
        return registration

    def expect_customer(self, registration: Mapping[str, Any]) -> None:
        customer = registration.get("customer", {})
        account_id = customer.get("aws_account_id")
        self.expect(account_id == self.ticket.account_id, "a buyer saw the identity of another", str(account_id))
        self.expect(customer == self.ticket.customer, "not the customer that AWS named", str(customer))

    async def ask(self, request: httpx2.Request) -> httpx2.Response | None:
        try:
            answer = await self.browser.send(request)
        except httpx2.HTTPError as exc:
            self.expect(False, "no answer", repr(exc))
            return None
        if request.url.path == LANDING:
            form = "JSON" if _is_json(answer) else "page" if answer.text else ""
            self.tally.answers[f"{request.method} {answer.status_code} {form} {_code(answer) or ''}".strip()] += 1
        return answer

    def expect(self, holds: bool, otherwise: str, detail: str = "") -> None:
        if not holds:
            self.tally.violated(otherwise, f"registration {self.name}: {detail}")

    # How they come.

    async def come_alone(self) -> None:
        pass

    async def click_twice(self) -> None:
        await asyncio.gather(self.post(), self.post())

    async def come_in_many_tabs(self) -> None:
        await asyncio.gather(*(self.post() for _ in range(8)))

    async def close_the_tab(self) -> None:
        await self.leave(self.ticket.asked)

    async def close_the_tab_early(self) -> None:
        await self.leave()

    async def leave(self, until: asyncio.Event | None = None) -> None:
        """Send it all and leave when AWS is asked, or leave in the middle of sending."""
        self.tally.counts["disconnects"] += 1
        self.is_chunked = False
        request = self.landing()
        lines = [f"POST {LANDING} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items()), "", ""]
        body = request.read()
        try:
            _, writer = await asyncio.open_connection(request.url.host, request.url.port)
        except OSError as exc:
            self.expect(False, "no connection", repr(exc))
            return
        writer.write("\r\n".join(lines).encode() + (body if until else body[: self.rng.randrange(len(body))]))
        with suppress(OSError):
            await writer.drain()
        if until is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(until.wait(), 1.0)
        writer.transport.abort()

    async def come_badly(self) -> None:
        """Send what is no registration first."""
        status, method, content = self.rng.choice(_bad_requests(self.ticket.token))
        answer = await self.ask(self.browser.build_request(method, LANDING, **content))
        self.expect(answer is None or answer.status_code == status, f"{status} was expected", _told(answer))


def _succeeded(answer: httpx2.Response) -> bool:
    return answer.status_code in (200, 303)


def _is_json(answer: httpx2.Response) -> bool:
    return bool(answer.headers.get("content-type") == "application/json")


def _code(answer: httpx2.Response) -> str | None:
    """The error code, which only JSON answers tell."""
    return str(answer.json()["error"]["code"]) if answer.status_code >= 400 and _is_json(answer) else None


def _told(answer: httpx2.Response | None) -> str:
    if answer is None:
        return "no answer"
    title = re.search(r"<title>(.*?)</title>", answer.text)
    return f"{answer.status_code} {_code(answer) or (title and title[1]) or ''}"


async def _in_pieces(body: bytes, size: int = 50) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]
        await asyncio.sleep(0)


def _bad_requests(token: str) -> list[tuple[int, str, dict[str, Any]]]:
    urlencoded = {"Content-Type": "application/x-www-form-urlencoded"}
    return [
        (400, "POST", {"data": {"x": "y"}}),
        (400, "POST", {"data": {TOKEN: ""}}),
        (400, "POST", {"data": {TOKEN: [token, token]}}),
        (400, "POST", {"content": f"{TOKEN}=%ff", "headers": urlencoded}),
        (400, "POST", {"content": '{"RegistrationToken": ', "headers": {"Content-Type": "application/json"}}),
        (413, "POST", {"data": {TOKEN: token, "x": "x" * 20_000}}),
        (413, "POST", {"content": _in_pieces(b"x" * 20_000, 4000), "headers": urlencoded}),
        (415, "POST", {"content": token, "headers": {"Content-Type": "text/plain"}}),
        (200, "GET", {}),
        (200, "HEAD", {}),
        (204, "OPTIONS", {}),
        (405, "DELETE", {}),
    ]


HABITS: dict[str, tuple[float, Callable[[Visit], Awaitable[None]]]] = {
    "alone": (40, Visit.come_alone),
    "double click": (10, Visit.click_twice),
    "many tabs": (3, Visit.come_in_many_tabs),
    "reload": (10, Visit.come_alone),
    "closed tab": (15, Visit.close_the_tab),
    "closed early": (8, Visit.close_the_tab_early),
    "bad request": (14, Visit.come_badly),
}
