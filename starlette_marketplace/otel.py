"""`OpenTelemetry`: spans and metrics by the OpenTelemetry API, for hosts that have it installed.

The names and their meaning are in docs/observability.md. Attributes hold neither token nor account nor product.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

from opentelemetry import context, metrics, trace

from ._version import __version__
from .errors import MarketplaceError, TokenError
from .telemetry import Outcome, Telemetry

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
            "marketplace.resolutions.active", "{resolution}", "Resolutions that run, or wait for a thread"
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
        with self._span("marketplace.registration") as span:
            try:
                yield outcome
            except Exception:
                outcome.is_failure = True
                raise
            finally:
                span.set_attribute("marketplace.outcome", outcome.code)
                if outcome.is_failure:
                    span.set_status(trace.StatusCode.ERROR, outcome.code)
                self._registrations.add(1, {"marketplace.outcome": outcome.code})

    def looked_up(self, result: Lookup) -> None:
        """Counted, and an attribute of the registration's span."""
        trace.get_current_span().set_attribute("marketplace.lookup", result)
        self._lookups.add(1, {"marketplace.lookup": result})

    def carried(self, function: Callable[..., R]) -> Callable[..., R]:
        """`function` in the context that is current now."""
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
            with self._span("marketplace.resolution"):
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
        outcome = "RESOLVED"
        began = time.perf_counter()
        with self._span("marketplace.resolve_customer") as span:
            try:
                yield
            except MarketplaceError as error:
                outcome = error.code
                if not isinstance(error, TokenError):
                    span.set_status(trace.StatusCode.ERROR, outcome)
                raise
            except Exception:
                outcome = "UNEXPECTED"
                span.set_status(trace.StatusCode.ERROR, outcome)
                raise
            finally:
                span.set_attribute("marketplace.outcome", outcome)
                self._calls.record(time.perf_counter() - began, {"marketplace.outcome": outcome})

    @contextmanager
    def _span(self, name: str) -> Iterator[trace.Span]:
        # The text of an exception stays out of the span: that of a resolver or hook of the host may quote a buyer.
        with self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
            yield span


_WAITING = {"marketplace.state": "waiting"}
_RUNNING = {"marketplace.state": "running"}
