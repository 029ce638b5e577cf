"""Reading the answers of AWS about subscriptions. Their models require no member, and botocore checks no type."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..aws_errors import request_id_in
from ..errors import IncompleteAnswerError

# AWS's events say 9999-01-01 for what has no end.
_NO_END = 9999


def text(members: Mapping[str, Any], name: str) -> str | None:
    """The text of a member; None when it is missing or empty.

    Raises:
        ValueError: It is not a text.
    """
    value = members.get(name)
    if not isinstance(value, str | None):
        raise ValueError(f"{name} is not a string")
    return value or None


def required_text(members: Mapping[str, Any], name: str) -> str:
    """The text of a member.

    Raises:
        ValueError: It is missing, or not a text.
    """
    value = text(members, name)
    if value is None:
        raise ValueError(f"{name} is missing")
    return value


def moment(members: Mapping[str, Any], name: str) -> datetime | None:
    """The time of a member, UTC; None when it is missing, or so late that it means no end.

    Raises:
        ValueError: It is not a time.
    """
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"{name} is not a time")
    # botocore gives it in the zone of this machine.
    try:
        value = value.astimezone(UTC)
    except OverflowError:
        # UTC has no such year: it is before the first, or after the last.
        if value.year < _NO_END:
            raise ValueError(f"{name} is not a time") from None
        return None
    return None if value.year >= _NO_END else value


def required_moment(members: Mapping[str, Any], name: str) -> datetime:
    """The time of a member, UTC.

    Raises:
        ValueError: It is missing, or not a time.
    """
    value = moment(members, name)
    if value is None:
        raise ValueError(f"{name} is missing")
    return value


def part(members: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The structure of a member, empty when it is missing.

    Raises:
        ValueError: It is not a structure.
    """
    value = members.get(name)
    if not isinstance(value, Mapping | None):
        raise ValueError(f"{name} is not a structure")
    return value or {}


def unusable(answer: Mapping[str, Any], reason: str) -> IncompleteAnswerError:
    """What it means that an answer cannot be used."""
    return IncompleteAnswerError(
        f"AWS answered, and its answer cannot be used (AWS request id {request_id_in(answer)}): {reason}.",
        "Try again in a moment; if the problem persists, check the endpoint, or give AWS Support the request id.",
    )
