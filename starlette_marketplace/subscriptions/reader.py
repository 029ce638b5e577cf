"""Asking AWS what a customer may use: the `SubscriptionReader` Protocol, and `AwsReader` by boto3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ..aws_services import AGREEMENTS, ENTITLEMENTS
from ..clocks import monotonic
from ..errors import CredentialsError, DeadlineExceededError
from .agreements import agreement_of
from .answers import unusable
from .entitlements import entitlement_of, filter_of

if TYPE_CHECKING:
    from ..aws import Connection
    from ..aws_services import Service
    from ..customer import MarketplaceCustomer
    from ..settings import MarketplaceSettings
    from .agreements import Agreement
    from .entitlements import Entitlement


class SubscriptionReader(Protocol):
    """Tells what a customer may use. Called in threads of our own, so it may block, and from several at once."""

    def get_entitlements(self, customer: MarketplaceCustomer) -> tuple[Entitlement, ...]:
        """What `customer` has bought, empty when there is nothing.

        Raises:
            MarketplaceError: The one that says why it cannot be told.
        """
        ...

    def get_agreement(self, agreement_id: str) -> Agreement:
        """The agreement of that id.

        Raises:
            AgreementNotFoundError: There is none.
            MarketplaceError: The one that says why it cannot be told.
        """
        ...


class AwsReader:
    """`GetEntitlements` and `DescribeAgreement`, by boto3.

    https://docs.aws.amazon.com/marketplace/latest/APIReference/API_marketplace-entitlements_GetEntitlements.html
    https://docs.aws.amazon.com/marketplace/latest/APIReference/API_marketplace-agreements_DescribeAgreement.html
    """

    # A page has 25 rows, and a product at most a few hundred dimensions: AWS does not send more.
    _MOST_PAGES = 100

    def __init__(
        self, connection: Connection, settings: MarketplaceSettings, *, timer: Callable[[], float] = monotonic
    ) -> None:
        self._connection = connection
        self._limit = settings.deadline
        self._timer = timer

    def get_entitlements(self, customer: MarketplaceCustomer) -> tuple[Entitlement, ...]:
        """What `customer` has bought: all pages of it.

        Raises:
            IncompleteAnswerError: The answer is about another license, account or product, or cannot be read.
            DeadlineExceededError: There are more pages than AWS sends within `deadline`.
            MarketplaceError: The call failed.
        """
        began = self._timer()
        entitlements: list[Entitlement] = []
        request: dict[str, Any] = {"ProductCode": customer.product_code, "Filter": filter_of(customer)}
        for _ in range(self._MOST_PAGES):
            answer = self._ask(ENTITLEMENTS, lambda client: client.get_entitlements(**request))
            try:
                # There is no such member when there are no entitlements, and a page may be empty before the last one.
                entitlements += (entitlement_of(row, customer) for row in answer.get("Entitlements") or ())
            except ValueError as exc:
                reason = str(exc)
                break
            if not answer.get("NextToken"):
                return tuple(entitlements)
            if self._timer() - began > self._limit:
                # Nobody waits any longer, and each page takes a thread and a call.
                raise DeadlineExceededError(
                    f"AWS has not sent all pages of entitlements within {self._limit:g} s.",
                    "Try again in a moment; if the problem persists, raise deadline.",
                )
            request["NextToken"] = answer["NextToken"]
        else:
            reason = f"it has more than {self._MOST_PAGES} pages"
        raise unusable(answer, reason)

    def get_agreement(self, agreement_id: str) -> Agreement:
        """The agreement of that id.

        Raises:
            AgreementNotFoundError: AWS does not know it.
            AccessDeniedError: We may not read it: permissions are missing, or a partner has resold the product.
            IncompleteAnswerError: The answer is about another agreement, or cannot be read.
            MarketplaceError: The call failed.
        """
        answer = self._ask(AGREEMENTS, lambda client: client.describe_agreement(agreementId=agreement_id))
        try:
            return agreement_of(answer, agreement_id)
        except ValueError as exc:
            reason = str(exc)
        raise unusable(answer, reason)

    def _ask(self, service: Service, call: Callable[[Any], Mapping[str, Any]]) -> Mapping[str, Any]:
        client = self._connection.client()
        try:
            return client.ask(call, service)
        except CredentialsError:
            self._connection.forget(client)
            raise
