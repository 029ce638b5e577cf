import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from starlette_marketplace import MarketplaceSettings, SettingsError
from starlette_marketplace.doctor.host import _PLACEHOLDERS
from tests.doctor.world import (
    PRODUCT_CODE,
    RIGHT,
    SECRET_KEY,
    SELLER,
    Plant,
    Run,
    assert_found,
    first,
    module_of,
)

FAULTS = {
    "nothing": Plant(
        "settings",
        "problem",
        "No setting is in the environment.",
        "Required are MARKETPLACE_SECRET_KEY and MARKETPLACE_PRODUCT_CODES",
        {name: None for name in RIGHT if name.startswith("MARKETPLACE_")},
    ),
    "no-secret-key": Plant(
        "settings",
        "problem",
        "MARKETPLACE_SECRET_KEY is missing.",
        "Make one with python -c",
        {"MARKETPLACE_SECRET_KEY": None},
    ),
    "short-secret-key": Plant(
        "settings",
        "problem",
        "MARKETPLACE_SECRET_KEY must be at least 32 characters.",
        "Make one with python -c",
        {"MARKETPLACE_SECRET_KEY": "short"},
    ),
    "key-of-the-demo": Plant(
        "settings",
        "problem",
        "MARKETPLACE_SECRET_KEY must not be a key that is published in examples.",
        "Make one with python -c",
        {"MARKETPLACE_SECRET_KEY": "demo-only-marketplace-secret-never-use-it-elsewhere"},
    ),
    "key-of-one-character": Plant(
        "settings",
        "problem",
        "MARKETPLACE_SECRET_KEY must not be one repeated character.",
        "Make one with python -c",
        {"MARKETPLACE_SECRET_KEY": "k" * 40},
    ),
    "no-product-code": Plant(
        "settings",
        "problem",
        "MARKETPLACE_PRODUCT_CODES is missing.",
        "List the product codes that you sell",
        {"MARKETPLACE_PRODUCT_CODES": ""},
    ),
    "external-id-without-role": Plant(
        "settings",
        "problem",
        "MARKETPLACE_ROLE_EXTERNAL_ID needs role_arn",
        "Set role_arn to the role that asks for the external id.",
        {"MARKETPLACE_ROLE_EXTERNAL_ID": "shared"},
    ),
    "account-without-its-zero": Plant(
        "settings",
        "problem",
        "MARKETPLACE_SELLER_ACCOUNT_ID must be the 12 digits of an AWS account id, in quotes: the first may be 0.",
        "Correct it where your app gets its settings.",
        {"MARKETPLACE_SELLER_ACCOUNT_ID": "44455556666"},
    ),
    "only-misspelled": Plant(
        "settings",
        "problem",
        "No setting is in the environment.",
        "Required are",
        {name: None for name in RIGHT if name.startswith("MARKETPLACE_")} | {"MARKETPLACE_PRODUCT_CODE": "acme"},
    ),
    "misspelled": Plant(
        "variables",
        "warning",
        "MARKETPLACE_PRODUCT_CODE is in the environment, and there is no such setting.",
        "Did you mean MARKETPLACE_PRODUCT_CODES?",
        {"MARKETPLACE_PRODUCT_CODE": "acme"},
    ),
    "unknown-variable": Plant(
        "variables",
        "warning",
        "MARKETPLACE_COLOUR is in the environment",
        "Remove it, or see docs/settings.md for the settings.",
        {"MARKETPLACE_COLOUR": "red"},
    ),
    "nested-variable": Plant(
        "variables",
        "warning",
        "MARKETPLACE__SIGNUP_URL is in the environment",
        "Did you mean MARKETPLACE_SIGNUP_URL?",
        {"MARKETPLACE__SIGNUP_URL": "/join"},
    ),
}
HOST_CODE = f"""
    from functools import lru_cache, partial
    from starlette_marketplace import Marketplace, MarketplaceSettings
    print("hello from the host")
    class Config:
        settings = MarketplaceSettings(secret_key="{SECRET_KEY}", product_codes="{PRODUCT_CODE}",
                                       seller_account_id="{SELLER}", max_attempts=1)
    settings = Config.settings
    marketplace = Marketplace(settings)
    @lru_cache
    def get_settings():
        return settings
    def make(one):
        raise AssertionError
    get_marketplace = partial(Marketplace, settings)
    async def get_later():
        return settings
    def broken():
        return MarketplaceSettings(secret_key="{SECRET_KEY}")
    def fails():
        raise RuntimeError("{SECRET_KEY}")
    def leaves():
        raise SystemExit("{SECRET_KEY}")
    numbers = 5
    uncertain = type
"""


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found_and_explained(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, tmp_path: Path, fault: Plant
) -> None:
    assert_found(fault, doctor, environment, tmp_path)


def test_every_setting_that_is_required_has_a_placeholder() -> None:
    """Without one, leaving out an invalid value would make the setting invalid again, for ever."""
    with pytest.raises(SettingsError) as caught:
        MarketplaceSettings()

    assert {mistake.setting for mistake in caught.value.mistakes} == _PLACEHOLDERS.keys()
    assert MarketplaceSettings.from_env({}, **_PLACEHOLDERS)


@pytest.mark.parametrize("name", ["SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP_ADDR"])
def test_what_kubernetes_puts_beside_a_service_of_our_name_is_no_mistake(
    environment: pytest.MonkeyPatch, name: str
) -> None:
    environment.setenv(f"MARKETPLACE_{name}", "tcp://10.0.0.1:80")

    assert first("variables").status == "ok"


@pytest.mark.parametrize("name", ["settings", "Config.settings", "marketplace", "get_settings", "get_marketplace"])
def test_settings_can_be_named(
    doctor: Callable[..., Run],
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    environment.delenv("MARKETPLACE_SECRET_KEY")
    target = f"{module_of(tmp_path, HOST_CODE)}:{name}"
    with contextlib.redirect_stderr(io.StringIO()) as err:
        run = doctor("--settings", target)

    assert run.code == 0
    assert run.statuses("warning") == []
    assert run.one("settings", "ok")["message"] == f"The settings of {target} are valid."
    assert err.getvalue() == "hello from the host\n"


@pytest.mark.parametrize(
    ("name", "message", "advice"),
    [
        ("broken", "product_codes is missing.", "List the product codes that you sell"),
        ("numbers", "{target} is not settings, but of the type int.", "Name settings, a Marketplace, or a function"),
        ("make", "{target} is not settings, but of the type function.", "Name settings"),
        ("uncertain", "{target} is not settings, but of the type type.", "Name settings"),
        ("get_later", "{target} is not settings, but of the type coroutine.", "Name settings"),
        ("nothing", "{target} cannot be loaded: {module} has no nothing.", "Name settings"),
        ("fails", "{target} cannot be loaded: RuntimeError at {module}.py, line ", "its text may quote a secret"),
        (
            "leaves",
            "{target} cannot be loaded: SystemExit at {module}.py, line ",
            "Run python -c 'import {module}; {module}.leaves()'",
        ),
    ],
)
def test_settings_that_cannot_be_had_are_a_finding(
    doctor: Callable[..., Run], tmp_path: Path, name: str, message: str, advice: str
) -> None:
    module = module_of(tmp_path, HOST_CODE)
    target = f"{module}:{name}"
    with contextlib.redirect_stderr(io.StringIO()):
        run = doctor("--settings", target)

    finding = run.one("settings", "problem")
    assert message.format(target=target, module=module) in finding["message"]
    assert advice.format(target=target, module=module) in finding["advice"]
    assert run.code == 1


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("fails", "RuntimeError: "),
        ("Config.get", "KeyError: "),
        ("later.settings", "LookupError: "),
        ("fails_in_framework", "json.decoder.JSONDecodeError: "),
    ],
)
def test_the_command_that_the_advice_names_shows_the_whole_error(
    doctor: Callable[..., Run], tmp_path: Path, name: str, error: str
) -> None:
    code = """
        import json
        class Config:
            @staticmethod
            def get():
                return {}["settings"]
            @property
            def settings(self):
                raise LookupError("not yet")
        later = Config()
        def fails():
            raise RuntimeError("here")
        def fails_in_framework():
            return json.loads("")
    """
    finding = doctor("--settings", f"{module_of(tmp_path, code)}:{name}").one("settings", "problem")
    advised = re.match(r"Run python -c '(.+)' to see", finding["advice"])
    assert advised
    run = subprocess.run([sys.executable, "-c", advised[1]], capture_output=True, text=True, check=False)

    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name", "there is no module nothing_of_that_name."),
        ("import os\nos.nothing", "cannot be loaded: AttributeError at {module}.py, line 2."),
        ("settings = (", "cannot be loaded: SyntaxError."),
    ],
)
def test_a_module_that_cannot_be_imported_is_a_finding(
    doctor: Callable[..., Run], tmp_path: Path, text: str, message: str
) -> None:
    module = module_of(tmp_path, text)
    run = doctor("--settings", f"{module}:settings")

    assert message.format(module=module) in run.one("settings", "problem")["message"]


def test_with_named_settings_only_what_is_nearly_ours_is_misspelled(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("MARKETPLACE_COLOUR", "MARKETPLACE__SECRET_KEY", "MARKETPLACE_SIGNUP_ULR"):
        environment.setenv(name, "a value of another program")
    with contextlib.redirect_stderr(io.StringIO()):
        run = doctor("--settings", f"{module_of(tmp_path, HOST_CODE)}:settings")

    assert run.one("variables", "warning")["message"].startswith("MARKETPLACE_SIGNUP_ULR is in the environment")
