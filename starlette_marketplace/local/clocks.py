"""The two clocks, looked up when they are asked, so that tests which freeze or move time reach them."""

from __future__ import annotations

import time


def wall_clock() -> float:
    """Seconds since the epoch."""
    return time.time()


def monotonic() -> float:
    """Seconds from any beginning, never running backwards."""
    return time.monotonic()
