"""A Python of a given version: one that this machine has, or else Debian's, from its testing suite.

Debian's is unpacked into ~/.cache/starlette-marketplace/ with every library that it needs, down to the C library, and
stays there for the next run; delete the folder to get a newer one. It takes apt, in any version of Debian, and no root.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.environments import CommandError, run

SUITE = "testing"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "starlette-marketplace")
# `--argv0` lets Python find its environment, as if the loader were not there.
START = """#!/bin/sh
exec {loader} --library-path {libraries} --argv0 "$0" {python} "$@"
"""
CHECK = "import ssl, sqlite3, sys; print(sys.version_info[:2] == ({}), sys.implementation.name)"


class MissingPythonError(Exception):
    """There is no Python of this version here; why."""


def find(version: str) -> Path:
    """The interpreter of `version`, such as `3.14`.

    Raises:
        MissingPythonError: This machine has none, and none can be downloaded.
    """
    for python in _installed(version):
        if _works(python, version):
            return python
    return _debian(version)


def _installed(version: str) -> Iterator[Path]:
    """What may be an interpreter of `version` on this machine."""
    yield Path(sys.executable)
    for folder in os.get_exec_path():
        yield Path(folder, f"python{version}")
    # What pyenv has in PATH starts the version that is switched on, and fails for the others.
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = pyenv.glob(f"versions/{version}.*/bin/python{version}")
    yield from sorted(found, key=lambda path: [int(part) for part in path.parts[-3].split(".") if part.isdigit()])[::-1]


def _works(python: Path, version: str) -> bool:
    try:
        return run(python, "-c", CHECK.format(version.replace(".", ", "))) == "True cpython"
    except (CommandError, OSError):
        return False


def _debian(version: str) -> Path:
    folder = CACHE / f"python{version}"
    python = folder / f"usr/bin/python{version}"
    if not folder.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise MissingPythonError("This machine has none, and only Debian's can be downloaded, by apt.")
        CACHE.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=CACHE) as unfinished:
            _download(version, Path(unfinished))
            root = Path(unfinished, "root")
            _make_startable(root, python.relative_to(folder), folder)
            root.rename(folder)
    if not _works(python, version):
        raise MissingPythonError(f"The one in {folder} does not start. Delete the folder, and try again.")
    return python


def _download(version: str, folder: Path) -> None:
    """Unpack Debian's package of `version`, and all that it depends on, into `root` in `folder`."""
    for part in ("lists/partial", "cache/archives/partial", "root"):
        folder.joinpath(part).mkdir(parents=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb {_mirror()} {SUITE} main\n")
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Dir::State::Status": "/dev/null",  # Nothing counts as installed.
        "APT::Sandbox::User": "root",  # The folder is not open to apt's own user.
    }
    apt = ("apt-get", "-q", "-y", *(f"-o{name}={value}" for name, value in settings.items()))
    try:
        run(*apt, "update")
        run(*apt, "--download-only", "--no-install-recommends", "install", f"python{version}")
        for package in folder.glob("cache/archives/*.deb"):
            run("dpkg-deb", "--extract", package, folder / "root")
    except CommandError as exc:
        said = [line for line in str(exc).splitlines() if line.startswith(("E:", "W:"))] or [str(exc)]
        raise MissingPythonError(f"This machine has none, and Debian's {SUITE} suite gave none. {said[-1]}") from exc


def _mirror() -> str:
    """The mirror of Debian that apt is configured with."""
    mirrors = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").splitlines()
    for mirror in mirrors:
        if mirror.rstrip("/").endswith("/debian"):
            return mirror
    raise MissingPythonError("This machine has none, and its apt is configured with no mirror of Debian.")


def _make_startable(root: Path, python: Path, place: Path) -> None:
    """Put a script in the place of `python` in `root`, which is to be `place`: its libraries are not the machine's."""
    real = Path("usr/libexec", python.name)
    root.joinpath(real).parent.mkdir(exist_ok=True)
    root.joinpath(python).rename(root / real)
    [loader] = root.glob("usr/lib/*/ld-linux*.so.*")
    loader = place / loader.relative_to(root)
    root.joinpath(python).write_text(START.format(loader=loader, libraries=loader.parent, python=place / real))
    root.joinpath(python).chmod(0o755)
