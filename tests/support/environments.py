"""Clean environments, made by uv, that the package is tested in: by `make package` and by `make pythons`."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRAS = "local,opentelemetry,redis"
TEST_TOOLS = ("--group", f"{ROOT}/pyproject.toml:test")
# What `make package` and `make pythons` leave out of the tests of the package itself, which are in tests/,
# tests/registration/ and tests/subscriptions/. `make test` runs them all.
NOT_CORE = {
    "test_against_the_local_marketplace.py": "reads what the oldest botocore does not know",
    "test_agreements.py": "reads what the oldest botocore does not know",
    "test_leaving.py": "counts what a crowd leaves in memory, which wants a machine for itself",
    "test_local_command.py": "starts processes in terminals, which takes a minute",
    "test_overload.py": "loads the machine",
    "test_pytest_plugin.py": "runs pytest in a dozen projects; installed.py sees that the plugin is found",
    "test_secrets.py": "looks for secrets in what we write, and not at what we depend on",
    "test_soak.py": "loads the machine",
}
# pip's name for where packages come from, and uv's, which does not read pip's configuration.
PIP_AND_UV = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE"}


class CommandError(Exception):
    """A command failed; its output."""


def core_tests(checkout: Path) -> list[Path]:
    """The files of the core tests in `checkout`."""
    folders = (checkout / "tests", checkout / "tests/registration", checkout / "tests/subscriptions")
    return sorted(path for folder in folders for path in folder.glob("test_*.py") if path.name not in NOT_CORE)


def environment(folder: Path, *requirements: str | Path, interpreter: str | Path = sys.executable) -> Path:
    """The Python of a new environment with `requirements`."""
    uv("venv", "--quiet", "--python", interpreter, folder)
    python = folder / "bin/python"
    uv("pip", "install", "--quiet", "--python", python, *requirements)
    return python


def pip_configuration() -> dict[str, str]:
    """Where pip finds packages on this machine, as variables for uv."""
    pairs = [line.partition("=") for line in run(sys.executable, "-m", "pip", "config", "list").splitlines()]
    configured = {name.rpartition(".")[2]: value.strip("'\"") for name, _, value in pairs}
    return {variable: configured[name] for name, variable in PIP_AND_UV.items() if name in configured}


def uv(*arguments: str | Path) -> str:
    return run(sys.executable, "-m", "uv", *arguments)


def run(*command: str | Path, cwd: Path | None = None, **environ: str) -> str:
    """What `command` printed.

    Raises:
        CommandError: Its exit code is not 0.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandError(f"{done.stdout}\nexit code {done.returncode}: {' '.join(map(str, command))}")
    return done.stdout.strip()


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
