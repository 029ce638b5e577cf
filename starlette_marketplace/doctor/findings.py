"""What was looked at, what was found, and how it is shown."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import groupby

TOPICS: dict[str, tuple[str, ...]] = {
    "Settings": (
        "settings",
        "variables",
        "secret_key",
        "product_codes",
        "https_only",
        "session_domain",
        "signup_url",
        "support_url",
    ),
    "Shared cache": ("shared_cache",),
    "AWS": (
        "aws_config",
        "region",
        "botocore",
        "endpoint",
        "credentials",
        "role",
        "account",
        "permission",
        "clock",
    ),
    "Landing URL": ("landing_url", "landing_get", "landing_head", "landing_post"),
}
"""The names of the checks by topic, in the order in which they are made."""

_TOPIC_OF = {check: topic for topic, checks in TOPICS.items() for check in checks}
_WIDTH = 100
_MARGIN = 11


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
        check: The name of the check, one of `TOPICS`.
        status: What came out.
        message: What was found.
        advice: What to do; empty where there is nothing to do.
    """

    check: str
    status: Status
    message: str
    advice: str = ""


def ok(check: str, message: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Status.OK, message)


def warning(check: str, message: str, advice: str) -> Finding:
    """It works, or it could not be told; a person should look."""
    return Finding(check, Status.WARNING, message, advice)


def problem(check: str, message: str, advice: str) -> Finding:
    """Buyers will not be able to sign up, or are not safe."""
    return Finding(check, Status.PROBLEM, message, advice)


def skipped(check: str, message: str) -> Finding:
    """Not looked at."""
    return Finding(check, Status.SKIPPED, message)


def is_fine(findings: Iterable[Finding]) -> bool:
    """Whether there is no problem; warnings may be."""
    return all(finding.status is not Status.PROBLEM for finding in findings)


def as_json(findings: list[Finding]) -> str:
    """The findings for machines."""
    content = {"ok": is_fine(findings), "findings": [asdict(finding) for finding in findings]}
    return json.dumps(content, indent=2)


def as_text(findings: Iterable[Finding]) -> Iterator[str]:
    """The findings for people: a paragraph as soon as there is one, and a summary."""
    topic, seen = "", []
    for _, alike in groupby(findings, _what_is_told_together):
        first = next(alike)
        checks = [first.check]
        if first.status is Status.SKIPPED:
            checks += [finding.check for finding in alike]
        heading = [] if _TOPIC_OF[first.check] == topic else [*([""] if topic else []), _TOPIC_OF[first.check]]
        topic = _TOPIC_OF[first.check]
        seen.append(first)
        yield "\n".join([*heading, *_paragraph(first, checks)])
    yield f"\n{_summary(seen)}"


def _what_is_told_together(finding: Finding) -> object:
    # What is not skipped is shown at once, and has to differ from the one before it.
    return (_TOPIC_OF[finding.check], finding.message) if finding.status is Status.SKIPPED else object()


def _paragraph(finding: Finding, checks: list[str]) -> list[str]:
    indent = " " * _MARGIN
    mark = f"  {finding.status.upper() if finding.status is Status.PROBLEM else finding.status}".ljust(_MARGIN)
    lines = _wrapped(f"{', '.join(checks)}: {finding.message}", mark, indent)
    return lines + (_wrapped(finding.advice, f"{indent}-> ", f"{indent}   ") if finding.advice else [])


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    # What a server sent may be in it, and could tell the terminal what to do.
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return textwrap.wrap(
        plain,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _summary(findings: list[Finding]) -> str:
    problems, warnings = (
        sum(finding.status is status for finding in findings) for status in (Status.PROBLEM, Status.WARNING)
    )
    counts = [
        f"{count} {word}{'s' * (count > 1)}" for count, word in ((problems, "problem"), (warnings, "warning")) if count
    ]
    return f"{' and '.join(counts)}." if counts else "Nothing is wrong."
