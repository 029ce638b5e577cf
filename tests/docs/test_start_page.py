"""The start page, followed word for word: its program, its command and its clicks."""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from starlette_marketplace.local import SCENARIOS
from tests.docs.programs import ROOT
from tests.example_app.steps import set_up_account
from tests.support.chromium import open_chromium

pytestmark = [pytest.mark.slow, pytest.mark.browser]

PAGE = (ROOT / "docs/start.md").read_text()
INSTALL, START = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@contextmanager
def shell(script: str, folder: Path, *, announces: str, listener: socket.socket) -> Iterator[str]:
    """Run `script` in bash, with no variables of ours, and yield the word after `announces` in what it says."""
    with subprocess.Popen(
        ["bash", "-euc", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=[listener.fileno()],
    ) as process:
        assert process.stdout
        try:
            line = next((line for line in process.stdout if announces in line), "")
            assert line, "it has said nothing of the kind"
            yield line.partition(announces)[2].split()[0]
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the page, with an environment of its own that has what the page installs and no more."""
    assert INSTALL.startswith("mkdir acme && cd acme\n")
    assert INSTALL.count('"$HOME/starlette-marketplace[local]"') == 1
    folder = tmp_path_factory.mktemp("home")
    installed = subprocess.run(
        ["bash", "-euc", INSTALL.replace("$HOME/starlette-marketplace", str(ROOT))],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stdout
    (folder / "acme/start.py").write_text((ROOT / "docs/src/start.py").read_text())
    return folder / "acme"


def test_who_follows_the_page_signs_up_once_and_sees_what_becomes_of_an_expired_link(
    acme: Path, tmp_path: Path
) -> None:
    activate = ". .venv/bin/activate\n"
    assert activate in INSTALL.replace(" && ", "\n")
    assert START == "starlette-marketplace local -- uvicorn start:app\n"
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        app_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        start = START.replace(
            "starlette-marketplace local", f"exec starlette-marketplace local --port 0 --app {app_url}"
        )
        start = start.replace("start:app", f"start:app --fd {listener.fileno()}")
        marketplace = stack.enter_context(shell(activate + start, acme, announces="is open: ", listener=listener))
        page = stack.enter_context(open_chromium(tmp_path / "profile")).new_page()

        for answer in ("Welcome, ada@buyer.example!", "This AWS Marketplace subscription has an account already"):
            set_up_account(page, marketplace, "new-product")
            expect(page).to_have_url(f"{app_url}/signup")
            expect(page.locator("p")).to_have_text(re.compile("AWS account ending in [0-9]{4}"))
            page.locator("[name=email]").fill("ada@buyer.example")
            page.get_by_role("button", name="Sign up").click()
            expect(page.locator("body")).to_contain_text(answer)
        set_up_account(page, marketplace, "expired")
        expect(page.get_by_role("heading", level=1)).to_have_text("This link has expired")
        expect(page.get_by_role("heading", level=2)).to_have_text("How to get a fresh link")


def test_the_page_names_the_scenarios_and_the_addresses_as_they_are() -> None:
    for scenario in ("new-product", "expired"):
        assert f"*{SCENARIOS[scenario].title}*" in PAGE
    assert "<http://127.0.0.1:8000/signup>" in PAGE
    assert "Open <http://localhost:8001>." in PAGE
