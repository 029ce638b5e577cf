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
from tests.doctor import test_configuration, test_connection, test_identity
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
    assert run.statuses("skipped") == ["role", "landing_registration"]
    assert [call.scenario for call in world.marketplace.resolve_calls] == [None, None]
    assert len(world.entitlements.calls) == len(world.agreements.calls) == 1


def test_a_right_configuration_with_a_role_is_silent(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("MARKETPLACE_ROLE_ARN", f"arn:aws:iam::{SELLER}:role/guarded")
    environment.setenv("MARKETPLACE_ROLE_EXTERNAL_ID", "shared")
    environment.setenv("AWS_ACCESS_KEY_ID", f"AKIALOCAL{OTHER}")
    run = doctor("--url", HOST)

    assert run.code == 0
    assert run.statuses("warning") == run.statuses("problem") == []
    assert run.statuses("skipped") == ["landing_registration"]
    assert run.one("role", "ok")["message"] == f"The role guarded of account ********{SELLER[-4:]} can be assumed."
    assert "by assumed-role/guarded/starlette-marketplace." in run.one("account", "ok")["message"]


def test_without_a_url_what_it_is_for_is_skipped(doctor: Callable[..., Run]) -> None:
    run = doctor()

    assert run.statuses("skipped") == [
        "role",
        "landing_url",
        "landing_get",
        "landing_post",
        "signup_page",
        "landing_registration",
    ]
    assert run.one("signup_page", "skipped")["message"] == "Name the fulfillment URL with --url."


def test_all_mistakes_in_the_settings_are_found_at_once(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch
) -> None:
    environment.delenv("MARKETPLACE_SECRET_KEY")
    environment.setenv("MARKETPLACE_MAX_ATTEMPTS", "three")
    environment.setenv("MARKETPLACE_ROLE_ARN", "resolver")
    environment.setenv("MARKETPLACE_ROLE_EXTERNAL_ID", "shared")
    run = doctor()

    assert [finding["message"] for finding in run.findings["settings"]] == [
        "MARKETPLACE_MAX_ATTEMPTS must be a whole number.",
        "MARKETPLACE_SECRET_KEY is missing.",
        "MARKETPLACE_ROLE_ARN must look like arn:aws:iam::123456789012:role/name.",
    ]
    # All is looked at but for what needs them; the external id is right, and lacks only its role.
    assert run.statuses("warning") == []
    assert run.findings["secret_key"][0]["message"] == "This needs a valid secret_key: see settings."
    for check in ("role", "account", "permission"):
        assert run.findings[check][0]["message"] == "This needs a valid role_arn: see settings."
    assert run.statuses("ok") == [
        "variables",
        "product_codes",
        "https_only",
        "session_domain",
        "signup_url",
        "shared_cache",
        "aws_config",
        "region",
        "botocore",
        "endpoint",
        "credentials",
    ]


def test_an_invalid_account_id_hides_only_whether_the_account_is_right(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("MARKETPLACE_SELLER_ACCOUNT_ID", SELLER[1:])
    run = doctor()

    assert run.one("account", "skipped")["message"] == (
        f"The calls are made from account ********{SELLER[-4:]}, by user/local. Whether it is the seller's needs a "
        "valid seller_account_id: see settings."
    )
    assert run.one("permission", "ok")


@pytest.mark.parametrize(
    ("variable", "value", "skipped"),
    [
        ("SECRET_KEY", "short", {"secret_key"}),
        ("PRODUCT_CODES", "a b", {"product_codes", "entitlements", "landing_registration"}),
        ("SESSION_DOMAIN", "a b", {"session_domain", "signup_url"}),
        ("SIGNUP_URL", "nonsense", {"signup_url", "signup_page", "landing_registration"}),
        ("REGISTRATION_PATH", "nonsense", {"signup_page"}),
        ("CACHE_URL", "nonsense", {"shared_cache"}),
        ("ENTITLEMENT_ENDPOINT_URL", "nonsense", {"entitlements"}),
        ("AGREEMENT_ENDPOINT_URL", "nonsense", {"agreements"}),
        ("SUPPORT_URL", "nonsense", set()),
        ("READ_TIMEOUT", "nonsense", set()),
    ],
)
def test_an_invalid_setting_hides_only_what_needs_it(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, variable: str, value: str, skipped: set[str]
) -> None:
    environment.setenv(f"MARKETPLACE_{variable}", value)
    run = doctor("--url", HOST)

    assert len(run.findings["settings"]) == len(run.statuses("problem")) == 1
    # These two are skipped with valid settings as well.
    assert set(run.statuses("skipped")) - {"role", "landing_registration"} == skipped - {"landing_registration"}
    (found,) = run.findings["landing_registration"]
    assert found["message"].startswith("This needs a valid") is ("landing_registration" in skipped)


def test_all_mistakes_of_named_settings_are_found_and_nothing_of_the_rest_is_looked_at(
    doctor: Callable[..., Run], tmp_path: Path
) -> None:
    module = module_of(
        tmp_path,
        """
        from starlette_marketplace import MarketplaceSettings
        def make():
            return MarketplaceSettings(secret_key="short", product_codes="a b", max_attempts=0)
        """,
    )
    run = doctor("--settings", f"{module}:make", "--url", HOST)

    assert [finding["message"] for finding in run.findings["settings"]] == [
        "secret_key must be at least 32 characters.",
        "product_codes must be product codes, separated by commas, or *.",
        "max_attempts must be a number of at least 1.",
    ]
    assert run.statuses("ok") == ["variables", "landing_url", "landing_get", "landing_post"]
    for check in ("secret_key", "shared_cache", "permission", "signup_page", "landing_registration"):
        assert run.one(check, "skipped")["message"] == "See settings."


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
        test_identity.FAULTS["another-account"],
        test_identity.FAULTS["role-denied"],
        test_identity.FAULTS["expired-credentials"],
        test_configuration.FAULTS["repeated-old-key"],
        test_connection.FAULTS["broken-config"],
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
