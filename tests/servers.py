import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import uvicorn
from starlette.types import ASGIApp


@contextmanager
def serve(app: ASGIApp, *, lifespan: Literal["auto", "on", "off"] = "auto") -> Iterator[str]:
    """Run an ASGI app by uvicorn in a thread, and yield its base URL, such as http://127.0.0.1:43567.

    An app whose lifespan fails to start raises RuntimeError here; with "auto" it may also not know lifespan at all.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, lifespan=lifespan, ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = _Server(config)
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread = threading.Thread(target=server.run_in_thread, args=(listener,))
    thread.start()
    try:
        server.settled.wait()
        if not server.started:
            raise RuntimeError("the app did not start; the log says why")
        yield base_url
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    def run_in_thread(self, listener: socket.socket) -> None:
        try:
            with suppress(SystemExit):  # How uvicorn says that the lifespan failed.
                self.run(sockets=[listener])
        finally:
            self.settled.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.settled.set()
