"""A plugin of the core tests that `python -m tests.pythons uvloop` runs: those on asyncio get the loop of uvloop."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_asyncio = [item.callspec.params for item in items if isinstance(item, pytest.Function) and _on_asyncio(item)]
    for parameters in on_asyncio:
        parameters["anyio_backend"] = ("asyncio", {"use_uvloop": True})
    if not on_asyncio:
        raise pytest.UsageError("no test has a parameter anyio_backend with the value asyncio")


def _on_asyncio(item: pytest.Function) -> bool:
    return hasattr(item, "callspec") and item.callspec.params.get("anyio_backend") == "asyncio"
