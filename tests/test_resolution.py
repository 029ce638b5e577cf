import asyncio
import gc
import threading
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from starlette_marketplace import (
    AwsUnavailableError,
    DeadlineExceededError,
    ExpiredTokenError,
    InvalidTokenError,
    MarketplaceCustomer,
    MarketplaceError,
    MarketplaceSettings,
    OverloadedError,
    UnavailableError,
)
from starlette_marketplace.resolution import Resolutions, SharedCache
from tests.fakes import CUSTOMER, FakeResolver, FakeTimer

pytestmark = pytest.mark.anyio

Make = Callable[..., Resolutions]


@pytest.fixture
def make() -> Iterator[Make]:
    made = []

    def resolutions(
        resolver: FakeResolver,
        *,
        timer: FakeTimer | None = None,
        shared_cache: SharedCache | None = None,
        **settings: float | str,
    ) -> Resolutions:
        values = {"secret_key": "k" * 32, "product_codes": "*"} | settings
        given = MarketplaceSettings(**values)  # type: ignore[arg-type]  # a mixture of types
        made.append(Resolutions(given, resolver, shared_cache, timer=timer or FakeTimer()))
        return made[-1]

    yield resolutions
    for each in made:
        each.close()


async def call_made(resolver: FakeResolver) -> None:
    await anyio.to_thread.run_sync(resolver.called.acquire)


async def outcome(resolutions: Resolutions, token: str = "good") -> MarketplaceCustomer | MarketplaceError:
    try:
        return await resolutions.resolve(token)
    except MarketplaceError as error:
        return error


async def test_a_success_is_kept_for_its_time_and_not_longer(make: Make) -> None:
    resolver, timer = FakeResolver(), FakeTimer()
    resolutions = make(resolver, timer=timer, cache_ttl=300)
    for later in (0.0, 299.9):
        timer.now += later
        assert await resolutions.resolve("good") == CUSTOMER
    assert resolver.calls["good"] == 1
    timer.now += 0.2
    assert await resolutions.resolve("good") == CUSTOMER
    assert resolver.calls["good"] == 2


@pytest.mark.parametrize("verdict", [InvalidTokenError, ExpiredTokenError])
async def test_a_verdict_on_the_token_is_kept_for_a_minute(make: Make, verdict: type[MarketplaceError]) -> None:
    resolver, timer = FakeResolver({"bad": verdict("AWS said no")}), FakeTimer()
    resolutions = make(resolver, timer=timer)
    for later in (0.0, 59.9):
        timer.now += later
        with pytest.raises(verdict, match="AWS said no"):
            await resolutions.resolve("bad")
    assert resolver.calls["bad"] == 1
    timer.now += 0.2
    with pytest.raises(verdict):
        await resolutions.resolve("bad")
    assert resolver.calls["bad"] == 2


async def test_our_own_failures_are_not_kept(make: Make) -> None:
    resolver = FakeResolver({"good": AwsUnavailableError("down")})
    resolutions = make(resolver)
    with pytest.raises(AwsUnavailableError):
        await resolutions.resolve("good")
    resolver.answers = {"good": CUSTOMER}
    assert await resolutions.resolve("good") == CUSTOMER


async def test_what_a_resolver_raises_by_mistake_reaches_the_caller_and_is_not_kept(make: Make) -> None:
    resolver = FakeResolver({"good": ZeroDivisionError("a bug")})
    resolutions = make(resolver)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await resolutions.resolve("good")
    resolver.answers = {"good": CUSTOMER}
    assert await resolutions.resolve("good") == CUSTOMER


async def test_without_a_cache_those_who_come_together_still_share_a_call(make: Make) -> None:
    resolver = FakeResolver()
    resolutions = make(resolver, cache_ttl=0)
    async with anyio.create_task_group() as tasks:
        with resolver.held():
            for _ in range(3):
                tasks.start_soon(resolutions.resolve, "good")
            await call_made(resolver)
    assert resolver.calls["good"] == 1
    await resolutions.resolve("good")
    assert resolver.calls["good"] == 2


async def test_different_tokens_do_not_wait_for_each_other(make: Make) -> None:
    other = MarketplaceCustomer(aws_account_id="210987654321", product_code="p", license_arn="arn:other")

    class OneHangs(FakeResolver):
        def resolve(self, token: str) -> MarketplaceCustomer:
            return super().resolve(token) if token == "good" else other

    resolver = OneHangs()
    resolutions = make(resolver)
    async with anyio.create_task_group() as tasks:
        with resolver.held():
            tasks.start_soon(resolutions.resolve, "good")
            assert await resolutions.resolve("other") == other


async def test_the_deadline_ends_the_waiting_and_not_the_call(make: Make) -> None:
    resolver = FakeResolver()
    resolutions = make(resolver, deadline=0.05)
    with resolver.held(), pytest.raises(DeadlineExceededError, match=r"no answer within 0\.05 s"):
        await resolutions.resolve("good")
    while isinstance(await outcome(resolutions), DeadlineExceededError):
        await anyio.lowlevel.checkpoint()
    assert resolver.calls["good"] == 1


async def test_whoever_leaves_the_resolution_is_kept(make: Make) -> None:
    resolver = FakeResolver()
    resolutions = make(resolver)
    with resolver.held():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(resolutions.resolve, "good")
            await call_made(resolver)
            tasks.cancel_scope.cancel()
    assert await resolutions.resolve("good") == CUSTOMER
    assert resolver.calls["good"] == 1


async def test_too_many_are_refused_at_once_and_then_it_recovers(make: Make) -> None:
    resolver = FakeResolver(dict.fromkeys("abcdef", CUSTOMER))
    resolutions = make(resolver, max_concurrency=2, max_waiting=3)
    results: dict[str, MarketplaceCustomer | MarketplaceError] = {}

    async def resolve(token: str) -> None:
        results[token] = await outcome(resolutions, token)

    async with anyio.create_task_group() as tasks:
        with resolver.held():
            for token in "abcdef":
                tasks.start_soon(resolve, token)
            for _ in range(2):
                await call_made(resolver)
            while not results:
                await anyio.lowlevel.checkpoint()
            [refused] = results
            assert isinstance(results[refused], OverloadedError)
            joined = next(token for token in "abcdef" if token != refused)
            tasks.start_soon(resolve, joined)
            await anyio.lowlevel.checkpoint()
            assert list(results) == [refused], "who joins a resolution under way is not refused"
            assert resolver.calls.total() == 2
    assert [result for result in results.values() if result != CUSTOMER] == [results[refused]]
    assert await outcome(resolutions, refused) == CUSTOMER


async def test_what_everyone_has_given_up_on_before_it_began_does_not_ask_aws(make: Make) -> None:
    resolver, timer = FakeResolver(dict.fromkeys("ab", CUSTOMER)), FakeTimer()
    resolutions = make(resolver, timer=timer, max_concurrency=1, deadline=10)
    results = {}

    async def resolve(token: str) -> None:
        results[token] = await outcome(resolutions, token)

    async with anyio.create_task_group() as tasks:
        with resolver.held():
            tasks.start_soon(resolve, "a")
            await call_made(resolver)
            tasks.start_soon(resolve, "b")
            await anyio.wait_all_tasks_blocked()
            timer.now += 10.1
    assert results["a"] == CUSTOMER
    assert isinstance(results["b"], OverloadedError)
    assert resolver.calls == {"a": 1}


async def test_who_joins_later_keeps_a_waiting_resolution_wanted(make: Make) -> None:
    resolver, timer = FakeResolver(dict.fromkeys("ab", CUSTOMER)), FakeTimer()
    resolutions = make(resolver, timer=timer, max_concurrency=1, deadline=10)
    results = []

    async def resolve(token: str) -> None:
        results.append(await outcome(resolutions, token))

    async with anyio.create_task_group() as tasks:
        with resolver.held():
            tasks.start_soon(resolve, "a")
            await call_made(resolver)
            for _ in range(2):
                tasks.start_soon(resolve, "b")
                await anyio.wait_all_tasks_blocked()
                timer.now += 6
    assert results == [CUSTOMER] * 3


async def test_the_cache_is_bounded(make: Make) -> None:
    resolver = FakeResolver({f"good-{number}": CUSTOMER for number in range(20)})
    resolutions = make(resolver, cache_size=5)
    for number in range(20):
        await outcome(resolutions, f"good-{number}")
        await outcome(resolutions, f"junk-{number}")
    calls = resolver.calls.total()
    for number in range(20):
        await outcome(resolutions, f"good-{number}")
    assert resolver.calls.total() > calls
    assert len(resolutions._outcomes) <= 5


async def test_a_kept_verdict_keeps_neither_traceback_nor_cause_alive(make: Make) -> None:
    class CauseError(Exception):
        pass

    class Refusing:
        calls = 0

        def resolve(self, token: str) -> MarketplaceCustomer:
            self.calls += 1
            cause = CauseError("from botocore")
            causes.add(cause)
            raise InvalidTokenError("no") from cause

    causes: weakref.WeakSet[CauseError] = weakref.WeakSet()
    resolver = Refusing()
    resolutions = make(resolver)
    lengths = []
    for _ in range(3):
        try:
            await resolutions.resolve("bad")
        except InvalidTokenError as error:
            lengths.append(len(traceback.extract_tb(error.__traceback__)))
            if not isinstance(error.__cause__, CauseError):
                assert len(lengths) > 1, "the first caller sees the cause"
    assert resolver.calls == 1
    assert lengths[1] == lengths[2], "tracebacks do not gather"
    gc.collect()
    assert not causes


async def test_an_error_of_the_hosts_own_kind_is_raised_and_kept_as_it_is(make: Make) -> None:
    class BlockedError(InvalidTokenError):
        def __init__(self, reason: str, *, list_number: int) -> None:
            super().__init__(reason)
            self.list_number = list_number

    resolver = FakeResolver({"bad": BlockedError("on a list", list_number=7)})
    resolutions = make(resolver)
    for _ in range(2):
        with pytest.raises(BlockedError, match="on a list") as caught:
            await resolutions.resolve("bad")
        assert caught.value.list_number == 7
    assert resolver.calls["bad"] == 1


async def test_callers_of_one_resolution_get_an_error_each(make: Make) -> None:
    resolver = FakeResolver({"bad": InvalidTokenError("no")})
    resolutions = make(resolver)
    errors = []

    async def resolve() -> None:
        errors.append(await outcome(resolutions, "bad"))

    async with anyio.create_task_group() as tasks:
        with resolver.held():
            for _ in range(3):
                tasks.start_soon(resolve)
            await call_made(resolver)
    assert len({id(error) for error in errors}) == 3
    assert resolver.calls["bad"] == 1


async def test_closing_refuses_what_waits_and_a_later_start_works(make: Make) -> None:
    resolver = FakeResolver(dict.fromkeys("ab", CUSTOMER))
    resolutions = make(resolver, max_concurrency=1)
    results = {}

    async def resolve(token: str) -> None:
        results[token] = await outcome(resolutions, token)

    async with anyio.create_task_group() as tasks:
        with resolver.held():
            tasks.start_soon(resolve, "a")
            await call_made(resolver)
            tasks.start_soon(resolve, "b")
            await anyio.wait_all_tasks_blocked()
            resolutions.close()
            resolutions.close()
    assert results["a"] == CUSTOMER, "a call under way ends by itself"
    assert str(results["b"]) == "the server is shutting down"
    assert type(results["b"]) is UnavailableError
    assert await resolutions.resolve("b") == CUSTOMER


async def test_a_thread_that_cannot_be_started_is_too_much_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    resolutions = make(FakeResolver())

    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        error = await outcome(resolutions)
    assert type(error) is OverloadedError
    assert "can't start new thread" in str(error)
    assert await resolutions.resolve("good") == CUSTOMER


async def test_run_raises_what_the_function_raises(make: Make) -> None:
    def fails() -> None:
        raise ZeroDivisionError(threading.current_thread().name)

    with pytest.raises(ZeroDivisionError, match="starlette-marketplace"):
        await make(FakeResolver()).run(fails)


# Shared with other workers


class FakeSharedCache:
    """A cache on another machine: a store and a lock for each key."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.ttls: set[float] = set()
        self.fails: set[str] = set()
        self.used: Counter[str] = Counter()
        self._locks: dict[str, threading.Lock] = {}

    def _use(self, operation: str) -> None:
        self.used[operation] += 1
        if operation in self.fails:
            raise ConnectionError(f"{operation}: the cache is down")

    def get(self, key: str) -> str | None:
        self._use("get")
        return self.values.get(key)

    def set(self, key: str, value: str, ttl: float) -> None:
        self._use("set")
        self.values[key] = value
        self.ttls.add(ttl)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        self._use("lock")
        with self._locks.setdefault(key, threading.Lock()):
            yield
        self._use("unlock")


async def test_two_workers_with_a_shared_cache_ask_once(make: Make) -> None:
    resolver, cache = FakeResolver(), FakeSharedCache()
    workers = [make(resolver, shared_cache=cache, cache_ttl=120) for _ in range(2)]
    async with anyio.create_task_group() as tasks:
        with resolver.held():
            for worker in workers:
                tasks.start_soon(worker.resolve, "good")
            await call_made(resolver)
    assert resolver.calls["good"] == 1
    assert await make(resolver, shared_cache=cache).resolve("good") == CUSTOMER
    assert resolver.calls["good"] == 1
    assert cache.ttls == {120}
    assert "good" not in str(cache.values)


async def test_a_verdict_is_not_shared(make: Make) -> None:
    cache = FakeSharedCache()
    assert isinstance(await outcome(make(FakeResolver(), shared_cache=cache), "bad"), InvalidTokenError)
    assert cache.used == {"get": 2, "lock": 1, "unlock": 1}


async def test_without_a_cache_nothing_is_shared_either(make: Make) -> None:
    cache = FakeSharedCache()
    await make(FakeResolver(), shared_cache=cache, cache_ttl=0).resolve("good")
    assert not cache.used


@pytest.mark.parametrize("operation", ["get", "set", "lock", "unlock"])
async def test_a_failing_shared_cache_is_logged_and_passed_over(
    make: Make, caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    cache = FakeSharedCache()
    cache.fails = {operation}
    assert await make(FakeResolver(), shared_cache=cache).resolve("good") == CUSTOMER
    assert cache.used[operation] > 0
    assert f"The shared cache failed and was passed over: {operation}" in caplog.text
    assert "the cache is down" in str(caplog.records[0].__dict__["reason"])


async def test_the_keys_of_a_shared_cache_tell_nothing_without_the_secret_key(make: Make) -> None:
    first, second = FakeSharedCache(), FakeSharedCache()
    await make(FakeResolver(), shared_cache=first).resolve("good")
    await make(FakeResolver(), shared_cache=second, secret_key="another" * 8).resolve("good")
    assert first.values.keys().isdisjoint(second.values.keys())
    assert "good" not in str(first.values)


async def test_a_shared_value_that_is_forged_or_moved_is_not_believed(make: Make) -> None:
    resolver, cache = FakeResolver({"good": CUSTOMER, "mine": CUSTOMER}), FakeSharedCache()
    await make(resolver, shared_cache=cache).resolve("good")
    [(key, value)] = cache.values.items()

    await make(resolver, shared_cache=cache).resolve("mine")
    [other] = cache.values.keys() - {key}
    cache.values = {key: "x" + value, other: value}
    assert isinstance(await make(resolver, shared_cache=cache).resolve("mine"), MarketplaceCustomer)
    assert await make(resolver, shared_cache=cache).resolve("good") == CUSTOMER
    assert resolver.calls == {"good": 2, "mine": 2}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_loop_that_has_gone_is_no_trouble_for_the_others(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    resolver = FakeResolver()
    resolutions = make(resolver)

    def leave() -> None:
        async def start_and_leave() -> None:
            with anyio.move_on_after(0.01):
                await resolutions.resolve("good")

        asyncio.run(start_and_leave())

    async with anyio.create_task_group() as tasks:
        with resolver.held():
            await anyio.to_thread.run_sync(leave)
            tasks.start_soon(resolutions.resolve, "good")
            await call_made(resolver)
    assert await resolutions.resolve("good") == CUSTOMER
    assert resolver.calls["good"] == 1
    assert not caplog.records
