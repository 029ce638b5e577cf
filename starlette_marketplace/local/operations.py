"""What all operations have in common: signatures are looked at, and some calls fail by chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .failures import RefusedError
from .wire import AwsJsonResponse, Version, check_signature

if TYPE_CHECKING:
    from starlette.responses import Response

    from .conditions import Conditions
    from .failures import Failure
    from .scenario import Scenario
    from .wire import AwsRequest


@dataclass(frozen=True, slots=True)
class Question:
    """A call that was read.

    Attributes:
        answer: Makes the answer, and says why it is not the scenario's, where it is not.
        scenario: How it goes; None when nobody knows.
        subscription: The id of the first agreement of the one subscription that it is about, if it is about one.
        delay: Seconds until the answer, for the scenario's sake.
    """

    answer: Callable[[], tuple[Response, str]]
    scenario: Scenario | None = None
    subscription: str | None = None
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that AWS can be asked to do.

    Attributes:
        target: What the header X-Amz-Target says.
        read: Reads a call, and raises `RefusedError` when it cannot be answered.
        throttled: The error that says that calls come too often.
        internal_error: The error that says that AWS failed itself.
        version: The version of AWS JSON that answers are in.
    """

    target: str
    read: Callable[[AwsRequest], Question]
    throttled: Failure
    internal_error: Failure
    version: Version = "1.1"

    @property
    def name(self) -> str:
        """Its name for people."""
        return self.target.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a call is answered.

    Attributes:
        operation: The name of the operation.
        response: The answer.
        scenario: The name of the scenario; None when nobody knows, or nobody has looked.
        subscription: The id of the first agreement of the one subscription that it is about, if it is about one.
        delay: Seconds until the answer, for the scenario's sake.
        remark: Why it is not the scenario's answer, where it is not.
    """

    operation: str
    response: Response
    scenario: str | None = None
    subscription: str | None = None
    delay: float = 0.0
    remark: str = ""


class Desk:
    """Answers calls.

    Args:
        conditions: How many of them fail by chance.
        random: Gives numbers from 0 to 1 without 1.
    """

    def __init__(self, conditions: Conditions, random: Callable[[], float]) -> None:
        self._conditions = conditions
        self._random = random

    def answer(self, operation: Operation, request: AwsRequest) -> Verdict:
        """Decide how a call is answered."""
        verdict = self._decide(operation, request)
        if isinstance(verdict.response, AwsJsonResponse):
            verdict.response.speak(operation.version)
        return verdict

    def _decide(self, operation: Operation, request: AwsRequest) -> Verdict:
        failure = check_signature(request)
        if failure:
            return Verdict(operation.name, AwsJsonResponse.of_failure(failure))
        try:
            question = operation.read(request)
        except RefusedError as refused:
            return Verdict(operation.name, AwsJsonResponse.of_failure(refused.failure))
        error_rate, number = self._conditions.error_rate, self._random()
        if number < error_rate:
            failure = operation.throttled if number < error_rate / 2 else operation.internal_error
            response: Response = AwsJsonResponse.of_failure(failure)
            remark = "It failed by chance: the error rate is not zero."
        else:
            response, remark = question.answer()
        slug = question.scenario.slug if question.scenario else None
        return Verdict(operation.name, response, slug, question.subscription, question.delay, remark)
