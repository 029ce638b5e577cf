"""Job control, for a child that is to have the terminal for itself."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STDIN = 0


@contextmanager
def lend_terminal(process_group: int) -> Iterator[Callable[[], None]]:
    """Let a process group have the terminal, as a shell does for a job. Call it in the main thread.

    Ctrl-C and what is typed reach that group alone, so that a debugger works in it. If this process is not in the
    foreground of a terminal, nothing happens.

    Args:
        process_group: A group whose leader is a child of this process.

    Yields:
        What to call when the leader has stopped, as by Ctrl-Z: it stops this process, too, until the shell continues
        both.
    """
    if not _has_terminal():
        yield lambda: None
        return

    def stop_with_it() -> None:
        _stop()
        if _has_terminal():
            os.tcsetpgrp(_STDIN, process_group)
        os.killpg(process_group, signal.SIGCONT)

    # A process in the background that changes the terminal is stopped, unless it ignores this signal.
    handler = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(_STDIN, process_group)
    os.killpg(process_group, signal.SIGCONT)  # It may have asked for the terminal too early.
    try:
        yield stop_with_it
    finally:
        with suppress(OSError):  # The terminal may be closed.
            if os.tcgetpgrp(_STDIN) == process_group:
                os.tcsetpgrp(_STDIN, os.getpgrp())
        signal.signal(signal.SIGTTOU, handler)


def _has_terminal() -> bool:
    # Windows has no tcgetpgrp.
    return os.isatty(_STDIN) and hasattr(os, "tcgetpgrp") and os.tcgetpgrp(_STDIN) == os.getpgrp()


def _stop() -> None:
    """Stop as by Ctrl-Z, and come back when the shell continues this process; without a shell, come back at once."""
    # The others of our job first, such as the other end of a pipe: else the shell would wait for them.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    os.killpg(0, signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTSTP)
