"""What has to be in the wheel and the sdist, and what must not."""

import re
import tarfile
import zipfile
from pathlib import Path

# What the core tests read, and what building and contributing take.
IN_SDIST = {
    "LICENSE",
    "Makefile",
    "PKG-INFO",
    "README.md",
    "SECURITY.md",
    "docs/index.md",
    "docs/src/start.py",
    "example_app/app.py",
    "pyproject.toml",
    "pytest_starlette_marketplace.py",
    "starlette_marketplace/py.typed",
    "tests/conftest.py",
    "zensical.toml",
}
# A link or picture of Markdown or HTML that is not a whole address.
_RELATIVE_LINK = re.compile(r"""(?:\]\(\s*|\b(?:href|src)=["'])(?!https?:|mailto:)[^)"'\s]*""")


def check_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        description = archive.read(metadata).decode().partition("\n\n")[2]
    folder = metadata.partition("/")[0]
    foreign = {
        name
        for name in names
        if not name.startswith(("starlette_marketplace/", f"{folder}/")) and name != "pytest_starlette_marketplace.py"
    }
    assert not foreign, f"the wheel holds more than the package: {sorted(foreign)}"
    missing = {
        "starlette_marketplace/py.typed",
        "pytest_starlette_marketplace.py",
        f"{folder}/licenses/LICENSE",
    } - names
    assert not missing, f"the wheel lacks {sorted(missing)}"
    assert description.strip(), "the long description is empty"
    relative = _RELATIVE_LINK.findall(description)
    assert not relative, f"links of the long description lead nowhere on PyPI: {relative}"


def check_sdist(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = IN_SDIST - names
    assert not missing, f"the sdist lacks {sorted(missing)}"
    junk = sorted(name for name in names if re.search(r"__pycache__|\.pyc$|\.db$|(^|/)\.(venv|demo|cache)", name))
    assert not junk, f"the sdist holds what was left over: {junk}"
