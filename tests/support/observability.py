"""What the tests of docs/observability.md share: its tables, and an OpenTelemetry that is too old."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

PAGE = (Path(__file__).parents[2] / "docs/observability.md").read_text()


def rows(header: str) -> list[list[str]]:
    """The cells of the table below `header`."""
    lines = PAGE.partition(f"\n| {header} |\n")[2].partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def codes(cell: str) -> list[str]:
    """What a cell has between backticks."""
    return re.findall("`([^`]+)`", cell)


@contextmanager
def older_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The API as it was up to version 1.29, in which nobody can say what the buckets of a histogram are."""

    class Meter:
        def create_histogram(self, name: str, unit: str = "", description: str = "") -> None: ...

    api = ModuleType("opentelemetry.metrics")
    vars(api)["Meter"] = Meter
    with monkeypatch.context() as patch:
        patch.setattr("opentelemetry.metrics", api)
        patch.setitem(sys.modules, "opentelemetry.metrics", api)
        patch.delitem(sys.modules, "starlette_marketplace.otel", raising=False)
        yield


EVENTS = [
    (codes(message)[0], level, frozenset(codes(extra)))
    for message, level, extra, _, _ in rows("message | level | `extra` | what it means | what to do")
]
