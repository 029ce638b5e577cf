"""Who the buyer is: `MarketplaceCustomer`, as AWS proved it, and `Registration`, who has not finished signing up."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

ID_LENGTH = 24
"""Characters of a registration id."""

_MAX_LENGTH = 512
_ACCOUNT_ID = re.compile("[0-9]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketplaceCustomer:
    """The identity that AWS answered with.

    It proves who came, not that the subscription is active: `get_entitlements` tells that for a contract, and
    `get_agreement` for pay as you go.

    Attributes:
        aws_account_id: The buyer's AWS account, 12 digits. One account can hold several agreements.
        product_code: AWS's code of the product, which is not the product id (`prod-...`).
        license_arn: The license of this agreement. None for legacy products; the account in it is not the buyer's.
        customer_identifier: AWS's older identifier, for legacy products only; None for others.
        agreement_id: The agreement that the buyer accepted, None when AWS or an old botocore leaves it out.

    Raises:
        ValueError: A field is malformed, or nothing identifies the agreement: both `license_arn` and
            `customer_identifier` are missing.
    """

    aws_account_id: str
    product_code: str
    license_arn: str | None = None
    customer_identifier: str | None = None
    agreement_id: str | None = None

    def __post_init__(self) -> None:
        for name in MarketplaceCustomer.__slots__:
            value = getattr(self, name)
            if value is None:
                continue
            if not (isinstance(value, str) and len(value) <= _MAX_LENGTH and value.isascii() and value.isprintable()):
                raise ValueError(f"{name} must be at most {_MAX_LENGTH} printable ASCII characters")
            if value == "":
                object.__setattr__(self, name, None)
        if not _ACCOUNT_ID.fullmatch(self.aws_account_id or ""):
            raise ValueError("aws_account_id must be a string of 12 digits")
        if not self.product_code:
            raise ValueError("product_code must not be empty")
        if self.license_arn is None and self.customer_identifier is None:
            raise ValueError("one of license_arn and customer_identifier is needed to tell agreements apart")

    def __repr__(self) -> str:
        """Masks the account id, as this is what ends up in logs."""
        shown = _values(self) | {"aws_account_id": self.masked_account_id}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def masked_account_id(self) -> str:
        """The AWS account id as people and logs may see it: the last four digits."""
        return masked(self.aws_account_id)

    @property
    def key(self) -> str:
        """The stable key to store, unique for each agreement: the license, or for legacy products product and account.

        Put a unique constraint on it: that is what makes signing up happen once.
        """
        return self.license_arn or f"{self.product_code}:{self.aws_account_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One customer who has arrived from AWS Marketplace and has not finished signing up yet.

    Attributes:
        customer: Who it is, proven by AWS.
        resolved_at: When the buyer arrived with a token that AWS confirmed; aware, UTC.
        free_trial: What the form said of the offer: a hint, not proven, as the buyer's browser sends it.
        hints: The `x-amzn-marketplace-*` fields of the form other than the token: not proven either.
    """

    customer: MarketplaceCustomer
    resolved_at: datetime
    free_trial: bool = False
    hints: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def id(self) -> str:
        """Opaque name of this registration, the same each time the same agreement arrives.

        Put it in the signup form as a hidden field, so that what the buyer saw is what gets linked.
        """
        return hashlib.sha256(self.customer.key.encode()).hexdigest()[:ID_LENGTH]

    def to_dict(self) -> dict[str, object]:
        """This registration as JSON types, for `from_dict`."""
        return {
            "customer": _values(self.customer),
            "resolved_at": self.resolved_at.timestamp(),
            "free_trial": self.free_trial,
            "hints": dict(self.hints),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Registration:
        """The registration that `to_dict` described.

        Raises:
            ValueError: `data` did not come from `to_dict`.
        """
        try:
            customer, hints = data["customer"], data["hints"]
            resolved_at, free_trial = data["resolved_at"], data["free_trial"]
            if not (
                isinstance(customer, dict)
                and isinstance(hints, dict)
                and isinstance(resolved_at, int | float)
                and isinstance(free_trial, bool)
            ):
                raise ValueError("not a registration")
            for name, text in hints.items():
                if not (isinstance(name, str) and isinstance(text, str)):
                    raise ValueError("not a registration")
            return cls(
                customer=MarketplaceCustomer(**customer),
                resolved_at=datetime.fromtimestamp(resolved_at, UTC),
                free_trial=free_trial,
                hints=hints,
            )
        except (KeyError, TypeError, OverflowError, OSError) as exc:
            raise ValueError("not a registration") from exc


def _values(customer: MarketplaceCustomer) -> dict[str, str | None]:
    # Not dataclasses.asdict, which copies deeply and takes ten times as long.
    return {name: getattr(customer, name) for name in MarketplaceCustomer.__slots__}


def masked(aws_account_id: str) -> str:
    """The account id as logs may show it: the last four digits."""
    return "*" * 8 + aws_account_id[-4:]
