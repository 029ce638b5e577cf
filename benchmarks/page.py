"""Writing what was measured into docs/performance.md, with the machine that it was measured on."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.processes import ROOT

PAGE = ROOT / "docs" / "performance.md"
_BEGIN, _END = "<!-- measured -->\n", "<!-- end -->\n"


def write(load: Sequence[tuple[str, ...]], figures: Sequence[tuple[str, ...]], shared: str) -> None:
    """Put what was measured in the place of what was measured before."""
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    tables = [
        table(("", "registrations a second", "p99 of another route", "CPU of your app for each"), load),
        table(("figure", "measured", "must be", "reached"), figures),
        f"CPU of a registration with Redis: {shared}.\n",
    ]
    PAGE.write_text("\n".join([f"{before}{_BEGIN}", *tables, machine(), f"{_END}{after}"]))


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """The rows as Markdown."""
    return "".join(f"| {' | '.join(row)} |\n" for row in (heads, ("---",) * len(heads), *rows))


def machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("starlette", "uvicorn", "boto3", "anyio"))
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {_processor()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, {packages}.\n"
    )


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
