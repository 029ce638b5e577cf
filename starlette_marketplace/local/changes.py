"""What can become of an agreement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias

from .agreements import TERM, Agreement, new_agreement_id, new_license_arn, new_offer_id
from .plans import Plan

Change: TypeAlias = Callable[[Agreement, datetime], tuple[Agreement, ...]]
"""Gives what an agreement becomes now, and after that the agreement that follows it, if one does."""


def change_plan(name: str) -> Change:
    """Change what was bought."""

    def change(agreement: Agreement, now: datetime) -> tuple[Agreement, ...]:
        _check_is_open(agreement, "change its plan")
        return (replace(agreement, plan=agreement.product.plan(name), updated_at=now),)

    return change


def cancel(agreement: Agreement, now: datetime) -> tuple[Agreement, ...]:
    """End it before its end date."""
    _check_is_open(agreement, "cancel it")
    return (replace(agreement, status="CANCELLED", updated_at=now),)


def expire(agreement: Agreement, now: datetime) -> tuple[Agreement, ...]:
    """Let its end date come."""
    _check_is_open(agreement, "let it expire")
    return (_reach_end(agreement, "EXPIRED", now),)


def renew(*, new_license: bool) -> Change:
    """Let its end date come, and another agreement on the same terms follow."""

    def change(agreement: Agreement, now: datetime) -> tuple[Agreement, ...]:
        _check_is_open(agreement, "renew it")
        if agreement.free_trial_ends_at:
            raise ValueError(f"{agreement.id} is a free trial, which is not renewed. Replace it.")
        renewed = _reach_end(agreement, "RENEWED", now)
        return _follow(renewed, agreement.plan, agreement.offer_id, now, new_license=new_license)

    return change


def replace_by(name: str, *, new_license: bool) -> Change:
    """End it for the sake of another agreement that comes from another offer."""

    def change(agreement: Agreement, now: datetime) -> tuple[Agreement, ...]:
        _check_is_open(agreement, "replace it")
        plan = agreement.product.plan(name)
        replaced = replace(agreement, status="REPLACED", updated_at=now)
        return _follow(replaced, plan, new_offer_id(), now, new_license=new_license)

    return change


def suspend(agreement: Agreement, now: datetime) -> tuple[Agreement, ...]:
    """Let AWS advise to suspend the buyer's access."""
    _check_is_open(agreement, "suspend it")
    if agreement.advisory_since:
        raise ValueError(f"{agreement.id} is suspended already. Resume it first.")
    return (replace(agreement, advisory_since=now),)


def resume(agreement: Agreement, _: datetime) -> tuple[Agreement, ...]:
    """Let AWS take its advice back."""
    if not agreement.advisory_since:
        raise ValueError(f"{agreement.id} is not suspended. Suspend it first.")
    return (replace(agreement, advisory_since=None),)


def prepare(agreement: Agreement, _: datetime) -> tuple[Agreement, ...]:
    """Let its license become active."""
    _check_is_open(agreement, "prepare its license")
    if not agreement.is_pending:
        raise ValueError(f"The license of {agreement.id} is active already. Only that of not-yet-entitled is not.")
    return (replace(agreement, is_pending=False),)


def _check_is_open(agreement: Agreement, what: str) -> None:
    if agreement.is_closed:
        advice = f"Name the agreement that follows it, {agreement.next_id}." if agreement.next_id else "Buy again."
        raise ValueError(f"You cannot {what}: {agreement.id} is {agreement.status}. {advice}")


def _reach_end(agreement: Agreement, status: str, now: datetime) -> Agreement:
    if agreement.ends_at is None:
        raise ValueError(f"{agreement.id} is pay as you go and has no end date. Cancel it instead.")
    ends_at = min(agreement.ends_at, now)
    trial_ends_at = agreement.free_trial_ends_at and ends_at
    return replace(agreement, status=status, ends_at=ends_at, free_trial_ends_at=trial_ends_at, updated_at=now)


def _follow(
    agreement: Agreement, plan: Plan | None, offer_id: str, now: datetime, *, new_license: bool
) -> tuple[Agreement, Agreement]:
    successor = replace(
        agreement,
        id=new_agreement_id(),
        previous_id=agreement.id,
        license_arn=new_license_arn() if new_license and agreement.license_arn else agreement.license_arn,
        offer_id=offer_id,
        plan=plan,
        status="ACTIVE",
        accepted_at=now,
        starts_at=now,
        ends_at=now + TERM,
        free_trial_ends_at=None,
        updated_at=now,
    )
    return replace(agreement, next_id=successor.id), successor
