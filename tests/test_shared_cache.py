import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import anyio
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
from starlette_marketplace.resolution import Resolutions
from starlette_marketplace.shared_cache import SharedResolver
from tests.fakes import CUSTOMER, FakeResolver, FakeTimer


class FakeSharedCache:
    """A cache on another machine: a store, and a lock for each key."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.ttls: list[float] = []
        self.fails: set[str] = set()
        self.used: Counter[str] = Counter()
        self._locks: dict[str, threading.Lock] = {}

    def _use(self, operation: str) -> None:
        self.used[operation] += 1
        if operation in self.fails:
            raise ConnectionError("redis://:hunter2@cache.example is down")

    def get(self, key: str) -> str | None:
        self._use("get")
        return self.values.get(key)

    def set(self, key: str, value: str, ttl: float) -> None:
        self._use("set")
        self.values[key] = value
        self.ttls.append(ttl)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        self._use("lock")
        with self._locks.setdefault(key, threading.Lock()):
            yield
        self._use("unlock")


def worker(
    resolver: FakeResolver,
    cache: FakeSharedCache,
    *,
    timer: Callable[[], float] | None = None,
    clock: Callable[[], float] | None = None,
    **settings: float | str,
) -> SharedResolver:
    values = {"secret_key": "k" * 32, "product_codes": "*"} | settings
    given = MarketplaceSettings(**values)  # type: ignore[arg-type]  # a mixture of types
    return SharedResolver(resolver, cache, given, timer=timer or FakeTimer(), clock=clock or FakeTimer())


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
    worker(resolver, cache, endpoint_url="http://localhost:8001").resolve("good")
    [value] = cache.values.values()
    production = worker(resolver, cache)
    production.resolve("good")
    assert resolver.calls["good"] == 2
    assert len(cache.values) == 2
    # Nor is a value of the one believed under the key of the other.
    for key in cache.values:
        cache.values[key] = value
    production.resolve("good")
    assert resolver.calls["good"] == 3


def test_a_value_that_is_put_back_after_its_time_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    resolver, cache, clock = FakeResolver(), FakeSharedCache(), FakeTimer()
    ours = worker(resolver, cache, clock=clock, cache_ttl=300.0)
    for age, calls in ((0.0, 1), (299.0, 1), (301.0, 2)):
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


class LocalVariables(logging.Handler):
    """What an error tracker sends along with a log line: the local variables of every frame below it."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.shown = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            self.shown += f"{frame.f_code.co_qualname} {frame.f_locals!r}\n"


def test_no_log_line_comes_from_frames_that_hold_the_token() -> None:
    token, handler = "good-secret-token", LocalVariables()
    resolver, cache, timer = FakeResolver({token: CUSTOMER}), FakeSharedCache(), FakeTimer()
    settings = MarketplaceSettings(secret_key="k" * 32, product_codes="*", cache_ttl=0.001)
    logger = logging.getLogger("starlette_marketplace")
    logger.addHandler(handler)
    try:
        for operation in ("get", "set", "lock", "unlock", None):
            cache.fails = {operation} if operation else set()
            shared = SharedResolver(resolver, cache, settings, timer=timer)
            anyio.run(Resolutions(settings, shared, timer=timer).resolve, token)
            if operation:
                # It works again.
                cache.fails.clear()
                timer.now += 60
                anyio.run(Resolutions(settings, shared, timer=timer).resolve, token)
            for key in cache.values:
                cache.values[key] = "of nobody"
    finally:
        logger.removeHandler(handler)
    assert sum("failed at" in message for message in handler.messages) == 4
    assert any("works again" in message for message in handler.messages)
    assert any("was not written by this application" in message for message in handler.messages)
    assert "SharedResolver.resolve" in handler.shown
    assert "HiddenToken()" in handler.shown
    assert token not in handler.shown
