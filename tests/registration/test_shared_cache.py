import logging
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import product

import pytest

from starlette_marketplace import (
    AwsUnavailableError,
    ExpiredTokenError,
    InvalidTokenError,
    MarketplaceCustomer,
    MarketplaceError,
    MarketplaceSettings,
)
from starlette_marketplace.keys import Keys
from starlette_marketplace.registration.resolution import Resolutions
from starlette_marketplace.registration.resolver import CheckedResolver
from starlette_marketplace.registration.shared_cache import SharedResolver
from starlette_marketplace.telemetry import Telemetry
from tests.support.fakes import CUSTOMER, FakeResolver, FakeTimer
from tests.support.shared_cache import BrokenOff, FakeSharedCache, worker

OTHER = replace(CUSTOMER, aws_account_id="999999999999")


def outcome(resolver: SharedResolver, token: str) -> MarketplaceCustomer | MarketplaceError:
    try:
        return resolver.resolve(token)
    except MarketplaceError as error:
        return error


def test_workers_ask_once_for_a_token_at_the_same_time_and_later() -> None:
    resolver, cache = FakeResolver(), FakeSharedCache()
    with ThreadPoolExecutor(2) as threads:
        with resolver.held():
            answers: list[Future[MarketplaceCustomer]] = [
                threads.submit(worker(resolver, cache).resolve, "good") for _ in range(2)
            ]
            resolver.called.acquire()
        assert [answer.result() for answer in answers] == [CUSTOMER] * 2
    assert worker(resolver, cache).resolve("good") == CUSTOMER
    assert resolver.calls == {"good": 1}


@pytest.mark.parametrize("verdict", [InvalidTokenError, ExpiredTokenError])
def test_a_verdict_on_a_token_is_shared_with_its_text(verdict: type[MarketplaceError]) -> None:
    resolver, cache = FakeResolver({"bad": verdict("AWS said no")}), FakeSharedCache()
    for _ in range(2):
        with pytest.raises(verdict, match="AWS said no"):
            worker(resolver, cache).resolve("bad")
    assert resolver.calls == {"bad": 1}


def test_a_success_is_kept_for_cache_ttl_and_a_verdict_for_a_minute_at_most() -> None:
    cache = FakeSharedCache()
    for cache_ttl in (300.0, 7.0):
        for token in ("good", "bad"):
            outcome(worker(FakeResolver(), cache, cache_ttl=cache_ttl), token)
        cache.values.clear()
    assert cache.ttls == [300.0, 60.0, 7.0, 7.0]


class BlockedError(InvalidTokenError):
    """What a resolver of the host's own raises."""

    def __init__(self, *, list_number: int) -> None:
        super().__init__("blocked")
        self.list_number = list_number


@pytest.mark.parametrize("error", [AwsUnavailableError("down"), BlockedError(list_number=7), ZeroDivisionError()])
def test_another_error_is_raised_as_it_is_and_not_shared(error: Exception) -> None:
    resolver, cache = FakeResolver({"good": error}), FakeSharedCache()
    with pytest.raises(type(error)) as caught:
        worker(resolver, cache).resolve("good")
    assert caught.value is error
    assert not cache.values
    assert cache.used["unlock"] == 1
    resolver.answers = {"good": CUSTOMER}
    assert worker(resolver, cache).resolve("good") == CUSTOMER


def test_keys_and_values_tell_nothing_of_the_token_and_keys_nothing_without_the_secret_key() -> None:
    cache, other = FakeSharedCache(), FakeSharedCache()
    for token in ("good", "bad-token"):
        outcome(worker(FakeResolver(), cache), token)
        outcome(worker(FakeResolver(), other, secret_key="another" * 8), token)
    assert "good" not in str(cache.values)
    assert "bad-token" not in str(cache.values)
    assert cache.values.keys().isdisjoint(other.values.keys())


@pytest.mark.parametrize("purpose", ["session", "token", "resolution"])
def test_no_token_makes_a_key_that_something_is_signed_with(purpose: str) -> None:
    cache = FakeSharedCache()
    secret_key = "k" * 32
    signing = Keys(MarketplaceSettings(secret_key=secret_key, product_codes="*"), purpose).newest()
    for token in (purpose, f"starlette_marketplace.{purpose}", f"starlette_marketplace.{purpose}\0aws"):
        outcome(worker(FakeResolver(), cache, secret_key=secret_key), token)
    assert signing.hex() not in cache.values
    assert len(cache.values) == 3


def test_workers_that_ask_another_endpoint_share_nothing() -> None:
    resolver, cache = FakeResolver(), FakeSharedCache()
    local = worker(resolver, cache, endpoint_url="http://localhost:8001")
    local.resolve("good")
    production = worker(resolver, cache)
    production.resolve("good")
    assert resolver.calls["good"] == 2
    assert len(cache.values) == 2
    # Nor is a value that the other signs for the same key believed.
    [of_theirs, of_ours] = cache.values
    for writer, reader, key in ((local, production, of_ours), (production, local, of_theirs)):
        cache.values[key] = str(writer._serializer().dumps([key, FakeTimer().now + 60, asdict(OTHER)]))
        assert reader.resolve("good") == CUSTOMER
    assert resolver.calls["good"] == 4


def test_the_endpoint_that_the_environment_names_later_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, cache = FakeResolver(), FakeSharedCache()
    ours = worker(resolver, cache)
    ours.resolve("good")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:8001")
    ours.resolve("good")
    assert len(cache.values) == 2
    worker(resolver, cache, endpoint_url="http://localhost:8001").resolve("good")
    assert resolver.calls["good"] == 2


def test_a_value_that_is_put_back_after_its_time_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    resolver, cache, clock = FakeResolver(), FakeSharedCache(), FakeTimer()
    ours = worker(resolver, cache, clock=clock, cache_ttl=300.0)
    # The clocks of two machines may differ by 30 s.
    for age, calls in ((0.0, 1), (329.0, 1), (331.0, 2)):
        clock.now += age
        assert ours.resolve("good") == CUSTOMER
        assert resolver.calls["good"] == calls
        clock.now -= age
    assert not caplog.records


@pytest.mark.parametrize(
    "spoilt",
    [
        "",
        "nonsense",
        "{value}x",
        "{other_keys_value}",
        "{signed_by_another_key}",
        "{of_another_shape}",
        "{of_an_unknown_code}",
        "{of_a_customer_that_is_none}",
    ],
)
def test_a_value_that_is_not_ours_or_was_moved_is_not_believed_and_is_replaced(
    spoilt: str, caplog: pytest.LogCaptureFixture
) -> None:
    resolver, cache = FakeResolver({"good": CUSTOMER, "theirs": CUSTOMER}), FakeSharedCache()
    ours = worker(resolver, cache)
    ours.resolve("theirs")
    [theirs] = cache.values.values()
    cache.values.clear()
    ours.resolve("good")
    [(key, value)] = cache.values.items()

    def signed(content: object, by: SharedResolver = ours) -> str:
        return str(by._serializer().dumps([key, 2_000_000_000, content]))

    values = {
        "value": value,
        "other_keys_value": theirs,
        "signed_by_another_key": signed({}, by=worker(resolver, cache, secret_key="another" * 8)),
        "of_another_shape": signed(7),
        "of_an_unknown_code": signed(["ACCESS_DENIED", "text"]),
        "of_a_customer_that_is_none": signed({"aws_account_id": "1"}),
    }
    cache.values[key] = spoilt.format(**values)
    assert ours.resolve("good") == CUSTOMER
    assert resolver.calls["good"] == 2
    assert cache.values.keys() == {key}
    assert ours.resolve("good") == CUSTOMER
    assert resolver.calls["good"] == 2
    assert "A value in the shared cache was not written by this application" in caplog.text


@pytest.mark.parametrize("operation", ["get", "set", "lock", "unlock"])
def test_a_failing_cache_fails_no_buyer_and_its_text_is_not_logged(
    operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    resolver, cache = FakeResolver(), FakeSharedCache()
    cache.fails = {operation}
    assert worker(resolver, cache).resolve("good") == CUSTOMER
    assert resolver.calls["good"] == 1
    assert cache.used[operation] == 1
    assert f"The shared cache failed at {operation} (ConnectionError)" in caplog.text
    assert "hunter2" not in str([vars(record) for record in caplog.records])


def test_a_cache_that_is_down_is_used_and_logged_once_in_its_pause_and_comes_back_by_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    resolver, cache, timer = FakeResolver(), FakeSharedCache(), FakeTimer()
    ours = worker(resolver, cache, timer=timer)
    cache.fails = {"get", "set", "lock"}
    for _ in range(10):
        assert ours.resolve("good") == CUSTOMER
    assert cache.used == {"get": 1}
    timer.now += 4.9
    ours.resolve("good")
    assert cache.used == {"get": 1}
    timer.now += 0.2
    for _ in range(10):
        ours.resolve("good")
    assert cache.used == {"get": 2}
    assert len(caplog.records) == 1

    cache.fails = set()
    timer.now += 5.1
    calls = resolver.calls["good"]
    for _ in range(10):
        assert ours.resolve("good") == CUSTOMER
    assert resolver.calls["good"] == calls + 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "The shared cache works again" in caplog.records[1].message


@pytest.mark.parametrize("operation", ["get", "lock", "set", "unlock"])
def test_an_outage_of_one_operation_is_logged_once_however_well_those_before_it_work(
    operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    resolver, cache, timer = FakeResolver(), FakeSharedCache(), FakeTimer()
    ours = worker(resolver, cache, timer=timer)
    cache.fails = {operation}
    for _ in range(4):
        for _ in range(3):
            assert ours.resolve("good") == CUSTOMER
        cache.values.clear()
        timer.now += 5.1
    assert cache.used[operation] == 4
    assert len(caplog.records) == 1
    cache.fails = set()
    ours.resolve("good")
    assert [record.message for record in caplog.records[1:]] == ["The shared cache works again"]
    ours.resolve("good")
    assert len(caplog.records) == 2


def test_what_began_before_an_outage_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    resolver, cache = FakeResolver({"slow": CUSTOMER, "good": CUSTOMER}), FakeSharedCache()
    ours = worker(resolver, cache)
    with ThreadPoolExecutor(1) as threads, resolver.held():
        slow = threads.submit(ours.resolve, "slow")
        resolver.called.acquire()
        cache.fails = {"get"}
        resolver.release()
        ours.resolve("good")
        cache.fails = set()
        assert slow.result() == CUSTOMER
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "The shared cache failed at get (ConnectionError)"
    ]


def test_while_one_buyer_tries_a_cache_that_was_down_the_others_pass_it_over() -> None:
    resolver, cache, timer = FakeResolver(), FakeSharedCache(), FakeTimer()
    ours = worker(resolver, cache, timer=timer)
    cache.fails = {"get"}
    ours.resolve("good")
    timer.now += 5.1
    tried, may_end = threading.Event(), threading.Event()

    def hang(_: str) -> str | None:
        cache.used["hang"] += 1
        tried.set()
        may_end.wait(60)
        return None

    cache.get = hang  # type: ignore[method-assign,assignment]
    with ThreadPoolExecutor(1) as threads:
        trying = threads.submit(ours.resolve, "good")
        tried.wait(60)
        assert ours.resolve("good") == CUSTOMER
        assert cache.used["hang"] == 1
        may_end.set()
        assert trying.result() == CUSTOMER


def test_connecting_uses_the_cache_and_asks_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    resolver, cache = FakeResolver(), FakeSharedCache()
    cache.fails = {"get"}
    worker(resolver, cache).connect()
    assert cache.used == {"get": 1}
    assert not resolver.calls
    assert "The shared cache failed at get" in caplog.text


class Frames(logging.Handler):
    """Sees what an error tracker sends along with a log line: the variables of each frame, and of each exception's."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage().partition(":")[0])
        self.look()

    def look(self) -> None:
        frame = sys._getframe(1)
        while not frame.f_globals["__name__"].startswith("_pytest") and frame.f_back is not None:
            self._look_into(frame.f_locals)
            frame = frame.f_back
        exc = sys.exception()
        while exc is not None:
            for each, _ in traceback.walk_tb(exc.__traceback__):
                self._look_into(each.f_locals)
            exc = exc.__cause__ or exc.__context__

    def _look_into(self, variables: Mapping[str, object]) -> None:
        for value in variables.values():
            if value is not self:
                parts = value, getattr(value, "__dict__", None), getattr(value, "args", None)
                self.seen += map(repr, parts)


@contextmanager
def watched() -> Iterator[Frames]:
    logger, frames = logging.getLogger("starlette_marketplace"), Frames()
    logger.addHandler(frames)
    try:
        yield frames
    finally:
        logger.removeHandler(frames)


@dataclass
class LoggingCache(FakeSharedCache):
    """A cache that logs its failures by itself, and what they came from."""

    frames: Frames

    def __post_init__(self) -> None:
        super().__init__()

    def _use(self, operation: str) -> None:
        try:
            super()._use(operation)
        except ConnectionError:
            self.frames.look()
            raise


TOKEN = "secret-token-0123456789"


KEPT = [CUSTOMER, InvalidTokenError("no")]
NOT_KEPT = [AwsUnavailableError("down"), ZeroDivisionError()]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("operation", "answer"),
    [*product(("get", "lock", "set", "unlock"), KEPT), *product(("get", "lock", "unlock"), NOT_KEPT)],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_no_frame_from_the_thread_to_the_log_holds_the_token(
    operation: str, answer: MarketplaceCustomer | Exception
) -> None:
    class Raising:
        """Its frame, with the token, stays in the traceback of what it raises."""

        def resolve(self, token: str) -> MarketplaceCustomer:
            if isinstance(answer, Exception):
                raise answer
            return answer

    timer = FakeTimer()
    settings = MarketplaceSettings(secret_key="k" * 32, product_codes="*")
    with watched() as frames:
        cache = LoggingCache(frames)
        telemetry = Telemetry()
        shared = SharedResolver(CheckedResolver(Raising(), settings, telemetry), cache, settings, timer=timer)
        resolutions = Resolutions(replace(settings, cache_ttl=0.001), shared, telemetry=telemetry, timer=timer)
        cache.fails = {operation}
        for _ in range(2):
            with suppress(MarketplaceError, ZeroDivisionError):
                await resolutions.resolve(TOKEN)
            cache.fails = set()
            cache.values = dict.fromkeys(cache.values, "of others")
            timer.now += 6
        resolutions.pool.close()
    assert TOKEN not in "".join(frames.seen)
    assert frames.messages[0] == f"The shared cache failed at {operation} (ConnectionError)"
    assert frames.messages[-1] == "The shared cache works again"


def test_the_text_of_a_failure_is_in_no_frame_when_it_is_logged() -> None:
    cache = FakeSharedCache()
    ours = worker(FakeResolver(), cache)
    with watched() as frames:
        cache.fails = {"get"}
        ours.resolve("good")
    assert len(frames.messages) == 1
    assert "hunter2" not in "".join(frames.seen)


@pytest.mark.parametrize("operation", ["get", "lock", "set", "unlock"])
def test_a_cache_that_hangs_for_longer_than_a_buyer_waits_takes_no_more_threads(
    operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    resolver, cache, timer = FakeResolver(), FakeSharedCache(), FakeTimer()
    ours = worker(resolver, cache, timer=timer, deadline=12.0)
    hangs, may_end = threading.Semaphore(0), threading.Event()
    use = cache._use

    def hang(used: str) -> None:
        use(used)
        if used == operation:
            hangs.release()
            may_end.wait(60)

    cache._use = hang  # type: ignore[assignment,method-assign]
    with ThreadPoolExecutor(2) as threads:
        stuck = threads.submit(ours.resolve, "good")
        assert hangs.acquire(timeout=60)
        timer.now += 11.9
        assert not caplog.records
        for seconds in (0.2, 6.0, 6.0):
            timer.now += seconds
            cache.values.clear()
            assert ours.resolve("good") == CUSTOMER
        assert cache.used[operation] == 1
        [record] = caplog.records
        assert record.getMessage().startswith(f"The shared cache failed at {operation} (TimeoutError)")
        may_end.set()
        assert stuck.result(60) == CUSTOMER
    timer.now += 6.0
    cache.values.clear()
    ours.resolve("good")
    assert [record.message for record in caplog.records[1:]] == ["The shared cache works again"]


FORKING = """
import os, threading, warnings
from starlette_marketplace import MarketplaceSettings
from starlette_marketplace.registration.shared_cache import SharedResolver
from tests.support.fakes import FakeResolver
from tests.support.shared_cache import FakeSharedCache

warnings.simplefilter("ignore")  # that a process with threads forks
ours = SharedResolver(FakeResolver(), FakeSharedCache(), MarketplaceSettings(secret_key="k" * 32, product_codes="*"))
held = threading.Event()

def hold():
    with ours._breaker._lock:
        held.set()
        threading.Event().wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
if os.fork() == 0:
    print(ours.resolve("good").key, flush=True)
    os._exit(0)
os.wait()
os._exit(0)
"""


def test_a_child_uses_the_cache_although_a_thread_of_its_parent_held_the_lock() -> None:
    ended = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == (f"{CUSTOMER.key}\n", "")


def test_a_customer_without_a_license_that_another_worker_has_shared_is_not_enough_for_this_one() -> None:
    legacy = replace(CUSTOMER, license_arn=None, customer_identifier="c-1")
    resolver, cache = FakeResolver({"good": legacy}), FakeSharedCache()
    assert worker(resolver, cache).resolve("good") == legacy
    resolver.answers = {"good": CUSTOMER}
    assert worker(resolver, cache, legacy_product_codes="none").resolve("good") == CUSTOMER


def test_a_call_that_is_broken_off_is_not_taken_for_one_that_hangs() -> None:
    cache, timer = FakeSharedCache(), FakeTimer()
    ours = worker(FakeResolver(), cache, timer=timer)
    cache.breaks_off = True
    with pytest.raises(BrokenOff):
        ours.resolve("good")
    cache.breaks_off = False
    timer.now += 10_000
    ours.resolve("good")
    assert cache.used["set"] == 1
