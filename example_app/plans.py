"""What a customer has bought, until when, and whether it is in force: asked of AWS whenever a page shows it.

Nothing here is special to Acme: copy it, with a products.py of your own. It takes the permissions
aws-marketplace:GetEntitlements and aws-marketplace:DescribeAgreement. Answers are kept for MARKETPLACE_CACHE_TTL
seconds, so a change shows that much later; only the events that AWS sends would tell at once.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import anyio
from starlette.requests import HTTPConnection

from example_app.products import DIMENSIONS, Product, find_product, in_words
from starlette_marketplace import (
    AccessDeniedError,
    Agreement,
    AgreementNotFoundError,
    Entitlement,
    MarketplaceCustomer,
    MarketplaceError,
    get_agreement,
    get_entitlements,
)

GRACE = timedelta(hours=1)  # AWS may show a renewal a little after the old end.
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What AWS says of one subscription.

    `unknown` means that AWS cannot be asked right now. Treat it like `active`: an outage of AWS locks nobody out.
    """

    status: Literal["pending", "active", "ended", "unknown"] = "unknown"
    bought: Mapping[str, str] = field(default_factory=dict)
    ends_at: datetime | None = None
    renews: bool | None = None
    free_trial_ends_at: datetime | None = None


async def ask_for_plans(
    connection: HTTPConnection, customers: Mapping[MarketplaceCustomer, bool], *, patience: float
) -> dict[str, Plan]:
    """Ask AWS about all customers at the same time; starlette-marketplace limits how many calls run at once.

    Args:
        connection: The request that asks.
        customers: Each with whether its plan has been active before.
        patience: Seconds to wait. A call that takes longer goes on, and the next page finds its answer.

    Returns:
        The plans by `customer.key`, unknown where AWS did not answer.
    """
    plans = {customer.key: Plan() for customer in customers}

    async def ask(customer: MarketplaceCustomer, was_active: bool) -> None:
        try:
            plans[customer.key] = await ask_for_plan(connection, customer, was_active=was_active)
        except MarketplaceError as error:
            logger.warning("The plan of account %s is unknown. %s", customer.masked_account_id, error)

    with anyio.move_on_after(patience):
        async with anyio.create_task_group() as tasks:
            for customer, was_active in customers.items():
                tasks.start_soon(ask, customer, was_active)
    return plans


async def ask_for_plan(connection: HTTPConnection, customer: MarketplaceCustomer, *, was_active: bool) -> Plan:
    product = find_product(customer.product_code)
    entitlements: Sequence[Entitlement] = ()
    if product.pricing != "pay as you go":
        entitlements = await get_entitlements(connection, customer)
    agreement = None
    if customer.agreement_id is not None:
        try:
            agreement = await get_agreement(connection, customer.agreement_id)
        except (AccessDeniedError, AgreementNotFoundError):
            # Entitlements decide alone: when a partner resells the product, only the partner may read the agreement.
            if product.pricing == "pay as you go":
                raise
        except MarketplaceError:
            if not entitlements:
                raise
    return decide(product, entitlements, agreement, was_active=was_active, now=datetime.now(UTC))


def decide(
    product: Product,
    entitlements: Sequence[Entitlement],
    agreement: Agreement | None,
    *,
    was_active: bool,
    now: datetime,
) -> Plan:
    """Derive the plan from what AWS said; without an agreement, entitlements decide alone."""
    is_over = agreement is not None and agreement.is_over
    # RENEWED and REPLACED have a successor. A status that you do not know is not an active one.
    goes_on = agreement is not None and agreement.status in {"ACTIVE", "RENEWED", "REPLACED"}
    limit = now if is_over else now - GRACE
    in_force = [each for each in entitlements if each.expires_at is None or each.expires_at > limit]

    status: Literal["pending", "active", "ended", "unknown"]
    if in_force:
        status = "active"
    elif is_over or entitlements:
        status = "ended"
    elif product.pricing == "pay as you go":
        status = "active" if goes_on else "unknown"
    elif was_active:
        # No entitlements: that is the answer before a contract begins, and again after it was canceled.
        status = "active" if goes_on else "ended"
    else:
        status = "pending"

    ends = [each.expires_at for each in in_force or entitlements] or ([agreement.ends_at] if agreement else [])
    ends_at = max(filter(None, ends), default=None)
    if ends_at and (ends_at <= now) != (status == "ended"):
        # What was canceled ended before that date. What has a successor, or is in its grace, goes on beyond it.
        ends_at = None
    trial_ends_at = agreement.free_trial_ends_at if agreement and status == "active" else None
    values = {each.dimension: in_words(each.value) for each in in_force}
    known = {label: values.pop(dimension) for dimension, label in DIMENSIONS.items() if dimension in values}
    return Plan(
        status=status,
        bought=known | values,
        ends_at=ends_at,
        renews=agreement.auto_renews if agreement else None,
        free_trial_ends_at=trial_ends_at if trial_ends_at and trial_ends_at > now else None,
    )
