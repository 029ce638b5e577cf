"""What the AWS Marketplace Agreement API makes of DescribeAgreement and SearchAgreements calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .answers import say
from .cursors import make_cursor, read_cursor
from .failures import (
    AGREEMENT_DENIED,
    AGREEMENT_INTERNAL_ERROR,
    AGREEMENT_THROTTLED,
    RefusedError,
    invalid,
    no_agreement,
)
from .operations import Operation, Question
from .parameters import Parameters
from .products import SELLER
from .search import Search
from .summaries import describe, summarize
from .wire import AwsJsonResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from .agreements import Agreement
    from .ledger import Ledger
    from .wire import AwsRequest

MOST_ON_A_PAGE = 50
"""How many agreements an answer has at most."""

_SERVICE = "AWSMPCommerceService_v20200301"
_ID = re.compile("[A-Za-z0-9_/-]{1,64}")


class Commerce:
    """Answers calls about agreements, for the seller whose app is tried out.

    Args:
        ledger: The agreements that there are.

    Attributes:
        operations: What it can be asked to do.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.operations: list[Operation] = [
            _operation("DescribeAgreement", self._read_describe),
            _operation("SearchAgreements", self._read_search),
        ]

    def _read_describe(self, request: AwsRequest) -> Question:
        agreement_id = Parameters(request.members, "DescribeAgreement").text("agreementId")
        if not agreement_id:
            raise RefusedError(invalid("MISSING_AGREEMENT_ID", "agreementId", "The agreement id is required"))
        if not _ID.fullmatch(agreement_id):
            raise RefusedError(invalid("INVALID_AGREEMENT_ID", "agreementId", "The agreement id is not valid"))
        found = next((agreement for agreement in self._ledger.known() if agreement.id == agreement_id), None)
        if found is None:
            return Question(lambda: (AwsJsonResponse.of_failure(no_agreement(agreement_id)), ""))
        return Question(lambda: (_describe(found), ""), found.scenario, found.initial_id)

    def _read_search(self, request: AwsRequest) -> Question:
        parameters = Parameters(request.members, "SearchAgreements")
        search = Search.read(parameters)
        size, token = parameters.integer("maxResults"), parameters.text("nextToken")
        if size is None:
            size = MOST_ON_A_PAGE
        if not 1 <= size <= MOST_ON_A_PAGE:
            message = f"maxResults must be between 1 and {MOST_ON_A_PAGE}"
            raise RefusedError(invalid("INVALID_MAX_RESULTS", "maxResults", message))
        start = 0 if token is None else read_cursor(search.text, token)
        if start is None:
            raise RefusedError(invalid("INVALID_NEXT_TOKEN", "nextToken", "nextToken is not valid"))
        found = search.find(self._ledger.known(), SELLER)
        chains = {agreement.initial_id: agreement.scenario for agreement in found}
        subscription = next(iter(chains)) if search.names_agreement and len(chains) == 1 else None
        scenario = chains[subscription] if subscription else None
        return Question(lambda: (_list(found, search, start, start + size), ""), scenario, subscription)


def _operation(name: str, read: Callable[[AwsRequest], Question]) -> Operation:
    return Operation(f"{_SERVICE}.{name}", read, AGREEMENT_THROTTLED, AGREEMENT_INTERNAL_ERROR, "1.0")


def _describe(agreement: Agreement) -> Response:
    if agreement.proposer_id != SELLER:
        return AwsJsonResponse.of_failure(AGREEMENT_DENIED)
    return agreement.scenario.agreement_answer(describe(agreement))


def _list(found: list[Agreement], search: Search, start: int, end: int) -> Response:
    members: dict[str, object] = {"agreementViewSummaries": [summarize(agreement) for agreement in found[start:end]]}
    if end < len(found):
        members["nextToken"] = make_cursor(search.text, end)
    return say(members)
