from __future__ import annotations

import errno
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp


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
    config = uvicorn.Config(app, ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=1)
    _Server(config, on_ready).run(sockets=listeners)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    # uvicorn's own raises the signal again after the shutdown, and the process would end by it instead of with code 0.
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        handlers = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
