"""What AWS Marketplace Metering makes of a ResolveCustomer call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .wire import (
    EXPIRED_TOKEN,
    INTERNAL_ERROR,
    INVALID_TOKEN,
    THROTTLED,
    AwsJsonResponse,
    Failure,
    check_signature,
    read_registration_token,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from .conditions import Conditions
    from .tokens import TokenStore
    from .wire import AwsRequest


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a call is answered.

    Attributes:
        response: The answer.
        scenario: The name of the token's scenario; None when it is not one of ours or was not looked at.
        delay: Seconds until the answer, for the scenario's sake.
        remark: Why it is not the scenario's answer, where it is not.
    """

    response: Response
    scenario: str | None = None
    delay: float = 0.0
    remark: str = ""


class Metering:
    """Answers calls about the tokens of a store.

    Args:
        tokens: The tokens that were issued.
        conditions: How many calls fail by chance, and for how long tokens live.
        timer: The one that says when they were.
        random: Gives numbers from 0 to 1 without 1.
    """

    def __init__(
        self, tokens: TokenStore, conditions: Conditions, timer: Callable[[], float], random: Callable[[], float]
    ) -> None:
        self._tokens = tokens
        self._conditions = conditions
        self._timer = timer
        self._random = random

    def resolve_customer(self, request: AwsRequest) -> Verdict:
        """Decide how a call is answered."""
        failure = check_signature(request)
        if failure:
            return Verdict(AwsJsonResponse.of_failure(failure))
        token = read_registration_token(request)
        if isinstance(token, Failure):
            return Verdict(AwsJsonResponse.of_failure(token))
        error_rate, token_life = self._conditions.error_rate, self._conditions.token_life
        number = self._random()
        if number < error_rate:
            grant = self._tokens.find(token)
            response: Response = AwsJsonResponse.of_failure(THROTTLED if number < error_rate / 2 else INTERNAL_ERROR)
            remark = "It failed by chance: the error rate is not zero."
        else:
            grant = self._tokens.use(token)
            age = self._timer() - grant.issued_at if grant else 0.0
            remark = ""
            if grant is None:
                response = AwsJsonResponse.of_failure(INVALID_TOKEN)
                remark = "This marketplace has not issued the token, or has forgotten it."
            elif token_life is not None and age >= token_life:
                response = AwsJsonResponse.of_failure(EXPIRED_TOKEN)
                remark = f"The token was {age:.0f} seconds old, and tokens live for {token_life:g}."
            else:
                response = grant.answer()
        scenario, delay = (grant.scenario.slug, grant.scenario.delay) if grant else (None, 0.0)
        return Verdict(response, scenario, delay, remark)
