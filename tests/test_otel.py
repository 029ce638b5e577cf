import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
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
from opentelemetry.trace import StatusCode
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response

from starlette_marketplace import Marketplace, MarketplaceMiddleware, MarketplaceSettings
from starlette_marketplace.hooks import RegistrationRequested, RegistrationResolved
from starlette_marketplace.local import LocalMarketplace
from tests.fakes import CUSTOMER, FakeResolver
from tests.hosts import LANDING, browser, form, starlette_middleware
from tests.test_shared_cache import FakeSharedCache

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
        return {span.name: span for span in self._spans.get_finished_spans()}

    def outcomes(self) -> list[tuple[object, StatusCode]]:
        return [
            ((span.attributes or {})["marketplace.outcome"], span.status.status_code)
            for span in self._spans.get_finished_spans()
            if span.name == "marketplace.registration"
        ]

    def counts(self, name: str) -> dict[str, float]:
        """What a metric has counted, by the value of its attribute; a histogram, how often."""
        return {
            value: total - self._at_first.get((metric, value), 0)
            for (metric, value), total in self._totals().items()
            if metric == name and total != self._at_first.get((metric, value), 0)
        }

    def everything(self) -> str:
        return "".join(span.to_json() for span in self._spans.get_finished_spans()) + json.dumps(self._metrics())

    def _totals(self) -> dict[tuple[str, str], float]:
        return {
            (metric["name"], *point["attributes"].values()): point.get("value", point.get("count"))
            for metric in self._metrics()
            for point in metric["data"]["data_points"]
        }

    def _metrics(self) -> list[Any]:
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
    assert resolution.attributes == {}
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
    assert watch.spans()["marketplace.resolve_customer"].status.status_code is status


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
    assert "123456789012" not in watch.everything()


async def test_a_mistake_of_a_resolver_of_the_hosts_own_is_an_error(
    watch: Watch, settings: MarketplaceSettings
) -> None:
    resolver = FakeResolver({"good": ZeroDivisionError("of the account 123456789012")})
    host = starlette_middleware(settings=settings, resolver=resolver)
    async with browser(host, raise_app_exceptions=False) as buyer:
        await buyer.post(LANDING, data=form("good"))
    assert watch.counts("marketplace.resolve_customer.duration") == {"UNEXPECTED": 1}
    assert watch.outcomes() == [("UNFINISHED", StatusCode.ERROR)]
    assert watch.spans()["marketplace.resolve_customer"].status.status_code is StatusCode.ERROR
    assert "123456789012" not in watch.everything()


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
    assert watch.counts("marketplace.resolutions.active") == {}


async def post(buyer: httpx2.AsyncClient, token: str) -> None:
    await buyer.post(LANDING, data=form(token))


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
                assert watch.counts("marketplace.resolutions.active") == {"running": 1, "waiting": 1}
        await post(buyer, "running")
    assert watch.counts("marketplace.lookups") == {"asked": 2, "joined": 2, "refused": 1, "cached": 1}
    assert watch.counts("marketplace.resolutions.active") == {}
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
            assert watch.counts("marketplace.resolutions.active") == {"running": 1, "waiting": 1}
            marketplace.shutdown()
    assert watch.counts("marketplace.resolutions.active") == {}


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
