"""Who is shopping, and what AWS says about them."""

from __future__ import annotations

import secrets
import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .answers import Identity
    from .scenarios import Scenario

# The account that issues licenses is not the buyer's; this is the one of AWS's own examples.
_LICENSE_ISSUER = "111122223333"

_COMPANIES = (
    "Alpine Rail",
    "Blue Heron Logistics",
    "Juniper & Sons",
    "Kestrel Robotics",
    "Marigold Health",
    "Tidewater Foods",
)


class Buyer:
    """A company with an AWS account, and an agreement for each of its subscriptions.

    Args:
        unlike: The buyer before, whose company this one will not have.
    """

    def __init__(self, *, unlike: Buyer | None = None) -> None:
        self.company: str = secrets.choice([name for name in _COMPANIES if unlike is None or name != unlike.company])
        self.account_id = f"{secrets.randbelow(10**12):012}"
        self._identities: dict[str, Identity] = {}

    def identify(self, scenario: Scenario) -> Identity:
        """Give what ResolveCustomer answers for this buyer, the same one every time."""
        return self._identities.setdefault(scenario.slug, self._subscribe(scenario))

    def _subscribe(self, scenario: Scenario) -> Identity:
        identity = {"CustomerAWSAccountId": self.account_id, "ProductCode": scenario.product.code}
        if scenario.product.legacy:
            return {**identity, "CustomerIdentifier": _random_text(string.ascii_letters + string.digits, 11)}
        return {
            **identity,
            "LicenseArn": f"arn:aws:license-manager::{_LICENSE_ISSUER}:license:l-{secrets.token_hex(16)}",
            "Metadata": {"AgreementId": f"agmt-{_random_text(string.ascii_lowercase + string.digits, 24)}"},
        }


def _random_text(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
