"""Writing what was measured into docs/performance.md, with the machine that it was measured on."""

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.processes import ROOT

PAGE = ROOT / "docs" / "performance.md"
_BEGIN, _END = "<!-- measured -->\n", "<!-- end -->\n"


def write(rows: Iterable[tuple[str, str, str, bool]]) -> None:
    """Put the table of figures in the place of the one before."""
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(f"{before}{_BEGIN}{table(rows)}\n{machine()}\n{_END}{after}")


def table(rows: Iterable[tuple[str, str, str, bool]]) -> str:
    lines = ["| figure | measured | must be | reached |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {measured} | {limit} | {'yes' if reached else '**no**'} |"
        for name, measured, limit, reached in rows
    ]
    return "\n".join(lines) + "\n"


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
