"""A plugin of the core tests of `python -m tests.package`: they test the package that is installed."""

import logging
import sysconfig
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import botocore
import pytest
from packaging.version import Version

# botocore drops what it does not know of an answer; `Metadata.AgreementId` it knows since 1.43.111.
_AGREEMENTS_ARE_UNKNOWN = Version(botocore.__version__) < Version("1.43.111")
# Tests of what such a botocore cannot tell, by a part of their names.
_ABOUT_AGREEMENTS = ("test_a_botocore_that_knows_agreements_needs_no_warning", '"Metadata":"text"')


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.has_plugin("starlette_marketplace"):
        raise pytest.UsageError("pytest has not found our plugin by its entry point")
    if _AGREEMENTS_ARE_UNKNOWN:
        gone = [item for item in items if any(part in item.name for part in _ABOUT_AGREEMENTS)]
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture(autouse=True)
def without_the_warning_about_botocore(request: pytest.FixtureRequest) -> Iterator[None]:
    """Our warning that botocore is old would be one more line in each log that a test reads."""

    def is_another(record: logging.LogRecord) -> bool:
        return "does not know Metadata.AgreementId" not in record.getMessage()

    logger = logging.getLogger("starlette_marketplace")
    if "old_botocore" not in request.fixturenames and request.path.name != "test_log_events.py":
        logger.addFilter(is_another)
    yield
    logger.removeFilter(is_another)
