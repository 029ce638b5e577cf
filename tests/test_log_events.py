import ast
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse, Response

import starlette_marketplace
from starlette_marketplace import Marketplace, MarketplaceSettings
from starlette_marketplace.aws import Connection
from starlette_marketplace.hooks import RegistrationResolved
from starlette_marketplace.local import LocalMarketplace
from starlette_marketplace.middleware import MarketplaceOptions
from starlette_marketplace.registration.resolver import AwsResolver
from starlette_marketplace.subscriptions.reader import AwsReader
from tests.support.aws import (
    FakeAws,
    answer,
    connect_with_a_botocore_that_does_not_know_agreements,
    described,
    read_with_a_botocore_that_does_not_know_trials,
)
from tests.support.fakes import FakeResolver, FakeTimer
from tests.support.hosts import LANDING, browser, form, starlette_middleware
from tests.support.observability import EVENTS, PAGE, codes, older_opentelemetry, rows
from tests.support.servers import serve
from tests.support.shared_cache import FakeSharedCache, worker

pytestmark = pytest.mark.anyio

OF_EVERY_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


def extra_of(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in OF_EVERY_RECORD}


def refuse(_: RegistrationResolved) -> Response:
    return PlainTextResponse("no", 403)


async def register(settings: MarketplaceSettings, marketplace: LocalMarketplace) -> list[str]:
    """Registrations of each kind that the log tells apart; answers their tokens."""
    tokens = [marketplace.issue_token(scenario) for scenario in ("new-product", "expired", "access-denied")]
    accepts = MarketplaceOptions(settings=settings)
    refuses = MarketplaceOptions(settings=settings, on_resolved=refuse)
    for options in (accepts, refuses):
        async with browser(starlette_middleware(**options)) as buyer:
            for token in tokens:
                await buyer.post(LANDING, data=form(token))
    return tokens


def use_a_shared_cache_that_fails_and_comes_back_with_a_value_of_others() -> None:
    cache, timer = FakeSharedCache(), FakeTimer()
    ours = worker(FakeResolver(), cache, timer=timer)
    cache.fails = {"get"}
    ours.resolve("good")
    cache.fails.clear()
    timer.now += 60
    ours.resolve("good")
    cache.values = dict.fromkeys(cache.values, "of others")
    ours.resolve("good")


async def start_without_credentials(settings: MarketplaceSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        await Marketplace(settings).startup()


def read_what_is_not_of_aws(settings: MarketplaceSettings) -> None:
    with serve(FakeAws(answer(described(status="BRAND_NEW"))), lifespan="off") as url:
        elsewhere = replace(settings, endpoint_url=None, agreement_endpoint_url=url)
        AwsReader(Connection(elsewhere), elsewhere).get_agreement("agmt-1")


async def test_the_page_has_every_event_as_it_is_logged(
    settings: MarketplaceSettings,
    marketplace: LocalMarketplace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.DEBUG, "starlette_marketplace")
    tokens = await register(settings, marketplace)
    use_a_shared_cache_that_fails_and_comes_back_with_a_value_of_others()
    AwsResolver(replace(settings, endpoint_url=None, region_name="us-gov-west-1")).connect()
    read_what_is_not_of_aws(settings)
    connect_with_a_botocore_that_does_not_know_agreements(settings, tmp_path, monkeypatch)
    read_with_a_botocore_that_does_not_know_trials(settings, tmp_path, monkeypatch)
    await start_without_credentials(settings, monkeypatch)
    with older_opentelemetry(monkeypatch):
        Marketplace(settings)

    records = [record for record in caplog.records if record.name.startswith("starlette_marketplace")]
    assert {record.name for record in records} == {"starlette_marketplace"}
    logged = {(str(record.msg), record.levelname, frozenset(extra_of(record))) for record in records}
    assert logged == set(EVENTS)
    assert len(EVENTS) == len(logged)
    for record in records:
        assert isinstance(record.args, tuple)
        assert {str(value) for value in record.args} <= {str(value) for value in extra_of(record).values()}
        json.dumps(extra_of(record))
        for secret in (*tokens, marketplace.buyer.account_id, "hunter2"):
            assert secret not in f"{vars(record)}"


def messages_of_the_code() -> Iterator[str]:
    package = Path(starlette_marketplace.__file__).parent
    for file in package.rglob("*.py"):
        if package / "local" not in file.parents:
            for node in ast.walk(ast.parse(file.read_text())):
                match node:
                    case ast.Call(ast.Attribute(ast.Name("logger"), "log"), [_, message, *_]):
                        yield from texts_of(message)
                    case ast.Call(ast.Attribute(ast.Name("logger"), "info" | "warning" | "error"), [message, *_]):
                        yield from texts_of(message)


def texts_of(message: ast.expr) -> Iterator[str]:
    match message:
        case ast.Constant(str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from texts_of(body)
            yield from texts_of(orelse)
        case _:
            raise AssertionError(f"{ast.unparse(message)} is not constant")


def test_the_page_has_every_event_of_the_code() -> None:
    messages = list(messages_of_the_code())
    assert len(set(messages)) == len(messages)
    assert set(messages) == {message for message, _, _ in EVENTS}


def test_the_page_says_what_each_field_holds() -> None:
    fields = [codes(name)[0] for name, _ in rows("field | what it holds")]
    assert fields == sorted(set().union(*(extra for _, _, extra in EVENTS)))


def test_the_line_that_the_page_shows_is_of_an_event() -> None:
    line = json.loads(PAGE.partition("```json\n")[2].partition("\n```")[0])
    added = {"time", "level", "logger", "event", "message"}
    assert (line["event"], line["level"], line.keys() - added) in EVENTS
    assert line["message"] == line["event"] % (line["reason"], line["code"], line["reference"])
