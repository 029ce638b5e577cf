"""A real browser."""

import json
import shutil
from collections.abc import Iterator, Sequence
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
def open_chromium(profile: Path, *, takes_cookies: bool = True, arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """Chromium with a profile in the folder `profile`, which is empty or not there yet.

    Playwright keeps an event loop in this thread for as long as it runs: tests with their own cannot run meanwhile.

    Args:
        takes_cookies: Whether it takes any; else it is that of a person who has forbidden them all.
        arguments: Of the command, after those that every Chromium gets here.
    """
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not on PATH: apt-get install chromium")
    # Debian's Chromium takes no cookie from a third party, whatever it says of SameSite. Many other browsers do, and in
    # one that does not the tests of hostile sites would pass with our cookies unguarded.
    preferences = {"cookie_controls_mode": 0, "default_content_setting_values": {"cookies": 1 if takes_cookies else 2}}
    (profile / "Default").mkdir(parents=True)
    (profile / "Default" / "Preferences").write_text(json.dumps({"profile": preferences}))
    expect.set_options(timeout=30_000)
    with (
        sync_playwright() as playwright,
        closing(
            playwright.chromium.launch_persistent_context(profile, executable_path=path, args=[*_ARGUMENTS, *arguments])
        ) as context,
    ):
        assert context.browser is not None
        yield context.browser
