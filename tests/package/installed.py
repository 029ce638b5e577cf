"""A plugin of the core tests of `python -m tests.package`: they test the package that is installed."""

import sysconfig
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version


def pytest_configure(config: pytest.Config) -> None:
    for name in ("starlette_marketplace", "pytest_starlette_marketplace"):
        file = Path(str(import_module(name).__file__))
        if not file.is_relative_to(sysconfig.get_path("purelib")):
            raise pytest.UsageError(f"{name} is {file}, and not the one that was installed from the wheel")
    if Version(version("starlette")) < Version("1.8"):
        # It leaves the body's generator to the garbage collector when a multipart body is malformed, and trio says so.
        left = "Exception ignored in: <async_generator object Request.stream"
        config.addinivalue_line(
            "filterwarnings", f"ignore:{left.replace(':', '.')}:pytest.PytestUnraisableExceptionWarning"
        )


def pytest_collection_modifyitems(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin("starlette_marketplace"):
        raise pytest.UsageError("pytest has not found our plugin by its entry point")
