"""The seller's app, started by the local marketplace."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import ssl
import subprocess
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .terminal import lend_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_INTERVAL = 0.1  # seconds
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has no SIGKILL.


class AppCommand:
    """The command that starts the seller's app, with every process that it starts in turn.

    Args:
        command: The program and its arguments. It has the input and the output of this process.
        environ: Its environment.
        app_url: An http or https URL of the app.
        on_answer: Called once: with True when the app answers at the path `/` of that address, whatever the status;
            with False when it has not answered after `patience` seconds.
        patience: Seconds to wait for the app's first answer.
        grace: Seconds that the processes have to end after the first signal. Then they are killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        app_url: str,
        on_answer: Callable[[bool], None],
        patience: float = 30,
        grace: float = 10,
    ) -> None:
        self._command = command
        self._environ = environ
        self._app_url = app_url
        self._on_answer = on_answer
        self._patience = patience
        self._grace = grace
        self._process: subprocess.Popen[bytes] | None = None
        self._deadline = math.inf
        self._last_signal: int | None = None

    def stop(self, number: int, _frame: object = None) -> None:
        """End all processes; this is a handler for `signal.signal`.

        Args:
            number: SIGINT is passed on as it is, so that a second one hurries, and any other signal as SIGTERM.
        """
        self._deadline = min(self._deadline, time.monotonic() + self._grace)
        self._last_signal = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
        self._send(self._last_signal)

    async def run(self) -> int:
        """Run the command until all processes have ended. Call it in the main thread.

        Returns:
            The exit code as a shell has it: 128 + n if signal n has ended the command.

        Raises:
            OSError: The command cannot be started.
        """
        # As under a shell, sockets that somebody hands down reach the app. This process's own are not inheritable.
        self._process = subprocess.Popen(  # noqa: ASYNC220, S603 (it is the user's own command, and starts at once)
            self._command, env=dict(self._environ), close_fds=False, process_group=0
        )
        if self._last_signal is not None:  # It has come before there was anybody to pass it on to.
            self._send(self._last_signal)
        waiting = asyncio.create_task(self._wait_for_answer())
        with lend_terminal(self._process.pid) as stop_with_it:
            while (code := _poll(self._process, on_stop=stop_with_it)) is None:
                if self._is_late():
                    self._send(_KILL)
                await asyncio.sleep(_INTERVAL)
        waiting.cancel()
        # What the command has left behind. A second SIGTERM could disturb what is about to end.
        if self._last_signal != signal.SIGTERM:
            self.stop(signal.SIGTERM)
        while self._send(0) and not self._is_late():  # noqa: ASYNC110 (processes that are not ours give no event)
            await asyncio.sleep(_INTERVAL)
        self._send(_KILL)
        return code if code >= 0 else 128 - code

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _send(self, number: int) -> bool:
        """Send a signal to all processes, and say whether there are any."""
        if self._process is None:
            return False
        if not hasattr(os, "killpg"):  # pragma: no cover (Windows, where Ctrl-C reaches the app without our help)
            if number == signal.SIGTERM:
                self._process.terminate()
            return False
        try:
            os.killpg(self._process.pid, number)
            os.killpg(self._process.pid, signal.SIGCONT)  # What has stopped ends only when it goes on.
        except (ProcessLookupError, PermissionError):  # macOS has the second for processes that have just ended.
            return False
        return True

    async def _wait_for_answer(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                while not await _answers(self._app_url):  # noqa: ASYNC110 (neither does a port)
                    await asyncio.sleep(_INTERVAL)
        except TimeoutError:
            self._on_answer(False)
        else:
            self._on_answer(True)


def _poll(process: subprocess.Popen[bytes], *, on_stop: Callable[[], None]) -> int | None:
    if not hasattr(os, "WUNTRACED"):  # pragma: no cover (Windows, where no process stops)
        return process.poll()
    try:
        pid, status = os.waitpid(process.pid, os.WNOHANG | os.WUNTRACED)
    except ChildProcessError:  # Somebody who ignores SIGCHLD has started us, and the exit code is lost.
        return process.poll()
    if pid and os.WIFSTOPPED(status):
        on_stop()
    elif pid:
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode


async def _answers(url: str) -> bool:
    parts = urlsplit(url)
    is_https = parts.scheme == "https"
    # Not the fulfillment URL: a visit there runs the seller's hook.
    lines = ["HEAD / HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}", "Connection: close", "", ""]
    try:
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port or (443 if is_https else 80), ssl=is_https or None
        )
        try:
            writer.write("\r\n".join(lines).encode())
            return await reader.readexactly(5) == b"HTTP/"
        finally:
            writer.close()
    except ssl.SSLCertVerificationError:  # The browser's affair: somebody is there.
        return True
    except (OSError, EOFError, UnicodeError):  # The last one is for a host name that cannot be.
        return False
