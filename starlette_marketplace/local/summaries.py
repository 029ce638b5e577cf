"""An agreement as the Agreement API writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from .agreements import Agreement
    from .answers import Members

AGREEMENT_TYPE = "PurchaseAgreement"
"""The type of all agreements here."""

RESOURCE_TYPE = "SaaSProduct"
"""The type of all products here."""


def end_behavior(agreement: Agreement) -> tuple[str, str | None] | None:
    """Give what will happen at the end date, and why it is not renewed; None when it will not come to that."""
    if agreement.is_closed or agreement.ends_at is None:
        return None
    return ("EXPIRE", "NO_RENEWAL_TERM") if agreement.free_trial_ends_at else ("RENEW", None)


def describe(agreement: Agreement) -> Members:
    """Write it as DescribeAgreement does."""
    behavior, trial_ends_at = end_behavior(agreement), agreement.free_trial_ends_at
    details: dict[str, object] = {}
    if behavior:
        kind, reason = behavior
        details["endTimeBehavior"] = {"type": kind} | (
            {"reasonCode": reason} if reason else {"renewalSummary": {"offerId": agreement.offer_id}}
        )
    if trial_ends_at:
        details["freeTrialSummary"] = {"trialEndTime": _time(trial_ends_at)}
    return {**_common(agreement), **details}


def summarize(agreement: Agreement) -> Members:
    """Write it as SearchAgreements does."""
    behavior, trial_ends_at = end_behavior(agreement), agreement.free_trial_ends_at
    details: dict[str, object] = {"lastUpdateTime": _time(agreement.updated_at)}
    if agreement.license_arn:
        details["entitlements"] = [{"licenseArn": agreement.license_arn}]
    if behavior:
        kind, reason = behavior
        details["endTimeBehaviorType"] = kind
        if reason:
            details["endTimeBehaviorReasonCode"] = reason
    if trial_ends_at:
        details["freeTrialEndTime"] = _time(trial_ends_at)
    return {**_common(agreement), **details}


def _common(agreement: Agreement) -> dict[str, object]:
    end = {"endTime": _time(agreement.ends_at)} if agreement.ends_at else {}
    return {
        "agreementId": agreement.id,
        "agreementType": AGREEMENT_TYPE,
        "status": agreement.status,
        "acceptor": {"accountId": agreement.account_id},
        "proposer": {"accountId": agreement.proposer_id},
        "acceptanceTime": _time(agreement.accepted_at),
        "startTime": _time(agreement.starts_at),
        **end,
        "initialAgreementId": agreement.initial_id,
        "proposalSummary": {
            "offerId": agreement.offer_id,
            "resources": [{"id": agreement.product.id, "type": RESOURCE_TYPE}],
        },
    }


def _time(moment: datetime) -> float:
    return moment.timestamp()
