"""How findings are shown, to machines and to people."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import groupby

from .checks import CHECKS
from .findings import Finding, Status, is_fine

_TOPIC_OF = {check.name: check.topic for check in CHECKS}
_WIDTH = 100
_MARGIN = 11


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
    wrapper = textwrap.TextWrapper(
        _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return wrapper.wrap(plain)


def _summary(findings: list[Finding]) -> str:
    counts = {"problem": Status.PROBLEM, "warning": Status.WARNING}
    found = {word: sum(finding.status is status for finding in findings) for word, status in counts.items()}
    words = [f"{count} {word}{'s' * (count > 1)}" for word, count in found.items() if count]
    return f"{' and '.join(words)}." if words else "Nothing is wrong."
