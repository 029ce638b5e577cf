"""A real browser."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def open_chromium(profile: Path) -> Iterator[Browser]:
    """Chromium with a profile in the empty folder `profile`.

    Playwright keeps an event loop in this thread for as long as it runs: tests with their own cannot run meanwhile.
    """
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not on PATH: apt-get install chromium")
    # Debian's Chromium takes no cookie from a third party, whatever it says of SameSite. Many other browsers do, and in
    # one that does not the tests of hostile sites would pass with our cookies unguarded.
    (profile / "Default").mkdir()
    (profile / "Default" / "Preferences").write_text('{"profile": {"cookie_controls_mode": 0}}')
    expect.set_options(timeout=30_000)
    with (
        sync_playwright() as playwright,
        closing(
            playwright.chromium.launch_persistent_context(profile, executable_path=path, args=_ARGUMENTS)
        ) as context,
    ):
        assert context.browser is not None
        yield context.browser
