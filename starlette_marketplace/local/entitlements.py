"""What AWS Marketplace Entitlement Service makes of a GetEntitlements call."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .agreements import license_id_of
from .answers import say
from .cursors import make_cursor, read_cursor
from .failures import INTERNAL_ERROR, THROTTLED, RefusedError, invalid_parameter
from .operations import Operation, Question
from .parameters import Parameters
from .products import SELLER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from .agreements import Agreement
    from .answers import Members
    from .ledger import Ledger
    from .plans import Quantity
    from .scenario import Scenario
    from .wire import AwsRequest

MOST_ON_A_PAGE = 25
"""How many entitlements an answer has at most."""

_OPERATION = "GetEntitlements"
_ACCOUNT, _CUSTOMER, _LICENSE, _DIMENSION = "CUSTOMER_AWS_ACCOUNT_ID", "CUSTOMER_IDENTIFIER", "LICENSE_ARN", "DIMENSION"
_FILTERS = (_CUSTOMER, _DIMENSION, _ACCOUNT, _LICENSE)
_TYPES = {bool: "BooleanValue", int: "IntegerValue", float: "DoubleValue", str: "StringValue"}


@dataclass(frozen=True, slots=True)
class _Query:
    product_code: str
    filters: Mapping[str, list[str]]
    size: int
    token: str | None

    @classmethod
    def read(cls, request: AwsRequest) -> _Query:
        parameters = Parameters(request.members, _OPERATION)
        product_code, token = parameters.text("ProductCode"), parameters.text("NextToken")
        size, filters = parameters.integer("MaxResults"), parameters.structure("Filter")
        query = cls(
            product_code or "",
            filters.lists_of_texts() if filters else {},
            MOST_ON_A_PAGE if size is None else size,
            token,
        )
        query._check()
        return query

    def _check(self) -> None:
        if not self.product_code:
            raise RefusedError(invalid_parameter("ProductCode must not be empty"))
        if not 1 <= self.size <= MOST_ON_A_PAGE:
            raise RefusedError(invalid_parameter(f"MaxResults must be between 1 and {MOST_ON_A_PAGE}"))
        for name, values in self.filters.items():
            if name not in _FILTERS or not values:
                raise RefusedError(invalid_parameter("Filter must have supported keys, each with a value"))
        if _CUSTOMER in self.filters and _ACCOUNT in self.filters:
            raise RefusedError(invalid_parameter(f"{_CUSTOMER} and {_ACCOUNT} are mutually exclusive"))

    @property
    def names_customer(self) -> bool:
        return not self.filters.keys() <= {_DIMENSION}

    @property
    def text(self) -> str:
        """The same for all pages of an answer, whatever their size."""
        return json.dumps([self.product_code, self.filters], sort_keys=True)

    def matches(self, agreement: Agreement) -> bool:
        """Whether it asks about this agreement."""
        if agreement.product.code != self.product_code or agreement.product.seller != SELLER:
            return False
        has = {_ACCOUNT: agreement.account_id, _CUSTOMER: agreement.customer_identifier}
        if any(has[name] not in self.filters[name] for name in has if name in self.filters):
            return False
        if _LICENSE not in self.filters:
            return True
        licenses = {license_id_of(license_arn) for license_arn in self.filters[_LICENSE]}
        return agreement.license_arn is not None and license_id_of(agreement.license_arn) in licenses

    def wants(self, row: Members) -> bool:
        """Whether it asks about this dimension."""
        return _DIMENSION not in self.filters or row["Dimension"] in self.filters[_DIMENSION]


class EntitlementService:
    """Answers calls about what buyers may use.

    Args:
        ledger: The agreements that they have.

    Attributes:
        operations: What it can be asked to do.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.operations: list[Operation] = [
            Operation(f"AWSMPEntitlementService.{_OPERATION}", self._read, THROTTLED, INTERNAL_ERROR)
        ]

    def _read(self, request: AwsRequest) -> Question:
        query = _Query.read(request)
        start = 0 if query.token is None else read_cursor(query.text, query.token)
        if start is None:
            raise RefusedError(invalid_parameter("NextToken is not valid"))
        agreements = [agreement for agreement in self._ledger.known() if query.matches(agreement)]
        chains = {agreement.initial_id: agreement.scenario for agreement in agreements}
        subscription = next(iter(chains)) if query.names_customer and len(chains) == 1 else None
        scenario = chains[subscription] if subscription else None
        rows = [row for agreement in agreements for row in _rows(agreement) if query.wants(row)]
        return Question(lambda: (_answer(rows, query, start, scenario), ""), scenario, subscription)


def _answer(rows: list[Members], query: _Query, start: int, scenario: Scenario | None) -> Response:
    size, slots = query.size, [[row] for row in rows]
    if scenario:
        size = min(size, scenario.entitlements_on_a_page)
        if scenario.has_empty_pages:
            slots = [slot for row in rows for slot in ([], [row])]
    end = start + size
    members: dict[str, object] = {}
    page = [row for slot in slots[start:end] for row in slot]
    if page:
        members["Entitlements"] = page
    if end < len(slots):
        members["NextToken"] = make_cursor(query.text, end)
    return (scenario.entitlements_answer if scenario else say)(members)


def _rows(agreement: Agreement) -> list[Members]:
    """Give the entitlements of an agreement as AWS writes them."""
    if agreement.plan is None or agreement.ends_at is None or not agreement.grants:
        return []
    customer: dict[str, object] = {"CustomerAWSAccountId": agreement.account_id}
    if agreement.customer_identifier:
        customer["CustomerIdentifier"] = agreement.customer_identifier
    if agreement.license_arn:
        customer["LicenseArn"] = agreement.license_arn
    return [
        {
            "ProductCode": agreement.product.code,
            "Dimension": dimension,
            **customer,
            "Value": _value(quantity),
            "ExpirationDate": agreement.ends_at.timestamp(),
        }
        for dimension, quantity in agreement.plan.entitlements
    ]


def _value(quantity: Quantity) -> Members:
    return {_TYPES[type(quantity)]: quantity}
