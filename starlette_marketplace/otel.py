"""`OpenTelemetry`: spans and metrics by the OpenTelemetry API, for hosts that have it installed.

The names and their meaning are in docs/observability.md. Attributes hold neither token nor account nor product.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial, wraps
from typing import TYPE_CHECKING, TypeVar

# Not from the package itself: that is there without the API too, when another distribution puts something into it.
import opentelemetry.context as context
import opentelemetry.metrics as metrics
import opentelemetry.trace as trace
from starlette.requests import ClientDisconnect

from ._version import __version__
from .errors import MarketplaceError
from .telemetry import Outcome, Telemetry

if "explicit_bucket_boundaries_advisory" not in inspect.signature(metrics.Meter.create_histogram).parameters:
    raise ImportError("opentelemetry-api 1.30 is needed: pip install 'starlette-marketplace[opentelemetry]'")

if TYPE_CHECKING:
    from .telemetry import Lookup, SharedLookup

R = TypeVar("R")

_SCOPE = "starlette_marketplace"


class OpenTelemetry(Telemetry):
    """Tells the tracer and meter providers of the process, whichever and whenever they are set."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer(_SCOPE, __version__)
        meter = metrics.get_meter(_SCOPE, __version__)
        self._registrations = meter.create_counter(
            "marketplace.registrations", "{registration}", "Registration POSTs by their outcome"
        )
        self._lookups = meter.create_counter(
            "marketplace.lookups", "{lookup}", "Where the outcome of a token came from"
        )
        self._shared_lookups = meter.create_counter(
            "marketplace.shared_cache.lookups", "{lookup}", "What the shared cache answered"
        )
        self._resolutions = meter.create_up_down_counter(
            "marketplace.active_resolutions", "{resolution}", "Resolutions that run, or wait for a thread"
        )
        self._calls = meter.create_histogram(
            "marketplace.resolve_customer.duration",
            "s",
            "Calls to AWS, retries included",
            explicit_bucket_boundaries_advisory=[0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 20],
        )

    @contextmanager
    def registration(self) -> Iterator[Outcome]:
        """A span, and the count of outcomes."""
        outcome = Outcome()
        with self._span("marketplace.registration", outcome, partial(self._registrations.add, 1)):
            yield outcome

    def looked_up(self, result: Lookup) -> None:
        """Counted, and an attribute of the registration's span."""
        trace.get_current_span().set_attribute("marketplace.lookup", result)
        self._lookups.add(1, {"marketplace.lookup": result})

    def carried(self, function: Callable[..., R]) -> Callable[..., R]:
        """`function` in the context that is current now."""
        if _is_idle():
            return function
        current = context.get_current()

        @wraps(function)
        def carried(*args: object) -> R:
            token = context.attach(current)
            try:
                return function(*args)
            finally:
                context.detach(token)

        return carried

    def queued(self) -> None:
        """One more waits."""
        self._resolutions.add(1, _WAITING)

    @contextmanager
    def resolution(self) -> Iterator[None]:
        """A span, and one less that waits and one more that runs."""
        self._resolutions.add(-1, _WAITING)
        self._resolutions.add(1, _RUNNING)
        try:
            with self._resolving("marketplace.resolution"):
                yield
        finally:
            self._resolutions.add(-1, _RUNNING)

    def cancelled(self) -> None:
        """One less waits."""
        self._resolutions.add(-1, _WAITING)

    def looked_up_shared(self, result: SharedLookup) -> None:
        """Counted, and an attribute of the resolution's span."""
        trace.get_current_span().set_attribute("marketplace.shared_cache", result)
        self._shared_lookups.add(1, {"marketplace.shared_cache": result})

    @contextmanager
    def call(self) -> Iterator[None]:
        """A span, and the time that it took by its outcome."""
        began = time.perf_counter()

        def record(ended: dict[str, str]) -> None:
            self._calls.record(time.perf_counter() - began, ended)

        with self._resolving("marketplace.resolve_customer", record):
            yield

    @contextmanager
    def _resolving(self, name: str, record: Callable[[dict[str, str]], None] | None = None) -> Iterator[None]:
        outcome = Outcome()
        with self._span(name, outcome, record):
            yield
            outcome.code = "RESOLVED"

    @contextmanager
    def _span(self, name: str, outcome: Outcome, record: Callable[[dict[str, str]], None] | None) -> Iterator[None]:
        """A span that tells how it ended; `record` is given the same attributes."""
        ended: dict[str, str] = {}
        if _is_idle():
            opened: AbstractContextManager[trace.Span] = nullcontext(trace.INVALID_SPAN)
        else:
            # The text of an exception stays out of the span: that of a host's own resolver or hook may quote a buyer.
            opened = self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False)
        with opened as span:
            try:
                yield
            except MarketplaceError as error:
                outcome.code, outcome.is_failure = error.code, error.status >= 500
                raise
            except ClientDisconnect:
                raise
            except Exception as exc:
                outcome.is_failure = True
                ended["error.type"] = type(exc).__qualname__
                raise
            finally:
                ended["marketplace.outcome"] = outcome.code
                if outcome.is_failure:
                    ended.setdefault("error.type", outcome.code)
                    span.set_status(trace.StatusCode.ERROR)
                span.set_attributes(ended)
                if record is not None:
                    record(ended)


def _is_idle() -> bool:
    """Whether nobody has set a provider. Spans that go nowhere are a tenth of what a cached registration costs."""
    return isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


_WAITING = {"marketplace.state": "waiting"}
_RUNNING = {"marketplace.state": "running"}
