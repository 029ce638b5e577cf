import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal, cast

import hypercorn.trio
import pytest
import trio
import trustme
import uvicorn
from hypercorn.config import Config as HypercornConfig
from hypercorn.typing import ASGIFramework
from starlette.types import ASGIApp


@contextmanager
def serve(
    app: ASGIApp,
    *,
    lifespan: Literal["auto", "on", "off"] = "auto",
    root_path: str = "",
    ssl_certfile: str | None = None,
) -> Iterator[str]:
    """Run an ASGI app by uvicorn in a thread, and yield its base URL, such as http://127.0.0.1:43567.

    An app whose lifespan fails to start raises RuntimeError here; with "auto" it may also not know lifespan at all.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        lifespan=lifespan,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        root_path=root_path,
        ssl_certfile=ssl_certfile,
    )
    server = _Server(config)
    base_url = f"http{'s' if ssl_certfile else ''}://127.0.0.1:{listener.getsockname()[1]}"
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


@contextmanager
def over_tls(app: ASGIApp, folder: Path) -> Iterator[str]:
    """Run an ASGI app by uvicorn with TLS, and yield its base URL; AWS_CA_BUNDLE trusts its certificate meanwhile."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority"))
    keys = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    with keys.tempfile(str(folder)) as file, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_CA_BUNDLE", str(folder / "authority"))
        with serve(app, lifespan="off", ssl_certfile=file) as url:
            yield url


@contextmanager
def serve_by_hypercorn(app: ASGIApp, *, root_path: str = "") -> Iterator[str]:
    """Run an ASGI app by hypercorn on trio in a thread, and yield its base URL.

    Whatever ends the server comes out of the with statement.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = HypercornConfig()
    config.bind = [f"fd://{listener.detach()}"]
    config.root_path = root_path
    config.graceful_timeout = 1
    config.errorlog = None
    settled = threading.Event()
    stop = trio.Event()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            # Starlette and hypercorn type one and the same protocol differently.
            framework = cast("ASGIFramework", app)
            await nursery.start(partial(hypercorn.trio.serve, framework, config, shutdown_trigger=stop.wait))
            tokens.append(trio.lowlevel.current_trio_token())
            settled.set()

    with ThreadPoolExecutor(max_workers=1) as thread:
        ended = thread.submit(trio.run, main)
        ended.add_done_callback(lambda _: settled.set())
        settled.wait()
        try:
            if tokens:
                yield base_url
        finally:
            for token in tokens:
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(stop.set)
            ended.result()
