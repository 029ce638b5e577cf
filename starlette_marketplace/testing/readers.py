"""What stands in for AWS where an app asks what a customer may use."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypedDict, Unpack

from ..clocks import wall_clock
from ..customer import MarketplaceCustomer
from ..errors import AgreementNotFoundError, MarketplaceError
from ..subscriptions.agreements import Agreement
from ..subscriptions.entitlements import Entitlement


class FakeReader:
    """A `SubscriptionReader` without AWS, for `Marketplace(settings, reader=FakeReader(...))`.

    Args:
        entitlements: By `customer.key`, what the customer has bought, or the error that is raised. Others have nothing.
        agreements: By its id, the agreement, or the error that is raised. Others are not found.

    Attributes:
        entitlements: What each customer has bought; it can be changed. The marketplace keeps what it was told, unless
            it is asked with `refresh=True`.
        agreements: The agreements; they can be changed.
        calls: The keys and agreement ids that were asked about, in order.
    """

    def __init__(
        self,
        entitlements: Mapping[str, Sequence[Entitlement] | MarketplaceError] | None = None,
        agreements: Mapping[str, Agreement | MarketplaceError] | None = None,
    ) -> None:
        self.entitlements: dict[str, Sequence[Entitlement] | MarketplaceError] = dict(entitlements or {})
        self.agreements: dict[str, Agreement | MarketplaceError] = dict(agreements or {})
        self.calls: list[str] = []

    def get_entitlements(self, customer: MarketplaceCustomer) -> tuple[Entitlement, ...]:
        """What `customer` has bought.

        Raises:
            MarketplaceError: The error that `entitlements` has for it.
        """
        self.calls.append(customer.key)
        answer = self.entitlements.get(customer.key, ())
        if isinstance(answer, MarketplaceError):
            raise answer
        return tuple(answer)

    def get_agreement(self, agreement_id: str) -> Agreement:
        """The agreement of that id.

        Raises:
            MarketplaceError: The error that `agreements` has for it; `AgreementNotFoundError` when there is nothing.
        """
        self.calls.append(agreement_id)
        answer = self.agreements.get(agreement_id)
        if answer is None:
            raise AgreementNotFoundError("The fake reader does not know this agreement.", "Add it to agreements.")
        if isinstance(answer, MarketplaceError):
            raise answer
        return answer


class AgreementFields(TypedDict, total=False):
    """The fields of `Agreement`."""

    id: str
    status: str
    aws_account_id: str
    product_id: str
    starts_at: datetime
    ends_at: datetime | None
    accepted_at: datetime
    free_trial_ends_at: datetime | None
    initial_id: str | None
    auto_renews: bool | None


def make_agreement(**fields: Unpack[AgreementFields]) -> Agreement:
    """A made-up agreement, active for a year from now: another one at each call.

    Args:
        **fields: What not to make up.
    """
    now = datetime.fromtimestamp(wall_clock(), UTC)
    agreement_id = f"agmt-{secrets.token_hex(12)}"
    agreement = Agreement(
        id=agreement_id,
        status="ACTIVE",
        aws_account_id=f"{secrets.randbelow(10**12):012}",
        product_id="prod-acmeanalytics",
        starts_at=now,
        ends_at=now + timedelta(days=365),
        accepted_at=now,
        free_trial_ends_at=None,
        initial_id=agreement_id,
        auto_renews=True,
    )
    return replace(agreement, **fields)
