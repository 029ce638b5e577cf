"""The network between a host and AWS, with the faults that a test gives it."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum, auto
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from typing import Self
from urllib.parse import urlsplit


class Fault(Enum):
    SILENCE = auto()
    """The request arrives, and nothing comes back."""
    SILENCE_IN_BODY = auto()
    """The headers come and half of the body, then nothing."""
    RESET = auto()
    """The connection is reset when the request has arrived."""
    RESET_IN_BODY = auto()
    CUT_IN_HEADERS = auto()
    """The connection ends in the middle of the headers, as if that were all."""
    CUT_IN_BODY = auto()


class QuietServer(ThreadingHTTPServer):
    """A server on a free port of this machine, which says nothing of clients that have left or do not trust it.

    Attributes:
        url: Where it is.
    """

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def running(self) -> Iterator[Self]:
        with self:
            thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield self
            finally:
                self.shutdown()
                thread.join()

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet."""


class Network(QuietServer):
    """A proxy to `upstream`. With silence it holds each request until it is mended, and then lets it through.

    Attributes:
        held: Released for each request that silence swallows.
        requests: How many have arrived.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(_Handler)
        self.upstream = urlsplit(upstream).netloc
        self.held = threading.Semaphore(0)
        self.requests = 0
        self._faults: Iterator[Fault | None] = repeat(None)
        self._mended = threading.Event()

    def suffer(self, fault: Fault, *, times: int | None = None) -> None:
        """Treat every request so from now on, or so many of them."""
        self._mended.clear()
        self._faults = repeat(fault) if times is None else chain(repeat(fault, times), repeat(None))

    def mend(self) -> None:
        self._faults = repeat(None)
        self._mended.set()

    def next_fault(self) -> Fault | None:
        self.requests += 1
        return next(self._faults)

    def hold(self) -> None:
        self.held.release()
        self._mended.wait()


@contextmanager
def network(upstream: str) -> Iterator[Network]:
    with Network(upstream).running() as server:
        try:
            yield server
        finally:
            server.mend()


@contextmanager
def refusing() -> Iterator[str]:
    """An address that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def hanging_in_connect() -> Iterator[str]:
    """An address where no connection is ever made: the queue of its listener is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Network

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault = self.server.next_fault()
        if fault is Fault.RESET:
            self._reset()
            return
        if fault is Fault.SILENCE:
            self.server.hold()
        head, content = self._ask(body)
        match fault:
            case Fault.SILENCE_IN_BODY:
                self.wfile.write(head + content[: len(content) // 2])
                self.server.hold()
                self.wfile.write(content[len(content) // 2 :])
            case Fault.RESET_IN_BODY:
                self.wfile.write(head + content[: len(content) // 2])
                self._reset()
            case Fault.CUT_IN_HEADERS:
                self.wfile.write(head[: len(head) // 2])
                self.close_connection = True
            case Fault.CUT_IN_BODY:
                self.wfile.write(head + content[: len(content) // 2])
                self.close_connection = True
            case _:
                self.wfile.write(head + content)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _ask(self, body: bytes) -> tuple[bytes, bytes]:
        connection = HTTPConnection(self.server.upstream, timeout=60)
        try:
            connection.request("POST", self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        lines = [
            f"HTTP/1.1 {answer.status} {answer.reason}",
            *(f"{name}: {value}" for name, value in answer.getheaders()),
        ]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1"), content

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
