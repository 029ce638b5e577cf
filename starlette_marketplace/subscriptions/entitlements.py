"""`Entitlement`: what a customer has bought of one dimension, read from an answer of GetEntitlements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .answers import moment, part, required_text, text

if TYPE_CHECKING:
    from ..customer import MarketplaceCustomer

_KINDS: dict[str, type | tuple[type, ...]] = {
    "IntegerValue": int,
    "DoubleValue": (float, int),
    "BooleanValue": bool,
    "StringValue": str,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """What a customer has bought of one dimension of a contract.

    https://docs.aws.amazon.com/marketplace/latest/APIReference/API_marketplace-entitlements_Entitlement.html

    Attributes:
        dimension: The dimension, by its API identifier in the listing.
        value: How much, exactly as AWS sent it; None when AWS sent no value.
        expires_at: When the contract ends or renews; aware, UTC. None when it has no end. A renewal may take AWS some
            seconds, so allow a grace period before you revoke anything.
    """

    dimension: str
    value: int | float | bool | str | None
    expires_at: datetime | None


def license_id(license_arn: str) -> str:
    """The part of a license ARN that identifies the license: AWS prints the ARN in two forms."""
    return license_arn.rpartition(":")[2]


def filter_of(customer: MarketplaceCustomer) -> dict[str, list[str]]:
    """The filter that gives the entitlements of `customer`. Without one, AWS answers for all customers of a product."""
    if customer.license_arn is not None:
        return {"LICENSE_ARN": [customer.license_arn]}
    return {"CUSTOMER_IDENTIFIER": [str(customer.customer_identifier)]}


def entitlement_of(row: object, customer: MarketplaceCustomer) -> Entitlement:
    """The entitlement in a row of the answer for `customer`.

    Raises:
        ValueError: The row cannot be read, or is about another license, account or product.
    """
    if not isinstance(row, Mapping):
        raise ValueError("an entitlement is not a structure")
    _check_owner(row, customer)
    return Entitlement(
        dimension=required_text(row, "Dimension"),
        value=_value_of(part(row, "Value")),
        expires_at=moment(row, "ExpirationDate"),
    )


def _check_owner(row: Mapping[str, Any], customer: MarketplaceCustomer) -> None:
    # AWS's model requires none of these, so a row may lack some of them, but not everything that says whose it is.
    owners = {
        "LicenseArn": license_id(customer.license_arn or ""),
        "CustomerAWSAccountId": customer.aws_account_id,
        "CustomerIdentifier": customer.customer_identifier,
    }
    named = {name: theirs for name in [*owners, "ProductCode"] if (theirs := text(row, name))}
    for name, theirs in named.items():
        ours = owners.get(name, customer.product_code)
        if ours and (license_id(theirs) if name == "LicenseArn" else theirs) != ours:
            raise ValueError(f"an entitlement has another {name}")
    if not any(owners[name] for name in named.keys() & owners.keys()):
        raise ValueError("an entitlement does not say whose it is")


def _value_of(members: Mapping[str, Any]) -> int | float | bool | str | None:
    for name, kind in _KINDS.items():
        value: int | float | bool | str | None = members.get(name)
        if value is not None:
            # A bool is an int to Python.
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise ValueError(f"{name} has another type")
            return value
    return None
