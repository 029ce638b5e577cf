import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from starlette_marketplace.doctor import Finding, Status, as_text
from tests.doctor.world import (
    CHECKS,
    HOST,
    OTHER,
    Run,
)
from tests.support.hosts import LANDING

DOCS = (Path(__file__).parents[2] / "docs/doctor.md").read_text()


def page_of(command: str) -> str:
    """The output that the page shows below the command."""
    shown = re.search(rf"```console\n\$ {re.escape(command)}\n(.*?)```", DOCS, re.DOTALL)
    assert shown
    return shown[1]


def test_the_page_shows_a_right_run_as_it_is(text: Callable[..., str], environment: pytest.MonkeyPatch) -> None:
    environment.delenv("MARKETPLACE_MAX_ATTEMPTS")
    command = f"starlette-marketplace doctor --url {HOST}{LANDING}"

    assert text("--url", HOST + LANDING) == page_of(command)


def test_the_page_shows_a_wrong_run_as_it_is(text: Callable[..., str], environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MARKETPLACE_PRODUCT_CODES", "prod-4xk2mq7bqmzfa")
    environment.setenv("MARKETPLACE_SUPORT_URL", "mailto:support@shop.example")
    environment.setenv("AWS_ACCESS_KEY_ID", f"AKIALOCAL{OTHER}")
    command = "starlette-marketplace doctor --url https://csrf.elsewhere.example/marketplace/register"

    assert text(*command.split()[2:]) == page_of(command)


def test_the_page_shows_json_as_it_is(doctor: Callable[..., Run], environment: pytest.MonkeyPatch) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    shown = re.search(r"```json\n(.*?)```", DOCS, re.DOTALL)
    assert shown
    (finding,) = json.loads(shown[1])["findings"]

    assert [finding] == doctor().findings["credentials"]


def test_the_page_has_every_check() -> None:
    assert re.findall(r"^\| `(\w+)` \|", DOCS, re.MULTILINE) == CHECKS


def test_what_is_skipped_for_one_reason_is_told_in_one_line(
    text: Callable[..., str], environment: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith("MARKETPLACE_"):
            environment.delenv(name)

    assert (
        "  skipped  secret_key, product_codes, https_only, session_domain, signup_url: See settings.\n"
        "\n"
        "Shared cache\n"
        "  skipped  shared_cache: See settings.\n"
        "\n"
        "AWS\n"
        "  skipped  aws_config, region, "
    ) in text()


@pytest.mark.parametrize(
    ("variables", "summary"),
    [
        ({}, "Nothing is wrong."),
        ({"MARKETPLACE_HTTPS_ONLY": "false"}, "1 warning."),
        ({"MARKETPLACE_HTTPS_ONLY": "false", "MARKETPLACE_X": "x"}, "2 warnings."),
        ({"MARKETPLACE_HTTPS_ONLY": "false", "MARKETPLACE_PRODUCT_CODES": "prod-1"}, "1 problem and 1 warning."),
    ],
)
def test_the_last_line_counts(
    text: Callable[..., str], environment: pytest.MonkeyPatch, variables: dict[str, str], summary: str
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)

    assert text().endswith(f"\n\n{summary}\n")


def test_a_finding_is_shown_as_soon_as_it_is_there() -> None:
    made = []

    def findings() -> Iterator[Finding]:
        for check in ("settings", "variables", "secret_key"):
            made.append(check)
            yield Finding(check, Status.OK, "Fine.")

    paragraphs = as_text(findings())

    assert next(paragraphs) == "Settings\n  ok       settings: Fine."
    assert made == ["settings"]


def test_what_a_server_sends_cannot_talk_to_the_terminal(text: Callable[..., str]) -> None:
    shown = text("--url", "https://terminal.elsewhere.example")

    assert "a redirect to https://shop.example/" in shown
    assert all(character.isprintable() for character in shown.replace("\n", ""))
