import asyncio
import gc
import math
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait

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
from starlette_marketplace.registration.resolution import Resolutions
from starlette_marketplace.threads import CallSoon, Threads
from tests.support.fakes import CUSTOMER, FakeResolver, FakeTimer

pytestmark = pytest.mark.anyio

Make = Callable[..., Resolutions]


@pytest.fixture
def make() -> Iterator[Make]:
    made = []

    def resolutions(
        resolver: FakeResolver,
        *,
        timer: FakeTimer | None = None,
        **settings: float | str,
    ) -> Resolutions:
        values = {"secret_key": "k" * 32, "product_codes": "*"} | settings
        given = MarketplaceSettings(**values)  # type: ignore[arg-type]  # a mixture of types
        made.append(Resolutions(given, resolver, timer=timer or FakeTimer()))
        return made[-1]

    yield resolutions
    for each in made:
        each.pool.close()


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
    assert len(resolutions._flights._outcomes) <= 5


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
    resolutions = make(resolver, max_concurrency=1)
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
    # The thread has let go of the job before once it has begun the next.
    await resolutions.pool.run(lambda: None, deadline=math.inf)
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
            resolutions.pool.close()
            resolutions.pool.close()
    assert results["a"] == CUSTOMER, "a call under way ends by itself"
    assert str(results["b"]) == "The server is shutting down."
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
        await make(FakeResolver()).pool.run(fails, deadline=math.inf)


async def test_a_token_that_waits_is_begun_by_its_event_loop(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """If threads took the next token by themselves, boto3's work would come before the host's other routes."""
    monkeypatch.setattr(Threads, "_PATIENCE", 60.0)
    resolver = FakeResolver(dict.fromkeys("ab", CUSTOMER))
    resolutions = make(resolver, max_concurrency=1)
    async with anyio.create_task_group() as tasks:
        with resolver.held():
            tasks.start_soon(resolutions.resolve, "a")
            await call_made(resolver)
            tasks.start_soon(resolutions.resolve, "b")
            await anyio.wait_all_tasks_blocked()
        # The loop stands still meanwhile.
        assert not resolver.called.acquire(timeout=0.5)
    assert resolver.calls == {"a": 1, "b": 1}


async def test_what_has_ended_before_its_caller_waits_is_not_waited_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolutions, submit = make(FakeResolver()), Threads.submit

    def submit_and_end(threads: Threads, function: Callable[[], None], *, call_soon: CallSoon) -> Future[None]:
        future = submit(threads, function, call_soon=call_soon)
        wait([future], timeout=60)
        return future

    monkeypatch.setattr(Threads, "submit", submit_and_end)
    with anyio.fail_after(60):
        await resolutions.pool.run(lambda: None, deadline=math.inf)


async def test_waiting_for_what_runs_ends_at_the_deadline_and_it_goes_on(make: Make) -> None:
    resolutions, may_end, ended = make(FakeResolver()), threading.Event(), threading.Event()

    def hang() -> None:
        assert may_end.wait(60)
        ended.set()

    with pytest.raises(DeadlineExceededError):
        await resolutions.pool.run(hang, deadline=anyio.current_time())
    may_end.set()
    assert await anyio.to_thread.run_sync(ended.wait, 60)


async def test_closing_ends_the_wait_for_what_has_not_begun_to_run(make: Make) -> None:
    resolver = FakeResolver()
    resolutions = make(resolver, max_concurrency=1)
    errors = []

    async def run() -> None:
        with pytest.raises(UnavailableError) as caught:
            await resolutions.pool.run(lambda: None, deadline=math.inf)
        errors.append(str(caught.value))

    async with anyio.create_task_group() as tasks:
        with resolver.held():
            tasks.start_soon(resolutions.resolve, "good")
            await call_made(resolver)
            tasks.start_soon(run)
            await anyio.wait_all_tasks_blocked()
            resolutions.pool.close()
    assert errors == ["The server is shutting down."]


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
