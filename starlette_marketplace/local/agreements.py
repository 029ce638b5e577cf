"""What a buyer has agreed to, and what AWS says about it."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .answers import Identity
    from .scenarios import Scenario

# The account that issues licenses is not the buyer's; this is the one of AWS's own examples.
_LICENSE_ISSUER = "111122223333"


@dataclass(frozen=True, slots=True)
class Agreement:
    """A subscription of a buyer to a product.

    Attributes:
        scenario: What the buyer subscribed to.
        id: The agreement's id, or for a legacy product the customer identifier that it has instead.
        license_arn: The license; None for a legacy product.
        identity: What ResolveCustomer answers for it, the same every time.
    """

    scenario: Scenario
    id: str
    license_arn: str | None
    identity: Identity

    @classmethod
    def of(cls, account_id: str, scenario: Scenario) -> Agreement:
        """Let the buyer with this AWS account subscribe."""
        identity = {"CustomerAWSAccountId": account_id, "ProductCode": scenario.product.code}
        if scenario.product.legacy:
            customer_identifier = _random_text(string.ascii_letters + string.digits, 11)
            return cls(scenario, customer_identifier, None, {**identity, "CustomerIdentifier": customer_identifier})
        license_arn = f"arn:aws:license-manager::{_LICENSE_ISSUER}:license:l-{secrets.token_hex(16)}"
        agreement_id = f"agmt-{_random_text(string.ascii_lowercase + string.digits, 24)}"
        members = {"LicenseArn": license_arn, "Metadata": {"AgreementId": agreement_id}}
        return cls(scenario, agreement_id, license_arn, {**identity, **members})

    @property
    def short_license(self) -> str | None:
        """The end of the license ARN that tells licenses apart, without its middle."""
        if self.license_arn is None:
            return None
        license_id = self.license_arn.rpartition(":")[2]
        return f"{license_id[:6]}…{license_id[-4:]}"


def _random_text(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
