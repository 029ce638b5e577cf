"""The host and the stand-in for AWS, each a process of its own."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent


@contextmanager
def serving(module: str, *arguments: str, environ: dict[str, str] | None = None) -> Iterator[str]:
    """The URL of `python -m module`, which serves on a socket that takes connections at once."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        descriptor = str(listener.fileno())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments, descriptor], cwd=ROOT, env=environ, pass_fds=[listener.fileno()]
        )
    try:
        yield url
    finally:
        process.terminate()
        process.wait()


@contextmanager
def aws(delay: float) -> Iterator[str]:
    """The URL of a stand-in for AWS that answers after so many seconds."""
    with serving("benchmarks.aws", str(delay)) as url:
        yield url


@contextmanager
def redis() -> Iterator[str | None]:
    """The URL of a Redis that keeps nothing on disk; None where there is no redis-server."""
    executable = shutil.which("redis-server") or shutil.which("valkey-server")
    if executable is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [executable, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tempfile.gettempdir())
    try:
        for line in process.stdout or ():
            if b"Ready to accept connections" in line:
                break
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def host(name: str, aws_url: str, **variables: str) -> Iterator[str]:
    """The URL of a host whose AWS is at `aws_url`."""
    with serving("benchmarks.hosts", name, environ=environment(aws_url) | variables) as url:
        yield url


def environment(aws_url: str) -> dict[str, str]:
    """The environment of a host, with nothing of the user's own AWS account and no proxy in it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "MARKETPLACE_")) and not name.lower().endswith("_proxy")
    }
    return kept | {
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_MARKETPLACE_METERING": aws_url,
        "MARKETPLACE_SECRET_KEY": "benchmarks sign with it, nobody else",
        "MARKETPLACE_PRODUCT_CODES": "acmeanalytics",
    }
