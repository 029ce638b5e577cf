"""What a buyer has agreed to, and what AWS says about it."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from .products import PARTNER

if TYPE_CHECKING:
    from .answers import Members
    from .plans import Plan
    from .products import Product
    from .scenario import Scenario

# The account that issues licenses is not the buyer's; this is the one of AWS's own examples.
_LICENSE_ISSUER = "111122223333"

TERM = timedelta(days=365)
"""How long a contract runs."""

TRIAL = timedelta(days=14)
"""How long a free trial runs."""

OVER = frozenset({"ARCHIVED", "CANCELLED", "EXPIRED", "RENEWED", "REPLACED", "ROLLED_BACK", "SUPERSEDED", "TERMINATED"})
"""The statuses of agreements that nothing can change any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """A subscription of a buyer to a product, as it is at a moment.

    Attributes:
        scenario: What the buyer subscribed to.
        id: The agreement's id, `agmt-...`; ResolveCustomer does not name it for a legacy product.
        initial_id: The id of the first agreement of its chain: its own, unless it renews or replaces another.
        previous_id: The id of the agreement that it renews or replaces.
        next_id: The id of the agreement that renews or replaces it.
        account_id: The buyer's AWS account.
        customer_identifier: Who the buyer is to a legacy product; None for all others.
        license_arn: The license; None for a legacy product.
        offer_id: The offer that was accepted.
        plan: What was bought; None for pay as you go.
        status: `ACTIVE`, `CANCELLED`, `EXPIRED`, `RENEWED`, `REPLACED`, or what else the scenario says.
        accepted_at: When the buyer agreed.
        starts_at: From when it is good.
        ends_at: Until when it is good; None for pay as you go.
        free_trial_ends_at: When the free trial ends; None when it is none.
        updated_at: When it changed last.
        is_pending: Whether its license is not active yet.
        advisory_since: Since when AWS advises to suspend it; None when it does not.
    """

    scenario: Scenario
    id: str
    initial_id: str
    previous_id: str | None = None
    next_id: str | None = None
    account_id: str
    customer_identifier: str | None = None
    license_arn: str | None = None
    offer_id: str
    plan: Plan | None
    status: str
    accepted_at: datetime
    starts_at: datetime
    ends_at: datetime | None
    free_trial_ends_at: datetime | None = None
    updated_at: datetime
    is_pending: bool = False
    advisory_since: datetime | None = None

    @classmethod
    def of(cls, account_id: str, scenario: Scenario, now: datetime) -> Agreement:
        """Let the buyer with this AWS account subscribe."""
        product, agreement_id = scenario.product, new_agreement_id()
        ends_at = now + (TRIAL if scenario.free_trial else TERM) if product.plans else None
        return cls(
            scenario=scenario,
            id=agreement_id,
            initial_id=agreement_id,
            account_id=account_id,
            customer_identifier=random_text(string.ascii_letters + string.digits, 11) if product.legacy else None,
            license_arn=None if product.legacy else new_license_arn(),
            offer_id=product.offer_id,
            plan=product.plans[0] if product.plans else None,
            status=scenario.agreement_status,
            accepted_at=now,
            starts_at=now,
            ends_at=ends_at,
            free_trial_ends_at=ends_at if scenario.free_trial else None,
            updated_at=now,
            is_pending=scenario.is_pending,
        )

    @property
    def product(self) -> Product:
        """What was bought a plan of."""
        return self.scenario.product

    @property
    def pricing(self) -> str:
        """How it is paid for, in a few words."""
        if self.free_trial_ends_at:
            return "free trial"
        return f"legacy {self.product.pricing}" if self.product.legacy else self.product.pricing

    @property
    def proposer_id(self) -> str:
        """The AWS account of who has sold it: the vendor's, or that of a partner."""
        return PARTNER if self.scenario.is_resold else self.product.seller

    @property
    def identity(self) -> Members:
        """What ResolveCustomer answers for it."""
        identity = {"CustomerAWSAccountId": self.account_id, "ProductCode": self.product.code}
        if self.customer_identifier:
            return {**identity, "CustomerIdentifier": self.customer_identifier}
        return {**identity, "LicenseArn": self.license_arn, "Metadata": {"AgreementId": self.id}}

    @property
    def is_closed(self) -> bool:
        """Whether nothing can change about it any more."""
        return self.status in OVER

    @property
    def grants(self) -> bool:
        """Whether the buyer has what is in the plan, or had it until the agreement expired."""
        return not self.is_pending and (not self.is_closed or self.status == "EXPIRED")

    @property
    def short_license(self) -> str | None:
        """The end of the license ARN that tells licenses apart, without its middle."""
        if self.license_arn is None:
            return None
        license_id = license_id_of(self.license_arn)
        return f"{license_id[:6]}…{license_id[-4:]}"


def license_id_of(license_arn: str) -> str:
    """Give the end of a license ARN, `l-...`, which alone is the same in both forms that AWS prints."""
    return license_arn.rpartition(":")[2]


def new_license_arn() -> str:
    """Make up a license."""
    return f"arn:aws:license-manager::{_LICENSE_ISSUER}:license:l-{secrets.token_hex(16)}"


def new_agreement_id() -> str:
    """Make up the id of an agreement."""
    return f"agmt-{random_text(string.ascii_lowercase + string.digits, 24)}"


def new_offer_id() -> str:
    """Make up the id of an offer to one buyer."""
    return f"offer-{random_text(string.ascii_lowercase + string.digits, 13)}"


def random_text(alphabet: str, length: int) -> str:
    """Make up a text of these characters."""
    return "".join(secrets.choice(alphabet) for _ in range(length))
