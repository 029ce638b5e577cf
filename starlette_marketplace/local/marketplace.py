from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from .answers import NoResponse
from .buyers import Buyer
from .scenarios import SCENARIOS
from .storefront import Storefront
from .tokens import Grant, TokenStore
from .wire import (
    INVALID_TOKEN,
    TARGET,
    UNKNOWN_OPERATION,
    AwsJsonResponse,
    Failure,
    check_signature,
    read_registration_token,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class ResolveCall:
    """A ResolveCustomer call that was made.

    Attributes:
        scenario: The name of the scenario; None when the token is not one of ours or was not looked at.
        status: The HTTP status of the answer; None when no answer comes, not even its headers.
    """

    scenario: str | None
    status: int | None


class LocalMarketplace:
    """A stand-in for AWS Marketplace, as an ASGI app: the storefront that buyers click and the API that sellers call.

    Args:
        registration_url: Where *Set up your account* sends buyers.
        limit: How many tokens and how many calls are remembered; the oldest go first.

    Attributes:
        delay: Seconds that AWS takes to answer each ResolveCustomer call.
        buyer: Who is shopping; `issue_token` gives tokens of theirs.
    """

    def __init__(
        self, registration_url: str = "http://127.0.0.1:8000/marketplace/register", *, limit: int = 10_000
    ) -> None:
        self.registration_url = registration_url
        self.delay = 0.0
        self.buyer = Buyer()
        self._tokens = TokenStore(limit)
        self._calls: deque[ResolveCall] = deque(maxlen=limit)
        self._storefront = Storefront()
        self._app = Starlette(
            routes=[
                Route("/", self._show_storefront),
                Route("/", self._resolve_customer, methods=["POST"]),
                Route("/buyer", self._change_buyer, methods=["POST"]),
                self._storefront.static,
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as the storefront or as AWS."""
        await self._app(scope, receive, send)

    @property
    def resolve_calls(self) -> list[ResolveCall]:
        """The ResolveCustomer calls so far, oldest first; a call is in it before its delay is over."""
        return list(self._calls)

    def issue_token(self, scenario: str) -> str:
        """Give a fresh registration token, which resolves as often as it is asked for.

        Raises:
            ValueError: No scenario has this name.
        """
        if scenario not in SCENARIOS:
            raise ValueError(f"{scenario!r} is not a scenario of the local marketplace: {', '.join(SCENARIOS)}")
        known = SCENARIOS[scenario]
        return self._tokens.issue(Grant(known, self.buyer.identify(known)))

    def shop_as_another_buyer(self) -> None:
        """Let another company with another AWS account shop; tokens of buyers before stay good."""
        self.buyer = Buyer(unlike=self.buyer)

    def reset(self) -> None:
        """Forget every token, buyer and call."""
        self._tokens.clear()
        self._calls.clear()
        self.shop_as_another_buyer()

    async def _show_storefront(self, request: Request) -> Response:
        return self._storefront.show(self.buyer, registration_url=self.registration_url, issue_token=self.issue_token)

    async def _change_buyer(self, request: Request) -> Response:
        self.shop_as_another_buyer()
        return RedirectResponse("./", status_code=303)

    async def _resolve_customer(self, request: Request) -> Response:
        if request.headers.get("x-amz-target") != TARGET:
            return AwsJsonResponse.of_failure(UNKNOWN_OPERATION)
        grant = self._find_grant(request.headers.get("authorization", ""), await request.body())
        response: Response
        if isinstance(grant, Failure):
            scenario, delay, response = None, 0.0, AwsJsonResponse.of_failure(grant)
        else:
            scenario, delay, response = grant.scenario.slug, grant.scenario.delay, grant.answer()
        status = None if isinstance(response, NoResponse) else response.status_code
        self._calls.append(ResolveCall(scenario, status))
        await anyio.sleep(self.delay + delay)
        return response

    def _find_grant(self, authorization: str, body: bytes) -> Grant | Failure:
        failure = check_signature(authorization)
        if failure:
            return failure
        token = read_registration_token(body)
        if isinstance(token, Failure):
            return token
        return self._tokens.use(token) or INVALID_TOKEN
