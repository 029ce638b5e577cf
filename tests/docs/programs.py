"""Running the programs of the documentation."""

import importlib.util
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]


def program(name: str) -> ModuleType:
    """The module docs/src/<name>.py, run anew."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/src/{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def running(name: str, folder: Path) -> Iterator[str]:
    """Run docs/src/<name>.py in `folder` as its page says, its output in a file `stdout`, and yield its base URL."""
    file = ROOT / f"docs/src/{name}.py"
    with socket.create_server(("127.0.0.1", 0)) as listener, (folder / "stdout").open("wb") as stdout:
        command = [sys.executable, "-W", "error", "-m", "uvicorn", "--fd", str(listener.fileno())]
        process = subprocess.Popen(
            [*command, "--app-dir", str(file.parent), f"{file.stem}:app"],
            cwd=folder,
            pass_fds=[listener.fileno()],
            stdout=stdout,
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield url
    finally:
        process.terminate()
        process.wait()


def stored(
    database: str | Path, columns: str = "email, customer_key", *, table: str = "account"
) -> list[tuple[Any, ...]]:
    """What a program has written into a table, in the order in which it did."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY rowid").fetchall()
