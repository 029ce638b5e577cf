import json
import logging
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message

from starlette_marketplace import (
    ConfigurationError,
    Marketplace,
    MarketplaceError,
    MarketplaceMiddleware,
    MarketplaceSettings,
    ProductMismatchError,
    ThrottledError,
    errors,
)
from starlette_marketplace.hooks import RegistrationRequested, RegistrationResolved
from starlette_marketplace.local import LocalMarketplace
from starlette_marketplace.otel import OpenTelemetry
from tests.support.fakes import CUSTOMER, FakeResolver
from tests.support.hosts import LANDING, browser, form, starlette_middleware
from tests.support.observability import PAGE, codes, older_opentelemetry, rows
from tests.support.shared_cache import FakeSharedCache

pytestmark = pytest.mark.anyio


class Watch:
    """What OpenTelemetry was told since the test began."""

    def __init__(self, spans: InMemorySpanExporter, reader: InMemoryMetricReader) -> None:
        self._spans = spans
        self._reader = reader
        self._at_first: dict[tuple[str, str], float] = {}
        spans.clear()
        self._at_first = self._totals()

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.all_spans()}

    def all_spans(self) -> tuple[ReadableSpan, ...]:
        return self._spans.get_finished_spans()

    def outcomes(self) -> list[tuple[object, StatusCode]]:
        return [
            ((span.attributes or {})["marketplace.outcome"], span.status.status_code)
            for span in self._spans.get_finished_spans()
            if span.name == "marketplace.registration"
        ]

    def counts(self, name: str) -> dict[str, float]:
        """What a metric has counted, by the value of its own attribute; a histogram, how often."""
        return {
            value: total - self._at_first.get((metric, value), 0)
            for (metric, value), total in self._totals().items()
            if metric == name and total != self._at_first.get((metric, value), 0)
        }

    def everything(self) -> str:
        return "".join(span.to_json() for span in self._spans.get_finished_spans()) + json.dumps(self.metrics())

    def error_types(self, name: str) -> set[object]:
        """The values of error.type that a metric has had since the process began."""
        return {
            point["attributes"].get("error.type")
            for metric in self.metrics()
            for point in metric["data"]["data_points"]
            if metric["name"] == name
        }

    def _totals(self) -> dict[tuple[str, str], float]:
        totals: dict[tuple[str, str], float] = defaultdict(float)
        for metric in self.metrics():
            for point in metric["data"]["data_points"]:
                [value] = (value for name, value in point["attributes"].items() if name.startswith("marketplace."))
                totals[metric["name"], value] += point.get("value", point.get("count"))
        return totals

    def metrics(self) -> list[Any]:
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        return [
            metric
            for resource in json.loads(data.to_json())["resource_metrics"]
            for scope in resource["scope_metrics"]
            if scope["scope"]["name"] == "starlette_marketplace"
            for metric in scope["metrics"]
        ]


class Switch(Sampler):
    """Lets no span be recorded unless a test here wants it: a process has one tracer provider, for good."""

    is_on = False

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return (ALWAYS_ON if self.is_on else ALWAYS_OFF).should_sample(*args, **kwargs)

    def get_description(self) -> str:
        return "Switch"


@pytest.fixture(scope="module")
def sdk() -> Iterator[tuple[InMemorySpanExporter, InMemoryMetricReader]]:
    spans, reader, switch = InMemorySpanExporter(), InMemoryMetricReader(), Switch()
    tracer_provider = TracerProvider(switch)
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracer_provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    switch.is_on = True
    yield spans, reader
    switch.is_on = False


@pytest.fixture
def watch(sdk: tuple[InMemorySpanExporter, InMemoryMetricReader]) -> Watch:
    return Watch(*sdk)


async def test_a_registration_is_a_span_within_that_of_the_host_and_around_those_of_resolving(
    watch: Watch, settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    async with browser(starlette_middleware(settings=settings)) as buyer:
        with trace.get_tracer("the host").start_as_current_span("POST"):
            await buyer.post(LANDING, data=form(marketplace.issue_token("new-product")))
    spans = watch.spans()
    registration, resolution, call = (
        spans[f"marketplace.{name}"] for name in ("registration", "resolution", "resolve_customer")
    )
    parents = {span.name: span.parent.span_id if span.parent else None for span in spans.values()}
    ids = {span.name: span.context.span_id for span in spans.values() if span.context}
    assert parents["marketplace.registration"] == ids["POST"]
    assert parents["marketplace.resolution"] == ids["marketplace.registration"]
    assert parents["marketplace.resolve_customer"] == ids["marketplace.resolution"]
    assert registration.attributes == {"marketplace.lookup": "asked", "marketplace.outcome": "REGISTERED"}
    assert resolution.attributes == {"marketplace.outcome": "RESOLVED"}
    assert call.attributes == {"marketplace.outcome": "RESOLVED"}
    assert {span.status.status_code for span in spans.values()} == {StatusCode.UNSET}


@pytest.mark.parametrize(
    ("scenario", "outcome", "status", "of_the_call"),
    [
        ("new-product", "REGISTERED", StatusCode.UNSET, "RESOLVED"),
        ("wrong-product", "PRODUCT_MISMATCH", StatusCode.UNSET, "RESOLVED"),
        ("expired", "EXPIRED_TOKEN", StatusCode.UNSET, "EXPIRED_TOKEN"),
        ("throttled", "THROTTLED", StatusCode.ERROR, "THROTTLED"),
        ("access-denied", "ACCESS_DENIED", StatusCode.ERROR, "ACCESS_DENIED"),
    ],
)
async def test_outcomes_are_counted_and_those_for_the_seller_to_look_at_are_errors(
    watch: Watch,
    settings: MarketplaceSettings,
    marketplace: LocalMarketplace,
    scenario: str,
    outcome: str,
    status: StatusCode,
    of_the_call: str,
) -> None:
    async with browser(starlette_middleware(settings=settings)) as buyer:
        await buyer.post(LANDING, data=form(marketplace.issue_token(scenario)))
    assert watch.outcomes() == [(outcome, status)]
    assert watch.counts("marketplace.registrations") == {outcome: 1}
    assert watch.counts("marketplace.resolve_customer.duration") == {of_the_call: 1}
    for span in watch.spans().values():
        assert span.status.status_code is status
        error_type = outcome if status is StatusCode.ERROR else None
        assert (span.attributes or {}).get("error.type") == error_type
        assert error_type in watch.error_types("marketplace.registrations")
        assert error_type in watch.error_types("marketplace.resolve_customer.duration")


async def test_what_is_no_registration_is_not_counted(watch: Watch, settings: MarketplaceSettings) -> None:
    async with browser(starlette_middleware(settings=settings)) as buyer:
        for method, path in (("GET", LANDING), ("HEAD", LANDING), ("OPTIONS", LANDING), ("GET", "/signup")):
            await buyer.request(method, path)
    assert watch.spans() == {}
    assert watch.counts("marketplace.registrations") == {}


async def test_a_form_without_a_token_is_counted_and_looks_nothing_up(
    watch: Watch, settings: MarketplaceSettings
) -> None:
    async with browser(starlette_middleware(settings=settings)) as buyer:
        await buyer.post(LANDING, data={"a": "b"})
    assert watch.counts("marketplace.registrations") == {"MISSING_TOKEN": 1}
    assert watch.counts("marketplace.lookups") == {}


async def test_a_hook_that_refuses_is_told_apart_from_one_that_fails(
    watch: Watch, settings: MarketplaceSettings
) -> None:
    def refuse(_: RegistrationRequested | RegistrationResolved) -> Response:
        return PlainTextResponse("no", 403)

    def fail(_: RegistrationResolved) -> Response:
        raise ValueError("of the account 123456789012")

    for hooks in ({"on_request": refuse}, {"on_resolved": refuse}, {"on_resolved": fail}):
        host = starlette_middleware(settings=settings, resolver=FakeResolver(), **hooks)
        async with browser(host, raise_app_exceptions=False) as buyer:
            await buyer.post(LANDING, data=form("good"))
    assert watch.outcomes() == [
        ("REFUSED", StatusCode.UNSET),
        ("REFUSED", StatusCode.UNSET),
        ("UNFINISHED", StatusCode.ERROR),
    ]
    assert (watch.spans()["marketplace.registration"].attributes or {})["error.type"] == "ValueError"
    assert "ValueError" in watch.error_types("marketplace.registrations")
    assert "123456789012" not in watch.everything()


async def test_a_mistake_of_a_resolver_of_the_hosts_own_is_an_error(
    watch: Watch, settings: MarketplaceSettings
) -> None:
    resolver = FakeResolver({"good": ZeroDivisionError("of the account 123456789012")})
    host = starlette_middleware(settings=settings, resolver=resolver)
    async with browser(host, raise_app_exceptions=False) as buyer:
        await buyer.post(LANDING, data=form("good"))
    assert watch.counts("marketplace.resolve_customer.duration") == {"UNFINISHED": 1}
    assert watch.error_types("marketplace.resolve_customer.duration") >= {"ZeroDivisionError"}
    for name in ("registration", "resolution", "resolve_customer"):
        span = watch.spans()[f"marketplace.{name}"]
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes == {
            **({"marketplace.lookup": "asked"} if name == "registration" else {}),
            "marketplace.outcome": "UNFINISHED",
            "error.type": "ZeroDivisionError",
        }
    assert "123456789012" not in watch.everything()


async def test_an_error_of_the_tree_that_a_resolver_of_the_hosts_own_raises_is_judged_by_its_status(
    watch: Watch, settings: MarketplaceSettings
) -> None:
    resolver = FakeResolver({"good": ProductMismatchError("the product has gone")})
    async with browser(starlette_middleware(settings=settings, resolver=resolver)) as buyer:
        await post(buyer, "good")
    assert {span.status.status_code for span in watch.spans().values()} == {StatusCode.UNSET}
    assert watch.counts("marketplace.resolve_customer.duration") == {"PRODUCT_MISMATCH": 1}


def test_a_call_that_the_end_of_the_process_breaks_off_is_not_counted_as_resolved(watch: Watch) -> None:
    with pytest.raises(KeyboardInterrupt), OpenTelemetry().call():
        raise KeyboardInterrupt
    assert watch.counts("marketplace.resolve_customer.duration") == {"UNFINISHED": 1}


async def test_a_browser_that_leaves_is_no_error(watch: Watch, settings: MarketplaceSettings) -> None:
    resolver = FakeResolver()
    async with browser(starlette_middleware(settings=settings, resolver=resolver)) as buyer:
        with resolver.held():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(post, buyer, "good")
                await anyio.to_thread.run_sync(resolver.called.acquire)
                tasks.cancel_scope.cancel()
        assert watch.outcomes() == [("UNFINISHED", StatusCode.UNSET)]
        await post(buyer, "good")
    assert watch.counts("marketplace.resolve_customer.duration") == {"RESOLVED": 1}
    assert watch.counts("marketplace.active_resolutions") == {}


async def test_a_browser_that_leaves_before_it_has_sent_everything_is_no_error(
    watch: Watch, settings: MarketplaceSettings
) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": LANDING,
        "headers": [(b"content-type", b"application/x-www-form-urlencoded")],
    }

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None: ...

    await starlette_middleware(settings=settings, resolver=FakeResolver())(scope, receive, send)
    assert watch.outcomes() == [("UNFINISHED", StatusCode.UNSET)]
    assert watch.counts("marketplace.registrations") == {"UNFINISHED": 1}
    assert (watch.spans()["marketplace.registration"].attributes or {}).keys() == {"marketplace.outcome"}


async def post(buyer: httpx2.AsyncClient, token: str) -> None:
    await buyer.post(LANDING, data=form(token))


async def test_a_resolution_belongs_to_the_registration_that_came_first_and_the_others_say_that_they_joined(
    watch: Watch, settings: MarketplaceSettings
) -> None:
    resolver = FakeResolver()
    host = starlette_middleware(settings=settings, resolver=resolver)
    async with browser(host) as buyer, anyio.create_task_group() as tasks:
        with resolver.held():
            for _ in range(3):
                tasks.start_soon(post, buyer, "good")
                await anyio.wait_all_tasks_blocked()
    by_lookup: dict[object, list[int]] = {}
    for span in watch.all_spans():
        if span.name == "marketplace.registration":
            assert span.context
            by_lookup.setdefault((span.attributes or {})["marketplace.lookup"], []).append(span.context.span_id)
    resolutions = [span for span in watch.all_spans() if span.name == "marketplace.resolution"]
    assert {lookup: len(ids) for lookup, ids in by_lookup.items()} == {"asked": 1, "joined": 2}
    assert [span.parent and span.parent.span_id for span in resolutions] == by_lookup["asked"]


class Spans(logging.Handler):
    """The spans within which the package logs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[object] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.names.append(getattr(trace.get_current_span(), "name", None))


async def test_the_log_finds_the_span_that_it_belongs_to(watch: Watch, settings: MarketplaceSettings) -> None:
    logger, handler, cache = logging.getLogger("starlette_marketplace"), Spans(), FakeSharedCache()
    cache.fails = {"get"}
    logger.addHandler(handler)
    try:
        host = starlette_middleware(settings=settings, resolver=FakeResolver(), shared_cache=cache)
        async with browser(host) as buyer:
            await post(buyer, "bad")
    finally:
        logger.removeHandler(handler)
    assert handler.names == ["marketplace.resolution", "marketplace.registration"]


async def test_lookups_and_resolutions_under_way_are_counted(watch: Watch, settings: MarketplaceSettings) -> None:
    resolver = FakeResolver(dict.fromkeys(["running", "waiting", "refused"], CUSTOMER))
    narrow = replace(settings, max_concurrency=1, max_waiting=1)
    async with browser(starlette_middleware(settings=narrow, resolver=resolver)) as buyer:
        async with anyio.create_task_group() as tasks:
            with resolver.held():
                tasks.start_soon(post, buyer, "running")
                await anyio.to_thread.run_sync(resolver.called.acquire)
                for token in ("running", "waiting", "waiting"):
                    tasks.start_soon(post, buyer, token)
                    await anyio.wait_all_tasks_blocked()
                await post(buyer, "refused")
                assert watch.counts("marketplace.active_resolutions") == {"running": 1, "waiting": 1}
        await post(buyer, "running")
    assert watch.counts("marketplace.lookups") == {"asked": 2, "joined": 2, "refused": 1, "cached": 1}
    assert watch.counts("marketplace.active_resolutions") == {}
    assert watch.counts("marketplace.registrations") == {"REGISTERED": 5, "OVERLOADED": 1}


async def test_a_resolution_that_never_begins_does_not_wait_for_ever(
    watch: Watch, settings: MarketplaceSettings
) -> None:
    resolver = FakeResolver()
    marketplace = Marketplace(replace(settings, max_concurrency=1), resolver=resolver)
    host = MarketplaceMiddleware(Starlette(), marketplace)
    async with browser(host) as buyer, anyio.create_task_group() as tasks:
        with resolver.held():
            tasks.start_soon(post, buyer, "good")
            await anyio.to_thread.run_sync(resolver.called.acquire)
            tasks.start_soon(post, buyer, "never begins")
            await anyio.wait_all_tasks_blocked()
            assert watch.counts("marketplace.active_resolutions") == {"running": 1, "waiting": 1}
            marketplace.shutdown()
    assert watch.counts("marketplace.active_resolutions") == {}


async def test_what_the_shared_cache_answers_is_counted(watch: Watch, settings: MarketplaceSettings) -> None:
    cache = FakeSharedCache()

    async def buy() -> object:
        host = starlette_middleware(settings=settings, resolver=FakeResolver(), shared_cache=cache)
        async with browser(host) as buyer:
            await post(buyer, "good")
        return (watch.spans()["marketplace.resolution"].attributes or {})["marketplace.shared_cache"]

    answers = [await buy(), await buy()]
    cache.fails = {"get"}
    answers.append(await buy())
    assert answers == ["miss", "hit", "failed"]
    assert watch.counts("marketplace.shared_cache.lookups") == {"hit": 1, "miss": 1, "failed": 1}


async def test_neither_token_nor_account_nor_licence_is_told(
    watch: Watch, settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    tokens = [marketplace.issue_token(scenario) for scenario in ("new-product", "legacy-product", "invalid", "expired")]
    async with browser(starlette_middleware(settings=settings)) as buyer:
        for token in tokens * 2:
            await post(buyer, token)
    told = watch.everything()
    assert '"marketplace.registration"' in told
    assert "REGISTERED" in told
    secrets = [*tokens, marketplace.buyer.account_id, "arn:aws", "agmt-", "acmeanalytics"]
    assert [secret for secret in secrets if secret in told] == []


async def test_without_opentelemetry_all_goes_on_and_nothing_is_told(
    watch: Watch, settings: MarketplaceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "starlette_marketplace.otel", None)
    resolver = FakeResolver()
    marketplace = Marketplace(replace(settings, max_concurrency=1), resolver=resolver)
    async with browser(MarketplaceMiddleware(Starlette(), marketplace)) as buyer:
        answers = [await buyer.post(LANDING, data=form(token)) for token in ("good", "bad", "good")]
        async with anyio.create_task_group() as tasks:
            with resolver.held():
                for token in ("running", "never begins"):
                    tasks.start_soon(post, buyer, token)
                for _ in ("good", "bad", "running"):
                    await anyio.to_thread.run_sync(resolver.called.acquire)
                await anyio.wait_all_tasks_blocked()
                marketplace.shutdown()
    assert [answer.status_code for answer in answers] == [303, 400, 303]
    assert watch.spans() == {}
    assert watch.counts("marketplace.registrations") == {}


def test_opentelemetry_is_imported_when_a_host_is_made_and_only_if_it_is_there() -> None:
    script = """
import sys
if sys.argv[1] == "without":
    sys.modules["opentelemetry"] = None
from starlette_marketplace import Marketplace, MarketplaceSettings
assert not any(name.startswith("opentelemetry.") for name in sys.modules)
marketplace = Marketplace(MarketplaceSettings(secret_key="k" * 32, product_codes="*"))
print(*sorted({"opentelemetry.metrics", "opentelemetry.trace", "opentelemetry.sdk"} & sys.modules.keys()))
"""
    imported = [
        subprocess.run([sys.executable, "-c", script, which], capture_output=True, text=True, check=True).stdout.strip()
        for which in ("with", "without")
    ]
    assert imported == ["opentelemetry.metrics opentelemetry.trace", ""]


@pytest.mark.parametrize("has_api", [True, False])
def test_what_others_put_into_the_package_opentelemetry_is_not_taken_for_its_api(tmp_path: Path, has_api: bool) -> None:
    (tmp_path / "opentelemetry/proto").mkdir(parents=True)
    script = f"""
import opentelemetry
if {not has_api}:
    opentelemetry.__path__ = [{str(tmp_path / "opentelemetry")!r}]
import opentelemetry.proto
from starlette_marketplace import Marketplace, MarketplaceSettings
import sys
Marketplace(MarketplaceSettings(secret_key="k" * 32, product_codes="*"))
print("opentelemetry.metrics" in sys.modules)
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout.strip(), done.stderr) == (str(has_api), "")


async def test_an_opentelemetry_that_is_too_old_is_warned_about_and_all_goes_on(
    watch: Watch, settings: MarketplaceSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with older_opentelemetry(monkeypatch):
        host = starlette_middleware(settings=settings, resolver=FakeResolver())
        async with browser(host) as buyer:
            assert (await buyer.post(LANDING, data=form("good"))).status_code == 303
    assert "There are no spans and metrics: opentelemetry-api is older than 1.30" in caplog.text
    assert watch.spans() == {}


def test_providers_that_are_set_after_the_host_was_made_are_told() -> None:
    script = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient
from starlette_marketplace import Marketplace, MarketplaceSettings
from tests.support.fakes import FakeResolver
from tests.support.hosts import form

marketplace = Marketplace(MarketplaceSettings(secret_key="k" * 32, product_codes="*"), resolver=FakeResolver())
spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
tracer_provider = TracerProvider()
tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(tracer_provider)
metrics.set_meter_provider(MeterProvider([reader]))
TestClient(marketplace, follow_redirects=False).post("/register", data=form("good"))
print(*sorted(span.name for span in spans.get_finished_spans()))
print("marketplace.registrations" in reader.get_metrics_data().to_json())
"""
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.splitlines() == [
        "marketplace.registration marketplace.resolution marketplace.resolve_customer",
        "True",
    ]


def tables() -> tuple[dict[str, str], dict[str, tuple[str, str, set[str]]], dict[str, set[str]]]:
    """What the page says: the codes, the metrics and the attributes of spans."""
    known = {codes(code)[0]: error for code, _, error, _ in rows("code | log | error | what it means, and what to do")}
    measured = {
        codes(name)[0]: (instrument, codes(unit)[0], set(codes(attributes)))
        for name, instrument, unit, attributes, _ in rows("metric | instrument | unit | attributes | what it counts")
    }
    traced = {
        codes(name)[0]: set(codes(attributes))
        for name, _, attributes, _ in rows("span | parent | attributes | what it spans")
    }
    return known, measured, traced


def values_of_the_page() -> dict[str, set[str]]:
    return {codes(name)[0]: set(codes(values)) for name, values, _ in rows("attribute | values | what they mean")}


async def test_the_page_has_what_is_emitted(watch: Watch, settings: MarketplaceSettings) -> None:
    answers = dict.fromkeys(["running", "waiting", "refused"], CUSTOMER) | {"throttled": ThrottledError("too often")}
    resolver, cache = FakeResolver(answers), FakeSharedCache()
    narrow = replace(settings, max_concurrency=1, max_waiting=1)
    host = starlette_middleware(settings=narrow, resolver=resolver, shared_cache=cache)
    async with browser(host) as buyer:
        async with anyio.create_task_group() as tasks:
            with resolver.held():
                for token in ("running", "waiting", "waiting"):
                    tasks.start_soon(post, buyer, token)
                    await anyio.wait_all_tasks_blocked()
                await post(buyer, "refused")
                emitted = points(watch)
        await post(buyer, "running")
        cache.fails = {"get"}
        await post(buyer, "throttled")
    async with browser(starlette_middleware(settings=settings, resolver=resolver, shared_cache=cache)) as buyer:
        cache.fails.clear()
        await post(buyer, "running")
    emitted += points(watch)
    known, measured, traced = tables()

    instruments: dict[str, tuple[str, str, set[str]]] = {}
    for name, instrument, unit, attributes in emitted:
        instruments.setdefault(name, (instrument, unit, set()))[2].update(attributes)
    assert instruments == measured

    spans: dict[str, set[str]] = {}
    for span in watch.all_spans():
        assert span.kind is SpanKind.INTERNAL
        spans.setdefault(span.name, set()).update(span.attributes or {})
    assert spans == traced

    values: dict[str, set[str]] = {}
    for *_, attributes in emitted:
        for attribute, value in attributes.items():
            values.setdefault(attribute, set()).add(value)
    assert values.pop("marketplace.outcome") <= known.keys()
    assert "THROTTLED" in values.pop("error.type")
    described = values_of_the_page()
    assert described.keys() == values.keys() | {"marketplace.outcome", "error.type"}
    assert values == {attribute: described[attribute] for attribute in values}


def points(watch: Watch) -> list[tuple[str, str, str, dict[str, str]]]:
    """Name, instrument, unit and attributes of each point of the metrics."""
    return [
        (metric["name"], instrument_of(metric["data"]), metric["unit"], point["attributes"])
        for metric in watch.metrics()
        for point in metric["data"]["data_points"]
    ]


def instrument_of(data: dict[str, Any]) -> str:
    if "is_monotonic" not in data:
        return "histogram"
    return "counter" if data["is_monotonic"] else "up-down counter"


def test_the_page_has_every_code_and_what_log_and_traces_make_of_it() -> None:
    expected = {
        kind.code: (
            "ERROR" if issubclass(kind, ConfigurationError) else "WARNING",
            "yes" if kind.status >= 500 else "no",
        )
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, MarketplaceError)
    } | {
        "REGISTERED": ("INFO", "no"),
        "REFUSED": ("INFO", "no"),
        "RESOLVED": ("none", "no"),
        "UNFINISHED": ("none", "both"),
    }
    header = "code | log | error | what it means, and what to do"
    assert {codes(code)[0]: (level, error) for code, level, error, _ in rows(header)} == expected


def test_the_queries_of_the_page_ask_for_metrics_and_attributes_that_there_are() -> None:
    queries = PAGE.partition("```promql\n")[2].partition("```")[0]
    known, measured, _ = tables()
    suffixes = {"counter": "_total", "up-down counter": "", "histogram": "_seconds_bucket"}
    metrics = {f"{name.replace('.', '_')}{suffixes[kind]}" for name, (kind, _, _) in measured.items()}
    assert set(re.findall(r"(marketplace_\w+)(?=[{[])", queries)) == metrics
    values = {name.replace(".", "_"): values for name, values in values_of_the_page().items()}
    values["marketplace_outcome"] = set(known)
    asked = re.findall(r'[{,] ?(\w+)!?="(\w*)"', queries)
    assert asked
    assert [(label, value) for label, value in asked if value and value not in values[label]] == []
    assert {label for label, _ in asked} <= values.keys()
