import logging
import os
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.responses import (
    RedirectResponse,
)

from starlette_marketplace.cli import main
from tests.doctor import test_calls, test_client, test_credentials, test_keys
from tests.doctor.world import (
    HOST,
    OTHER,
    SELLER,
    SESSION_TOKEN,
    Plant,
    Run,
    World,
    module_of,
    plant,
    secrets_of,
)
from tests.support.hosts import LANDING
from tests.support.servers import serve


def test_a_right_configuration_is_silent(doctor: Callable[..., Run], world: World) -> None:
    run = doctor("--url", HOST + LANDING)

    assert run.code == 0
    assert run.statuses("warning") == run.statuses("problem") == []
    assert run.statuses("skipped") == ["role"]
    assert [call.scenario for call in world.marketplace.resolve_calls] == [None, None]


def test_a_right_configuration_with_a_role_is_silent(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("MARKETPLACE_ROLE_ARN", f"arn:aws:iam::{SELLER}:role/guarded")
    environment.setenv("MARKETPLACE_ROLE_EXTERNAL_ID", "shared")
    environment.setenv("AWS_ACCESS_KEY_ID", f"AKIALOCAL{OTHER}")
    run = doctor("--url", HOST)

    assert run.code == 0
    assert run.statuses("warning") == run.statuses("problem") == run.statuses("skipped") == []
    assert run.one("role", "ok")["message"] == f"The role guarded of account ********{SELLER[-4:]} can be assumed."
    assert "by assumed-role/guarded/starlette-marketplace." in run.one("account", "ok")["message"]


def test_all_mistakes_in_the_settings_are_found_at_once(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch
) -> None:
    environment.delenv("MARKETPLACE_SECRET_KEY")
    environment.setenv("MARKETPLACE_MAX_ATTEMPTS", "three")
    environment.setenv("MARKETPLACE_ROLE_ARN", "resolver")
    environment.setenv("MARKETPLACE_ROLE_EXTERNAL_ID", "shared")
    run = doctor()

    assert [finding["message"] for finding in run.findings["settings"]] == [
        "MARKETPLACE_SECRET_KEY is not set.",
        "role_arn must look like arn:aws:iam::123456789012:role/name.",
        "MARKETPLACE_MAX_ATTEMPTS must be a number.",
    ]
    assert run.statuses("ok") == ["variables"]
    assert run.one("account", "skipped")["message"] == "The settings have to be valid first."


def test_ctrl_c_ends_it_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = module_of(tmp_path, "raise KeyboardInterrupt")

    assert main(["doctor", "--settings", f"{module}:settings"]) == 130
    assert capsys.readouterr() == ("", "")


def test_the_installed_command_runs_with_nothing_set(tmp_path: Path) -> None:
    command = Path(sysconfig.get_path("scripts"), "starlette-marketplace")
    run = subprocess.run([str(command), "doctor"], env={}, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run.returncode == 1
    assert "No setting is in the environment." in run.stdout
    assert run.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--settings", "app"], "argument --settings: 'app' is not of the form module:name, such as app.main:settings"),
        (["--settings", ".app:x"], "is not of the form module:name"),
        (["--settings", "app:x y"], "is not of the form module:name"),
        (["--url", "shop.example"], "argument --url: 'shop.example' is not an http or https URL"),
        (["--url", "https://me:hidden@shop.example"], "argument --url: the URL of a listing has no user name"),
        (["--url", "https://schöner.example/register"], "write its host as xn--..., and its path percent-encoded"),
        (["--url", "https://shop.example/größe"], "write its host as xn--..., and its path percent-encoded"),
        (["--url", "http://[::1"], "argument --url: 'http://[::1' is not an http or https URL"),
    ],
)
def test_wrong_usage_has_an_exit_code_of_its_own(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *arguments])

    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert "hidden" not in err


@pytest.mark.parametrize(
    "fault",
    [
        test_calls.FAULTS["another-account"],
        test_credentials.FAULTS["role-denied"],
        test_calls.FAULTS["expired-credentials"],
        test_keys.FAULTS["weak-old-key"],
        test_client.FAULTS["broken-config"],
    ],
    ids=lambda fault: fault.check,
)
def test_no_secret_comes_out_not_even_of_a_host_that_logs_everything(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Plant
) -> None:
    environment.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    plant(fault, environment, tmp_path)
    logging.getLogger().addHandler(handler := logging.StreamHandler())
    logging.getLogger("botocore").setLevel(logging.DEBUG)
    try:
        main(["doctor", "--url", fault.url])
    finally:
        logging.getLogger("botocore").setLevel(logging.NOTSET)
        logging.getLogger().removeHandler(handler)

    out, err = capsys.readouterr()
    assert err == ""
    for secret in secrets_of(os.environ):
        assert secret not in out.replace("\n", "")
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize("url", ["https://user:hunter2@host:99999/x", "ftp://user:hunter2@host/x", "u:hunter2@host"])
def test_a_url_with_a_password_is_refused_without_showing_it(capsys: pytest.CaptureFixture[str], url: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--url", url])
    assert ended.value.code == 2
    assert "hunter2" not in capsys.readouterr().err


def test_the_password_of_an_endpoint_is_not_shown(text: Callable[..., str], environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MARKETPLACE_ENDPOINT_URL", "http://user:hunter2@127.0.0.1:1")
    assert "hunter2" not in text()


def test_what_may_be_secret_in_a_url_is_not_shown(text: Callable[..., str]) -> None:
    with serve(RedirectResponse("http://user:hunter2@login.example/?next=hunter2#hunter2")) as url:
        shown = text("--url", f"{url}/register?bypass=hunter2")
    assert "http://login.example/" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize("proxy", ["http://user:hunter2", "http://user:hunter2@127.0.0.1:1", "user:hunter2"])
def test_the_password_of_a_proxy_is_not_shown(
    text: Callable[..., str], environment: pytest.MonkeyPatch, proxy: str
) -> None:
    environment.setenv("https_proxy", proxy)
    assert "hunter2" not in text("--url", "https://shop.invalid/marketplace/register")
