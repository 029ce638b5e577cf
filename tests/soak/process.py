"""The host as a process: started, measured, ended."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Figures:
    """What the host takes of the machine, of which Linux tells, and the objects in it, of which it tells itself."""

    memory: int  # KiB
    peak: int  # KiB
    threads: int
    files: int
    objects: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    url: str
    child: subprocess.Popen[bytes]
    _log: IO[bytes]

    @property
    def is_running(self) -> bool:
        return self.child.poll() is None

    def figures(self) -> Figures | None:
        """None where the system does not tell."""
        proc = Path(f"/proc/{self.child.pid}")
        if not (proc / "status").is_file():
            return None
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        memory, peak, threads = (int(status[name].split()[0]) for name in ("VmRSS", "VmHWM", "Threads"))
        return Figures(memory, peak, threads, len(os.listdir(proc / "fd")))

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def end(self) -> bool:
        """Whether it ended by the signal that asks for it."""
        self.child.terminate()
        try:
            return self.child.wait(timeout=30) == -signal.SIGTERM
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            return False


@contextmanager
def host(settings: Mapping[str, str], *options: str) -> Iterator[Process]:
    """Start the host. Its port takes connections at once, and they are answered once it is up."""
    # Nothing of the user's own AWS account and no proxy may come near it.
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "MARKETPLACE_")) and not name.lower().endswith("_proxy")
    }
    environ |= {
        "AWS_ACCESS_KEY_ID": "soak",
        "AWS_SECRET_ACCESS_KEY": "soak",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    environ |= {f"MARKETPLACE_{name.upper()}": value for name, value in settings.items()}
    with tempfile.TemporaryFile() as log:
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            fd = listener.fileno()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            command = [sys.executable, "-m", "tests.soak.host", str(fd), *options]
            # In a session of its own, so that Ctrl-C reaches only us, and we end it.
            child = subprocess.Popen(
                command, cwd=ROOT, env=environ, stdout=log, stderr=log, pass_fds=[fd], start_new_session=True
            )
        process = Process(url, child, log)
        try:
            yield process
        finally:
            process.end()
