"""A real Redis, on a free port of this machine."""

import shutil
import signal
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest
import redis


class RedisServer:
    """A redis-server that a test can kill, stop in its tracks, and start again at the same address."""

    def __init__(self, executable: str, folder: Path) -> None:
        self._executable = executable
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.address = ("127.0.0.1", self._port)
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {"port": self._port, "bind": "127.0.0.1", "save": "", "dir": self._folder}
        # A replica is not made to wait for others that might come.
        options["repl-diskless-sync-delay"] = 0
        command = [self._executable, *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"Ready to accept connections" in line:
                return
        raise RuntimeError("redis-server did not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """It takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        with redis.Redis.from_url(self.url, decode_responses=True) as client:
            yield client


class _Pump(socketserver.BaseRequestHandler):
    """A connection through the switch, to the server that it led to when the connection was made."""

    server: "Switch"

    def handle(self) -> None:
        with socket.create_connection(self.server.target) as there:
            back = threading.Thread(target=_copy, args=(there, self.request))
            back.start()
            _copy(self.request, there)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Switch(socketserver.ThreadingTCPServer):
    """An address that leads new connections to another server than old ones, as a name does after a failover.

    Attributes:
        target: Host and port of the server that new connections are led to.
        url: The address.
    """

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, first: "RedisServer | AnsweringServer") -> None:
        super().__init__(("127.0.0.1", 0), _Pump)
        self.target = first.address
        self.url = f"redis://127.0.0.1:{self.server_address[1]}/0"

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

    def fail_over(self, old: RedisServer, new: RedisServer) -> None:
        """Lead to `new`, and make `old` its replica, which keeps its connections and refuses to write."""
        self.target = new.address
        with old.client() as client:
            client.replicaof(*new.address)
            while client.info("replication")["master_link_status"] != "up":
                pass


class AnsweringServer(socketserver.ThreadingTCPServer):
    """A server that gives one answer to each SET, and OK to all else.

    Attributes:
        address: Host and port.
        asked: How many SETs have come.
    """

    daemon_threads = True

    def __init__(self, answer: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.address = ("127.0.0.1", self.socket.getsockname()[1])
        self.answer = answer
        self.asked = 0

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


class _Answering(socketserver.StreamRequestHandler):
    server: AnsweringServer

    def handle(self) -> None:
        while head := self.rfile.readline():
            parts = [self._read_part() for _ in range(int(head[1:]))]
            is_set = parts[0] == b"SET"
            self.server.asked += is_set
            self.wfile.write(f"{self.server.answer if is_set else '+OK'}\r\n".encode())

    def _read_part(self) -> bytes:
        return self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2]


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    executable = shutil.which("redis-server") or shutil.which("valkey-server")
    if executable is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    server = RedisServer(executable, folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
