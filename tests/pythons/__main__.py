"""The core tests on every Python that pyproject.toml names, and on uvloop: `make pythons`.

`python -m tests.pythons 3.14 uvloop` tests these only. Each Python gets a clean environment, with the newest versions
of what the tests need, and tests this checkout. A Python that cannot be found or downloaded is reported. In CI it makes
the run fail, as a failed test does.
"""

import argparse
import os
import re
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.environments import (
    EXTRAS,
    ROOT,
    TEST_TOOLS,
    CommandError,
    core_tests,
    environment,
    pip_configuration,
    run,
    say,
)

from .find import CACHE, MissingPythonError, find

# On the Python that runs this.
UVLOOP = "uvloop"
OPTIONS = ("-q", "-n", "2", "-p", "no:cacheprovider")


def main() -> int:
    named = [*classifiers(), UVLOOP]
    parser = argparse.ArgumentParser(prog="python -m tests.pythons", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(named)}; default: all")
    names = parser.parse_args().name or named
    if unknown := set(names) - set(named):
        parser.error(f"pyproject.toml does not name {', '.join(sorted(unknown))}, but {', '.join(named)}")

    began = time.monotonic()
    os.environ.update(pip_configuration() | os.environ)
    say(f"Testing on {', '.join(names)}, {os.cpu_count()} at a time; a run takes about a minute.")
    missing, failed = [], []
    with TemporaryDirectory(prefix="starlette-marketplace-") as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        # One after another, as two of them may be downloaded by one apt.
        jobs = {}
        for name in names:
            try:
                jobs[name] = pool.submit(tested, name, interpreter(name), Path(folder, name))
            except MissingPythonError as exc:
                say(f"{name}: not tested. {exc}")
                missing.append(name)
        for name, job in jobs.items():
            try:
                say(job.result())
            except CommandError as exc:
                say(f"{name}: failed\n{exc}")
                failed.append(name)
    say(f"{len(jobs) - len(failed)} of {len(names)} runs passed, {time.monotonic() - began:.0f} s")
    if failed:
        say(f"Failed: {', '.join(failed)}. Run one with: make pythons PYTHONS={failed[0]}")
    if missing:
        say(f"Not tested: {', '.join(missing)}. In CI this is a failure.")
    return 1 if failed or (missing and os.environ.get("CI")) else 0


def classifiers() -> list[str]:
    """The versions of Python that pyproject.toml says we test."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return re.findall(r"Python :: (3\.\d+)$", "\n".join(project["classifiers"]), re.MULTILINE)


def interpreter(name: str) -> Path:
    return Path(sys.executable) if name == UVLOOP else find(name)


def tested(name: str, python: Path, folder: Path) -> str:
    """How the core tests ended, on the interpreter `python`.

    Raises:
        CommandError: They failed, or what they need cannot be installed.
    """
    began = time.monotonic()
    on_uvloop = name == UVLOOP
    version = run(python, "-c", "import platform; print(platform.python_version())")
    # The tests start servers with uvicorn, which takes uvloop wherever it is installed.
    loop = [UVLOOP] if on_uvloop else []
    clean = environment(folder, "--editable", f"{ROOT}[{EXTRAS}]", *TEST_TOOLS, "fastapi", *loop, interpreter=python)
    plugin = ["-p", "tests.pythons.on_uvloop"] if on_uvloop else []
    ended = run(clean, "-m", "pytest", *OPTIONS, *plugin, *core_tests(ROOT), cwd=ROOT).splitlines()[-1]
    what = f"Python {version}{' of Debian' * python.is_relative_to(CACHE)}{' with uvloop' * on_uvloop}"
    return f"{what}: {ended}, {time.monotonic() - began:.0f} s with its installation"


if __name__ == "__main__":
    sys.exit(main())
