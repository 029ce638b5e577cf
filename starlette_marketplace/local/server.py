from __future__ import annotations

import asyncio
import errno
import signal
import socket
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from starlette.types import ASGIApp

    from .command import AppCommand


def bind_loopback(port: int, *, host: str = "localhost") -> list[socket.socket]:
    """Listen on this machine only.

    Args:
        port: The port; 0 takes a free one.
        host: `127.0.0.1` or `::1`; or `localhost`, which is the first and, when the machine has it, the second, so
            that the name works however it is resolved.

    Raises:
        ValueError: The host is not loopback.
        OSError: The port is in use, or may not be used.
    """
    if host not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError(
            f"{host!r} is refused: the local marketplace has no login and gives whoever reaches it the identity of any "
            "buyer, so it listens on 127.0.0.1, ::1 or localhost only. From another machine, reach it through a tunnel "
            "(ssh -L 8001:localhost:8001); from a container, by the network of this machine (--network host)."
        )
    if host == "::1":
        return [socket.create_server((host, port), family=socket.AF_INET6)]
    listener = socket.create_server(("127.0.0.1", port))
    if host == "127.0.0.1":
        return [listener]
    try:
        return [listener, socket.create_server(("::1", listener.getsockname()[1]), family=socket.AF_INET6)]
    except OSError as exc:
        if exc.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return [listener]
        listener.close()
        raise


def run(app: ASGIApp, listeners: list[socket.socket], *, on_ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM. Call it in the main thread.

    Args:
        app: The ASGI app.
        listeners: What `bind_loopback` gave.
        on_ready: Called once the server answers.
    """
    _Server(app, on_ready).run(sockets=listeners)


def run_beside(app: ASGIApp, listeners: list[socket.socket], command: AppCommand) -> int:
    """Serve for as long as a command runs. Call it in the main thread.

    Ctrl-C, SIGTERM and a hangup end the command, and by that the server.

    Args:
        app: The ASGI app.
        listeners: What `bind_loopback` gave.
        command: The command, which is started once the server answers.

    Returns:
        The exit code of the command.

    Raises:
        OSError: The command cannot be started.
    """
    server = _ServerBesideCommand(app, command)
    server.run(sockets=listeners)
    return server.ended.result()


class _Server(uvicorn.Server):
    def __init__(self, app: ASGIApp, on_ready: Callable[[], None]) -> None:
        super().__init__(uvicorn.Config(app, ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=1))
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    # uvicorn's own raises the signal again after the shutdown, and the process would end by it instead of with code 0.
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with _handled(self.handle_exit, signal.SIGINT, signal.SIGTERM):
            yield


class _ServerBesideCommand(_Server):
    def __init__(self, app: ASGIApp, command: AppCommand) -> None:
        super().__init__(app, on_ready=lambda: None)
        self._command = command
        self.ended: Future[int] = Future()

    async def main_loop(self) -> None:
        serving = asyncio.create_task(super().main_loop())
        try:
            self.ended.set_result(await self._command.run())
        except OSError as exc:
            self.ended.set_exception(exc)
        self.should_exit = True
        await serving

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        numbers = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}  # Windows has no SIGHUP.
        # nohup ignores hangups for the whole command.
        with _handled(self._command.stop, *(n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN)):
            yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)
