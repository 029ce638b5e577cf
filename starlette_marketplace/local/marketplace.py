from __future__ import annotations

import random as _random
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Mount, Route

from .activity import Activity
from .buyers import Buyers
from .calls import Call, CallLog, ResolveCall, WatchedResponse
from .clocks import monotonic, wall_clock
from .commerce import Commerce
from .conditions import Conditions
from .entitlements import EntitlementService
from .exchange import SeenRequest
from .failures import TOO_LARGE, UNKNOWN_OPERATION
from .forms import RegistrationForms
from .guard import Guard
from .ledger import Ledger
from .manage import Manage
from .managing import SubscriptionManager
from .metering import Metering
from .operations import Desk, Verdict
from .pages import Pages
from .scenarios import find_scenario
from .storefront import Storefront
from .sts import answer_sts_call, is_sts_call
from .tokens import TokenStore
from .wire import RESOLVE_CUSTOMER, AwsJsonResponse, AwsRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from .agreements import Agreement
    from .buyers import Buyer


# AWS SDKs that prefer CBOR post to a path of its own; this is their operation in the log of calls.
_CBOR_PATH = "/service/{service}/operation/{operation}"
_CBOR = "CBOR"

# More than buyers that are kept can have, so that no agreement on a page is forgotten.
_MOST_SUBSCRIPTIONS = 10_000


class LocalMarketplace(SubscriptionManager):
    """A stand-in for AWS Marketplace, as an ASGI app: the storefront that buyers click and the API that sellers call.

    Args:
        registration_url: Where *Set up your account* sends buyers.
        limit: How many tokens and how many calls are remembered; the oldest go first.
        delay: Seconds that AWS takes to answer each call.
        error_rate: The share of calls that fail by chance, from 0 to 1.
        token_life: Seconds after which a token has expired; None lets it live for as long as it is remembered.
        timer: Gives seconds, for the age of tokens and the duration of calls.
        clock: Gives the time, in seconds since the epoch, for the dates of agreements.
        random: Gives numbers from 0 to 1 without 1: a call fails by chance when its number is below the error rate,
            with ThrottlingException when it is below half of that and with the operation's internal error when not.

    Raises:
        ValueError: A delay, error rate or token life cannot be, here or when it is set later.
    """

    def __init__(
        self,
        registration_url: str = "http://127.0.0.1:8000/marketplace/register",
        *,
        limit: int = 10_000,
        delay: float = 0.0,
        error_rate: float = 0.0,
        token_life: float | None = None,
        timer: Callable[[], float] = monotonic,
        clock: Callable[[], float] = wall_clock,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._conditions = Conditions(registration_url, delay, error_rate, token_life)
        self._timer = timer
        ledger, tokens = Ledger(_MOST_SUBSCRIPTIONS, clock, timer), TokenStore(limit, timer)
        super().__init__(ledger, tokens)
        self._buyers = Buyers(ledger)
        self._calls = CallLog(limit)
        services = (Metering(tokens, ledger, self._conditions, timer), EntitlementService(ledger), Commerce(ledger))
        self._operations = {operation.target: operation for service in services for operation in service.operations}
        self._desk = Desk(self._conditions, random)
        pages, forms = Pages(), RegistrationForms(self._conditions, ledger, tokens)
        storefront = Storefront(self._conditions, self._buyers, forms, pages)
        manage = Manage(self._buyers, ledger, forms, pages)
        activity = Activity(self._conditions, self._calls, pages)
        guard = [Middleware(Guard, serves_sdks=True)]
        routes = [*storefront.routes, *manage.routes, *activity.routes, pages.static]
        self._app = Starlette(
            routes=[
                Route("/", self._answer_aws_call, methods=["POST"], middleware=guard),
                Route(_CBOR_PATH, self._refuse_cbor_call, methods=["POST"], middleware=guard),
                Mount("", routes=routes, middleware=[Middleware(Guard)]),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as the storefront or as AWS."""
        # Who leaves before the request is whole wants no answer.
        with suppress(ClientDisconnect):
            await self._app(scope, receive, send)

    @property
    def conditions(self) -> Conditions:
        """All that can be set, in one object."""
        return self._conditions

    @property
    def registration_url(self) -> str:
        """Where *Set up your account* sends buyers."""
        return self._conditions.registration_url

    @registration_url.setter
    def registration_url(self, url: str) -> None:
        self._conditions.registration_url = url

    @property
    def delay(self) -> float:
        """Seconds that AWS takes to answer each call."""
        return self._conditions.delay

    @delay.setter
    def delay(self, seconds: float) -> None:
        self._conditions.delay = seconds

    @property
    def error_rate(self) -> float:
        """The share of calls that fail by chance, from 0 to 1."""
        return self._conditions.error_rate

    @error_rate.setter
    def error_rate(self, share: float) -> None:
        self._conditions.error_rate = share

    @property
    def token_life(self) -> float | None:
        """Seconds after which a token has expired; None lets it live for as long as it is remembered."""
        return self._conditions.token_life

    @token_life.setter
    def token_life(self, seconds: float | None) -> None:
        self._conditions.token_life = seconds

    @property
    def buyer(self) -> Buyer:
        """Who is shopping; `issue_token` gives tokens of theirs."""
        return self._buyers.current

    @property
    def calls(self) -> list[Call]:
        """The calls of all operations so far, oldest first; a call is in it before its delay is over."""
        _, calls = self._calls.snapshot()
        return calls

    @property
    def resolve_calls(self) -> list[ResolveCall]:
        """The ResolveCustomer calls so far, oldest first."""
        return [call for call in self.calls if call.operation == RESOLVE_CUSTOMER]

    def issue_token(self, scenario: str, *, agreement: Agreement | None = None) -> str:
        """Give a fresh registration token, which resolves as often as it is asked for.

        Args:
            scenario: The name of a scenario.
            agreement: Which agreement of the scenario it is for; None is the buyer's first.

        Raises:
            ValueError: No scenario has this name, or the agreement is forgotten.
        """
        known = find_scenario(scenario)
        return self._tokens.issue(known, self._ledger.chain_of(agreement or self.buyer.agreements(known)[0]))

    def buy_again(self, scenario: str) -> Agreement:
        """Let the buyer buy the same once more: another agreement of one account, with a license of its own.

        Raises:
            ValueError: No scenario has this name, or it cannot be bought again.
        """
        return self.buyer.buy_again(find_scenario(scenario))

    def shop_as_another_buyer(self) -> None:
        """Let another company with another AWS account shop; tokens of buyers before stay good."""
        self._buyers.add()

    def reset(self) -> None:
        """Forget every token, call, buyer and agreement."""
        self._tokens.clear()
        self._calls.clear()
        self._ledger.clear()
        self._buyers.clear()

    async def _answer_aws_call(self, request: Request) -> Response:
        # The calls of SDKs are short and say how long they are.
        length = request.headers.get("content-length", "")
        if not re.fullmatch("[0-9]{1,6}", length):
            return AwsJsonResponse.of_failure(TOO_LARGE)
        if is_sts_call(request):
            return await answer_sts_call(request)
        operation = self._operations.get(request.headers.get("x-amz-target", ""))
        if operation is None:
            return AwsJsonResponse.of_failure(UNKNOWN_OPERATION)
        started, generation = self._timer(), self._calls.generation
        call = AwsRequest.read(request.headers, await request.body())
        verdict = self._desk.answer(operation, call)
        return self._log(SeenRequest.of(call, operation.name), verdict, started, generation)

    async def _refuse_cbor_call(self, request: Request) -> Response:
        seen = SeenRequest.of(AwsRequest.read(request.headers, b""), _CBOR, path=request.url.path)
        remark = "The local marketplace speaks AWS JSON only. Let your AWS SDK use the protocol json."
        verdict = Verdict(_CBOR, AwsJsonResponse.of_failure(UNKNOWN_OPERATION), remark=remark)
        return self._log(seen, verdict, self._timer(), self._calls.generation)

    def _log(self, seen: SeenRequest, verdict: Verdict, started: float, generation: int) -> WatchedResponse:
        number = self._calls.add(seen, verdict, generation=generation)
        return WatchedResponse(
            verdict.response,
            delay=self.delay + verdict.delay,
            on_end=lambda sent: self._calls.finish(number, self._timer() - started, sent),
        )
