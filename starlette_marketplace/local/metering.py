"""What AWS Marketplace Metering makes of a ResolveCustomer call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .failures import EXPIRED_TOKEN, INTERNAL_ERROR, INVALID_TOKEN, THROTTLED, Failure, RefusedError
from .operations import Operation, Question
from .wire import RESOLVE_CUSTOMER, AwsJsonResponse, read_registration_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from .conditions import Conditions
    from .ledger import Ledger
    from .tokens import TokenStore
    from .wire import AwsRequest


class Metering:
    """Answers calls about the tokens of a store.

    Args:
        tokens: The tokens that were issued.
        ledger: The agreements that they stand for.
        conditions: For how long tokens live.
        timer: The one that says when they were.

    Attributes:
        operations: What it can be asked to do.
    """

    def __init__(self, tokens: TokenStore, ledger: Ledger, conditions: Conditions, timer: Callable[[], float]) -> None:
        self._tokens = tokens
        self._ledger = ledger
        self._conditions = conditions
        self._timer = timer
        self.operations: list[Operation] = [
            Operation(f"AWSMPMeteringService.{RESOLVE_CUSTOMER}", self._read, THROTTLED, INTERNAL_ERROR)
        ]

    def _read(self, request: AwsRequest) -> Question:
        token = read_registration_token(request)
        if isinstance(token, Failure):
            raise RefusedError(token)
        grant = self._tokens.find(token)
        if grant is None:
            return Question(_answer_unknown_token)
        subscription = grant.chain.newest.initial_id
        return Question(lambda: self._resolve(token), grant.scenario, subscription, grant.scenario.delay)

    def _resolve(self, token: str) -> tuple[Response, str]:
        grant, token_life = self._tokens.use(token), self._conditions.token_life
        if grant is None:
            return _answer_unknown_token()
        age = self._timer() - grant.issued_at
        if token_life is not None and age >= token_life:
            remark = f"The token was {age:.0f} seconds old, and tokens live for {token_life:g}."
            return AwsJsonResponse.of_failure(EXPIRED_TOKEN), remark
        if grant.scenario.resolves:
            self._ledger.arrive(grant.chain)
        return grant.answer(self._ledger.newest_of(grant.chain).identity), ""


def _answer_unknown_token() -> tuple[Response, str]:
    remark = "This marketplace has not issued the token, or has forgotten it."
    return AwsJsonResponse.of_failure(INVALID_TOKEN), remark
