"""The pytest plugin: AWS Marketplace for tests, as fixtures. pytest finds it by itself.

It stands outside of the package, as pytest imports it in every run, also of tests that have nothing to do with us:
inside, Starlette and the package would come along each time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette_marketplace.testing import RunningMarketplace


@pytest.fixture(scope="session")
def local_marketplace_server() -> Iterator[RunningMarketplace]:
    """The local marketplace on a real socket: one for the test run, started at first use.

    Tests take `local_marketplace`. This one is for fixtures that live longer than a test; it sets no environment.
    """
    from starlette_marketplace.testing import run_local_marketplace

    with run_local_marketplace() as running:
        yield running


@pytest.fixture
def local_marketplace(
    local_marketplace_server: RunningMarketplace, monkeypatch: pytest.MonkeyPatch
) -> RunningMarketplace:
    """The local marketplace, clean, and in the place of AWS: the environment of the test leads to it."""
    local_marketplace_server.reset()
    environment = local_marketplace_server.environment()
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    for name, value in environment.items() - os.environ.items():
        monkeypatch.setenv(name, value)
    return local_marketplace_server
