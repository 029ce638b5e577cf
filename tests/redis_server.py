"""A real Redis, on a free port of this machine."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis


class RedisServer:
    """A redis-server that a test can kill, stop in its tracks, and start again at the same address."""

    def __init__(self, executable: str, folder: Path) -> None:
        self._executable = executable
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {"port": self._port, "bind": "127.0.0.1", "save": "", "dir": self._folder}
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
