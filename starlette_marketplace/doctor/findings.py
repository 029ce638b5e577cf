"""What a check found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """What came out of a check.

    Attributes:
        OK: All is well.
        WARNING: It works, and something may be wrong.
        PROBLEM: It does not work, or not for buyers.
        SKIPPED: It could not be looked at, or was not asked for.
    """

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: The name of the check.
        status: What came out.
        message: What was found.
        advice: What to do; empty where there is nothing to do.
    """

    check: str
    status: Status
    message: str
    advice: str = ""


class Verdict(NamedTuple):
    """A finding, without the name of the check that makes it."""

    status: Status
    message: str
    advice: str = ""


def ok(message: str) -> Verdict:
    """Nothing to do."""
    return Verdict(Status.OK, message)


def warning(message: str, advice: str) -> Verdict:
    """It works, or it could not be told; a person should look."""
    return Verdict(Status.WARNING, message, advice)


def problem(message: str, advice: str) -> Verdict:
    """Buyers will not be able to sign up, or are not safe."""
    return Verdict(Status.PROBLEM, message, advice)


def skipped(message: str) -> Verdict:
    """Not looked at."""
    return Verdict(Status.SKIPPED, message)


def is_fine(findings: Iterable[Finding]) -> bool:
    """Whether there is no problem; warnings may be."""
    return all(finding.status is not Status.PROBLEM for finding in findings)
