"""docs/troubleshooting.md against the package: each text of it has a heading, and each heading is provoked."""

import ast
import logging
import os
import re

import pytest

from starlette_marketplace import MarketplaceError, errors
from tests.docs.programs import ROOT
from tests.docs.troubleshooting_commands import COMMANDS
from tests.docs.troubleshooting_log import LOG
from tests.docs.troubleshooting_messages import messages, messages_of
from tests.docs.troubleshooting_reading import READING
from tests.docs.troubleshooting_reasons import BY_HOSTS, FAILING, LANDING_PAGE, OTHER_REASONS
from tests.docs.troubleshooting_scene import PAGE, Failure, Heading, Reproduction, Row, Scene, headings, rows
from tests.docs.troubleshooting_start import START
from tests.docs.troubleshooting_symptoms import SYMPTOMS
from tests.support.observability import EVENTS

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.service]

HEADINGS = {heading.id: heading for heading in headings()}
ROWS = rows()
TITLES = {kind.title for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MarketplaceError)}
REPRODUCTIONS: dict[str, Reproduction] = {
    **LANDING_PAGE,
    **LOG,
    **OTHER_REASONS,
    **READING,
    **START,
    **COMMANDS,
    **SYMPTOMS,
}


@pytest.fixture
def scene(request: pytest.FixtureRequest) -> Scene:
    """A host with credentials, and nothing else of AWS on this machine."""
    scene = Scene(request)
    for name in [name for name in os.environ if name.startswith(("AWS_", "MARKETPLACE_"))]:
        scene.environment.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": str(scene.folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(scene.folder / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        scene.environment.setenv(name, value)
    scene.log.set_level(logging.INFO, "starlette_marketplace")
    return scene


def heading_of(name: str) -> Heading:
    assert name in HEADINGS, f"the page has no heading {{ #{name} }}"
    return HEADINGS[name]


# The headings are provoked


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_what_a_heading_says_is_provoked(name: str, scene: Scene) -> None:
    heading = heading_of(name)
    text = REPRODUCTIONS[name](scene)
    if heading.text is None:
        assert text is None, "a symptom has no text, and looks by itself"
    else:
        assert text is not None
        assert heading.is_of(text), text


def shown_by(row: Row, failure: Failure) -> bool:
    """Whether the page says so of what the buyer got; JSON has no title."""
    titles = {row.title, ""} if failure.is_json else {row.title}
    return failure.title in titles and (failure.code, failure.status, failure.message) == (
        row.code,
        row.status,
        row.message,
    )


@pytest.mark.parametrize("name", FAILING)
def test_a_reason_is_provoked_and_the_page_that_the_buyer_gets_leads_to_it(name: str, scene: Scene) -> None:
    heading = heading_of(name)
    failure = FAILING[name](scene)
    assert heading.is_of(failure.reason), failure.reason
    assert any(shown_by(row, failure) for row in ROWS if name in row.leads_to), failure


@pytest.mark.parametrize("code", BY_HOSTS)
def test_a_page_that_has_another_cause_is_provoked(code: str, scene: Scene) -> None:
    failure = BY_HOSTS[code](scene)
    assert any(shown_by(row, failure) for row in ROWS), failure


def test_every_heading_is_provoked() -> None:
    pages = {row.heading for row in ROWS}
    assert REPRODUCTIONS.keys() | FAILING.keys() | pages == HEADINGS.keys()
    assert len(HEADINGS) == len(headings()), "no name is there twice"


def test_every_row_of_a_page_is_provoked() -> None:
    for row in ROWS:
        assert row.code in BY_HOSTS or FAILING.keys() & row.leads_to, row


# Every text has a heading


def test_the_page_has_every_text_of_the_package_and_no_other() -> None:
    texts = [heading.text for heading in HEADINGS.values() if heading.text is not None]
    landing_page = HEADINGS["landing-page"].text
    assert set(texts) == messages() | TITLES | {landing_page}
    assert len(texts) == len(set(texts))


def test_the_page_has_every_event_of_the_log_in_its_place() -> None:
    section = PAGE.partition("\n## What the log says\n")[2].partition("\n## ")[0]
    assert re.findall("^### `(.+)` {", section, re.MULTILINE) == list(dict.fromkeys(event for event, _, _ in EVENTS))


def test_the_page_has_every_code_with_what_the_buyer_sees() -> None:
    expected = [
        (kind.code, kind.status, kind.title, kind.message)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, MarketplaceError)
    ]
    assert sorted((row.code, row.status, row.title, row.message) for row in ROWS) == sorted(expected)


def test_a_reason_that_a_row_names_is_on_the_page() -> None:
    slugs = {
        re.sub("[^a-z ]", "", title.lower()).replace(" ", "-") for title in re.findall("^## (.+)$", PAGE, re.MULTILINE)
    }
    targets = set(re.findall(r"\]\(#([\w-]+)\)", PAGE))
    assert targets
    assert targets <= HEADINGS.keys() | slugs


def test_the_pages_that_it_links_to_have_these_headings() -> None:
    for file, anchor in re.findall(r"\]\(([\w/-]+\.md)(?:#([\w-]+))?\)", PAGE):
        page = (ROOT / "docs" / file).read_text()
        titles = re.findall("^#+ (.+)$", page, re.MULTILINE)
        slugs = {re.sub("[^a-z0-9_ -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not anchor or anchor in slugs, f"{file}#{anchor}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('logger.warning("gone: %s", name)', ["gone: %s"]),
        ('logger.log(level, "a %s" if ok else "b %s", name)', ["a %s", "b %s"]),
        ('raise errors.AwsUnavailableError(f"AWS failed ({answer}): wait")', ["AWS failed (…): wait"]),
        ('return InvalidTokenError("a " f"{b}{c}")', ["a …"]),
        ('LIMIT = 3\nraise ValueError(f"over {LIMIT}")', ["over 3"]),
        ('kind = "a" if b else "c"\nMistake(name, f"{name} must be {kind}.")', ["… must be a.", "… must be c."]),
        ('raise UnavailableError(f"over {limit}.", "Wait.")', ["over …. Wait."]),
        ('KINDS = {1: (int, "a"), 2: (str, "b")}\n_, kind = KINDS[n]\n_fail(f"be {kind}")', ["be a", "be b"]),
        ('parser.error("no")', ["no"]),
        ('refuse("gone", 404)', ["gone"]),
        ('def _refuse_browser():\n    if a:\n        return "no"\n    return None', ["no"]),
        ("raise SettingsError(str(self._error))", []),
        ('print("nobody")', []),
    ],
)
def test_a_message_is_found_in_the_source(source: str, found: list[str]) -> None:
    assert list(messages_of(ast.parse(source))) == found


def test_a_message_that_can_be_anything_cannot_be_looked_up() -> None:
    with pytest.raises(AssertionError, match="line 1: text_of"):
        list(messages_of(ast.parse("raise ValueError(text_of(exc))")))
