import hashlib
import re
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import anyio
import anyio.to_thread
import httpx2
import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel
from starlette.types import ASGIApp

from starlette_marketplace import Marketplace, MarketplaceCustomer, MarketplaceSettings, SettingsError
from starlette_marketplace.local import LocalMarketplace
from starlette_marketplace.registration.outage import Breaker
from starlette_marketplace.registration.redis import RedisCache
from starlette_marketplace.registration.shared_cache import SharedResolver
from tests.support.fakes import CUSTOMER, FakeResolver
from tests.support.hosts import LANDING, browser, form, starlette_middleware
from tests.support.network import hanging_in_connect, refusing
from tests.support.redis_server import AnsweringServer, RedisServer, Switch, redis_server

pytestmark = pytest.mark.service


@pytest.fixture
def cache(server: RedisServer) -> RedisCache:
    return RedisCache.from_url(server.url)


# The cache by itself


def test_a_value_is_kept_for_its_time_by_the_server(server: RedisServer, cache: RedisCache) -> None:
    assert cache.get("key") is None
    cache.set("key", "välue", 300)
    assert cache.get("key") == "välue"
    with server.client() as client:
        [name] = client.keys()
        assert name == "starlette-marketplace:key"
        assert 290_000 < client.pttl(name) <= 300_000


@pytest.mark.parametrize("ttl", [0.0001, 0.5])
def test_a_short_time_is_no_mistake(server: RedisServer, cache: RedisCache, ttl: float) -> None:
    cache.set("key", "value", ttl)
    with server.client() as client:
        assert client.pttl("starlette-marketplace:key") <= 500


def test_a_value_that_is_no_text_is_no_outage(server: RedisServer, cache: RedisCache) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.set("starlette-marketplace:key", b"\xff\xfe")
    assert cache.get("key") == "\ufffd\ufffd"


def test_a_client_of_the_hosts_own_may_decode_or_not(server: RedisServer) -> None:
    for decodes in (True, False):
        with redis.Redis.from_url(server.url, decode_responses=decodes) as client:
            cache = RedisCache(client)
            cache.set("key", "value", 60)
            assert cache.get("key") == "value"
            with cache.lock("key"):
                pass


def test_one_holds_the_lock_of_a_key_and_another_waits(server: RedisServer) -> None:
    one, other = (RedisCache.from_url(server.url) for _ in range(2))
    order = []

    def wait() -> None:
        with other.lock("key"):
            order.append("other")

    with ThreadPoolExecutor(1) as threads:
        with one.lock("key"), other.lock("another key"):
            waiting = threads.submit(wait)
            with server.client() as client:
                seen = int(client.info("commandstats")["cmdstat_set"]["calls"])
                while int(client.info("commandstats")["cmdstat_set"]["calls"]) < seen + 3:
                    assert not waiting.done()
            order.append("one")
        waiting.result(60)
    assert order == ["one", "other"]
    with server.client() as client:
        assert client.keys() == []


def test_who_waits_too_long_goes_on_without_and_leaves_the_lock_to_its_holder(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        holder, patient = RedisCache(client), RedisCache(client, lock_timeout=0.05)
        with holder.lock("key"):
            with patient.lock("key"):
                assert client.exists("starlette-marketplace:key:lock")
            assert client.exists("starlette-marketplace:key:lock")


def test_the_lock_of_a_worker_that_died_is_over_by_itself(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        died = RedisCache(client, lock_timeout=5).lock("key")
        died.__enter__()
        assert 0 < client.pttl("starlette-marketplace:key:lock") <= 5000


def test_a_lock_held_too_long_is_not_taken_from_the_next(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        cache = RedisCache(client)
        with cache.lock("key"):
            client.set("starlette-marketplace:key:lock", "of another worker")
        assert client.get("starlette-marketplace:key:lock") == b"of another worker"


def test_a_connection_that_the_server_has_closed_is_made_again(server: RedisServer, cache: RedisCache) -> None:
    cache.set("key", "value", 60)
    with server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert cache.get("key") == "value"


def blocking_client(url: str) -> RedisCache:
    pool = redis.BlockingConnectionPool.from_url(url, max_connections=4)
    return RedisCache(redis.Redis(connection_pool=pool))


@pytest.mark.parametrize("make", [RedisCache.from_url, blocking_client])
@pytest.mark.parametrize("when", ["before", "during"])
def test_after_a_failover_the_new_primary_is_used_though_the_old_one_answers_old_connections(
    make: Callable[[str], RedisCache], when: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [tmp_path / name for name in ("old", "new")]
    for folder in folders:
        folder.mkdir()
    settings = MarketplaceSettings(secret_key="k" * 32, product_codes="*")
    fakes = FakeResolver(dict.fromkeys(("first", "second", "third"), CUSTOMER))
    with (
        redis_server(folders[0]) as old,
        redis_server(folders[1]) as new,
        Switch(old).running() as switch,
    ):

        class FailsOver:
            def resolve(self, token: str) -> MarketplaceCustomer:
                if token == "second" and when == "during":
                    switch.fail_over(old, new)
                return fakes.resolve(token)

        cache = make(switch.url)
        ours = SharedResolver(FailsOver(), cache, settings)
        ours.resolve("first")
        if when == "before":
            switch.fail_over(old, new)
        for token in ("second", "third"):
            ours.resolve(token)
        other = SharedResolver(fakes, RedisCache.from_url(switch.url), settings)
        for token in ("second", "third"):
            assert other.resolve(token) == CUSTOMER
        assert fakes.calls == {"first": 1, "second": 1, "third": 1}
        with new.client() as client:
            assert len(client.keys()) == 2, "two values, and no lock is left"
    assert not caplog.records


def test_an_error_that_another_connection_does_not_cure_is_raised(server: RedisServer, cache: RedisCache) -> None:
    with server.client() as client:
        client.lpush("starlette-marketplace:key", "a list")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        cache.get("key")


@pytest.mark.parametrize(
    ("client", "text"),
    [
        (redis.asyncio.Redis(), "this one is async. Use redis.Redis instead of redis.asyncio.Redis"),
        (redis.asyncio.RedisCluster("localhost"), "this one is async"),
        (redis.asyncio.Sentinel([]).master_for("acme"), "this one is async"),  # type: ignore[no-untyped-call]
        (Mock(spec=redis.asyncio.Redis), "this one is async"),
        (redis.Redis, "RedisCache takes a client"),
        ("redis://localhost", "for a URL there is RedisCache.from_url"),
        (Sentinel([]), "or what Sentinel's master_for() returns"),  # type: ignore[no-untyped-call]
    ],
    ids=lambda value: type(value).__module__,
)
def test_a_client_of_the_wrong_kind_is_refused(client: redis.Redis, text: str) -> None:
    with pytest.raises(TypeError, match=re.escape(text)):
        RedisCache(client)


def test_a_client_that_a_test_makes_up_is_taken() -> None:
    client = Mock(spec=redis.Redis)
    client.get.return_value = "value"
    assert RedisCache(client).get("key") == "value"


def test_a_server_that_hangs_is_given_up_on(own_server: RedisServer) -> None:
    cache = RedisCache.from_url(own_server.url)
    cache.set("key", "value", 60)
    with own_server.hanging():
        with pytest.raises(redis.TimeoutError):
            cache.get("key")
        with pytest.raises(redis.TimeoutError), cache.lock("key"):
            pytest.fail("there is no lock")
    assert cache.get("key") == "value"


def test_an_address_where_no_connection_is_made_is_given_up_on() -> None:
    with hanging_in_connect() as url, pytest.raises(redis.TimeoutError):
        RedisCache.from_url(url.replace("http", "redis")).get("key")


def test_options_in_the_query_of_the_url_win(own_server: RedisServer) -> None:
    cache = RedisCache.from_url(f"{own_server.url}?socket_timeout=33")
    [timeout] = [cache._client.connection_pool.connection_kwargs["socket_timeout"]]
    assert timeout == 33


FORKING = """
import json, os, sys, threading, warnings
import redis
from starlette_marketplace.registration.redis import RedisCache

warnings.simplefilter("ignore")  # that a process with threads forks
kind, url = sys.argv[1:]
if kind == "from_url":
    cache = RedisCache.from_url(url + "?socket_timeout=30")
else:
    cache = RedisCache(redis.Redis(connection_pool=getattr(redis, kind).from_url(url)))

def use(name):
    with cache.lock("of " + name):
        for number in range(200):
            cache.set(f"{name} {number}", f"{name} {number}", 60)
            assert cache.get(f"{name} {number}") == f"{name} {number}"
    return cache._client.client_id()

held, forked, begin = threading.Event(), threading.Event(), os.pipe()
ids = [use("parent")]
if kind == "from_url":
    def hold():
        # As a thread does while it takes a connection.
        with cache._client.connection_pool._lock:
            held.set()
            forked.wait()
    threading.Thread(target=hold).start()
    held.wait()
children = []
for name in ("one", "other"):
    if (child := os.fork()) == 0:
        status = 1
        try:
            assert os.read(begin[0], 1) == b"x"
            os.write(1, json.dumps(use(name)).encode() + b"\\n")
            del cache
            status = 0
        finally:
            os._exit(status)
    children.append(child)
forked.set()
os.write(begin[1], b"xx")
assert use("parent") == ids[0], "the connection of the parent lives"
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
assert use("parent") == ids[0], "the connection of the parent lives after the children"
print(ids[0])
"""


@pytest.mark.parametrize("kind", ["from_url", "ConnectionPool", "BlockingConnectionPool"])
def test_a_child_has_connections_of_its_own_and_leaves_its_parents_alone(server: RedisServer, kind: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FORKING, kind, server.url], capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 0, ended.stderr
    assert len(set(ended.stdout.split())) == 3


# A failover whose old connections live


class Failover:
    """Two servers behind one address; the first is the primary until the second takes its place."""

    def __init__(self, old: RedisServer, new: RedisServer, switch: Switch) -> None:
        self.old, self.new, self.switch = old, new, switch
        self.url = switch.url

    def happen(self) -> None:
        self.switch.fail_over(self.old, self.new)

    def keys(self) -> list[str]:
        with self.new.client() as client:
            return sorted(map(str, client.keys()))


@pytest.fixture
def failover(own_server: RedisServer, tmp_path: Path) -> Iterator[Failover]:
    folder = tmp_path / "new"
    folder.mkdir()
    with redis_server(folder) as new, Switch(own_server).running() as switch:
        yield Failover(own_server, new, switch)


def own_pool(failover: Failover) -> redis.Redis:
    return redis.Redis.from_url(failover.url)


def own_blocking_pool(failover: Failover) -> redis.Redis:
    return redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(failover.url))


class OldPool(redis.BlockingConnectionPool):
    """That of redis-py 5."""

    def disconnect(self) -> None:  # type: ignore[override]
        super().disconnect()


def old_blocking_pool(failover: Failover) -> redis.Redis:
    return redis.Redis(connection_pool=OldPool.from_url(failover.url))


def sentinel(failover: Failover) -> redis.Redis:
    class Sentinels(Sentinel):
        def discover_master(self, service_name: str) -> tuple[str, int]:
            return ("127.0.0.1", failover.switch.server_address[1])

    client: redis.Redis = Sentinels([]).master_for("acme")  # type: ignore[no-untyped-call]
    return client


@pytest.fixture(params=["from_url", own_pool, own_blocking_pool, old_blocking_pool, sentinel])
def failing_over(failover: Failover, request: pytest.FixtureRequest) -> RedisCache:
    if request.param == "from_url":
        return RedisCache.from_url(failover.url + "?socket_timeout=30")
    return RedisCache(request.param(failover))


def connect(cache: RedisCache, count: int) -> None:
    """Make the cache have so many connections."""
    barrier = threading.Barrier(count)

    def use() -> None:
        with cache._client.pipeline() as pipeline:
            pipeline.watch("anything")  # type: ignore[no-untyped-call]
            barrier.wait(60)

    with ThreadPoolExecutor(count) as threads:
        for used in [threads.submit(use) for _ in range(count)]:
            used.result(60)


def test_a_value_is_written_to_the_new_primary_although_the_old_one_keeps_its_connections(
    failover: Failover, failing_over: RedisCache
) -> None:
    connect(failing_over, 8)
    failing_over.set("before", "value", 60)
    failover.happen()
    assert failing_over.get("before") is None
    failing_over.set("key", "value", 60)
    assert failover.keys() == ["starlette-marketplace:key"]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(failing_over.get, ["key"] * 8)) == ["value"] * 8
        list(threads.map(lambda key: failing_over.set(key, "value", 60), "abcdefgh"))
    assert len(failover.keys()) == 9


def test_a_lock_is_taken_and_released_at_the_new_primary(failover: Failover, failing_over: RedisCache) -> None:
    connect(failing_over, 3)
    failover.happen()
    with failing_over.lock("key"):
        assert failover.keys() == ["starlette-marketplace:key:lock"]
    assert failover.keys() == []


def test_a_lock_that_was_taken_before_a_failover_is_released_after_it(
    failover: Failover, failing_over: RedisCache
) -> None:
    connect(failing_over, 3)
    with failing_over.lock("key"):
        with failover.old.client() as old, failover.new.client() as new:
            new.set("starlette-marketplace:key:lock", str(old.get("starlette-marketplace:key:lock")))
        failover.happen()
    assert failover.keys() == []


def test_resolutions_go_on_to_be_shared_and_nothing_is_logged(
    failover: Failover, settings: MarketplaceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    workers = 8
    resolver = FakeResolver(dict.fromkeys(map(str, range(200)), CUSTOMER))
    caches = [RedisCache.from_url(failover.url + "?socket_timeout=30") for _ in range(workers)]
    shared = [SharedResolver(resolver, cache, settings) for cache in caches]
    with ThreadPoolExecutor(workers * 4) as threads:

        def resolve(tokens: range) -> None:
            list(threads.map(lambda number: shared[number % workers].resolve(str(number)), tokens))
            list(threads.map(lambda number: shared[(number + 1) % workers].resolve(str(number)), tokens))

        resolve(range(100))
        failover.happen()
        resolve(range(100, 200))
    assert not caplog.records
    assert len(failover.keys()) == 100
    assert resolver.calls.total() == 200


@pytest.mark.parametrize(
    "answer",
    [
        "-READONLY You can't write against a read only replica.",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "-LOADING Redis is loading the dataset in memory",
        "-NOREPLICAS Not enough good replicas to write.",
        # Of a script, before Redis 7.
        "-ERR Error running script (call to f_0): @user_script:5: @user_script: 5: -READONLY You can't write against a "
        "read only replica.",
    ],
)
def test_a_server_that_is_not_the_primary_is_left(server: RedisServer, answer: str) -> None:
    with AnsweringServer("+OK").running() as other, Switch(other).running() as switch:
        url = switch.url + "?protocol=2&socket_timeout=30"
        cache = RedisCache(redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0)))
        cache.set("key", "value", 60)
        other.answer = answer
        switch.target = server.address
        cache.set("key", "value", 60)
        assert other.asked == 2
    with server.client() as there:
        assert there.keys() == ["starlette-marketplace:key"]


def test_a_name_that_goes_on_to_lead_to_a_replica_is_given_up_on() -> None:
    with AnsweringServer("-READONLY You can't write against a read only replica.").running() as server:
        cache = RedisCache.from_url("redis://{}:{}/0?protocol=2&socket_timeout=30".format(*server.address))
        with pytest.raises(redis.ReadOnlyError):
            cache.set("key", "value", 60)
        assert server.asked == 3


@pytest.mark.parametrize(
    "answer",
    [
        "-OOM command not allowed when used memory > 'maxmemory'.",
        "-MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk.",
        "-CLUSTERDOWN The cluster is down",
        "-NOPERM this user has no permissions to run the 'set' command",
    ],
)
def test_a_server_that_cannot_write_is_not_asked_twice(answer: str) -> None:
    with AnsweringServer(answer).running() as server:
        cache = RedisCache.from_url("redis://{}:{}/0?protocol=2&socket_timeout=30".format(*server.address))
        with pytest.raises(redis.RedisError):
            cache.set("key", "value", 60)
        assert server.asked == 1


# In a host


async def post(worker: ASGIApp, token: str) -> httpx2.Response:
    async with browser(worker) as buyer:
        return await buyer.post(LANDING, data=form(token))


@pytest.fixture
def shared(settings: MarketplaceSettings, server: RedisServer) -> MarketplaceSettings:
    # Time enough for a machine that is busy with other things.
    return replace(settings, cache_url=server.url + "?socket_timeout=30&socket_connect_timeout=30")


@pytest.mark.anyio
async def test_workers_ask_aws_once_for_a_token_at_the_same_time_and_later(
    shared: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    token = marketplace.issue_token("new-product")
    workers = [starlette_middleware(settings=shared) for _ in range(4)]
    marketplace.delay = 0.2
    statuses = []

    async def buy(worker: ASGIApp) -> None:
        statuses.append((await post(worker, token)).status_code)

    async with anyio.create_task_group() as tasks:
        for worker in workers:
            tasks.start_soon(buy, worker)
    statuses.append((await post(starlette_middleware(settings=shared), token)).status_code)
    assert statuses == [303] * 5
    assert len(marketplace.resolve_calls) == 1


@pytest.mark.anyio
async def test_workers_share_a_verdict_and_no_failure(
    shared: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    expired, throttled = (marketplace.issue_token(scenario) for scenario in ("expired", "throttled"))
    for token, status in ((expired, 400), (throttled, 503)):
        for _ in range(2):
            assert (await post(starlette_middleware(settings=shared), token)).status_code == status
    assert [call.scenario for call in marketplace.resolve_calls] == ["expired", "throttled", "throttled"]


@pytest.mark.anyio
async def test_what_is_in_redis_tells_nothing_of_the_token(
    shared: MarketplaceSettings, marketplace: LocalMarketplace, server: RedisServer
) -> None:
    token = marketplace.issue_token("new-product")
    await post(starlette_middleware(settings=shared), token)
    with server.client() as client:
        [key] = client.keys()
        content = str([key, client.get(key)])
        assert 0 < client.ttl(key) <= shared.cache_ttl
    assert token not in content
    assert hashlib.sha256(token.encode()).hexdigest() not in content


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "shared cache" in record.message]


@pytest.mark.anyio
async def test_a_redis_that_is_killed_fails_no_buyer_is_logged_once_and_comes_back_by_itself(
    settings: MarketplaceSettings,
    marketplace: LocalMarketplace,
    own_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Breaker, "_PAUSE", 0.0)
    worker = starlette_middleware(settings=replace(settings, cache_url=own_server.url))
    tokens = [marketplace.issue_token("new-product") for _ in range(4)]
    async with browser(worker) as buyer:
        assert (await buyer.post(LANDING, data=form(tokens[0]))).status_code == 303
        own_server.kill()
        for token in tokens[1:3]:
            assert (await buyer.post(LANDING, data=form(token))).status_code == 303
        [down] = failures(caplog)
        assert "The shared cache failed at get (ConnectionError)" in down
        own_server.start()
        assert (await buyer.post(LANDING, data=form(tokens[3]))).status_code == 303
    assert failures(caplog)[1:] == ["The shared cache works again"]
    with own_server.client() as client:
        assert len(client.keys()) == 1
    assert len(marketplace.resolve_calls) == 4


@pytest.mark.anyio
async def test_a_redis_that_hangs_fails_no_buyer_and_holds_up_one(
    settings: MarketplaceSettings,
    marketplace: LocalMarketplace,
    own_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = starlette_middleware(settings=replace(settings, cache_url=own_server.url))
    tokens = [marketplace.issue_token("new-product") for _ in range(3)]
    with own_server.hanging():
        async with browser(worker) as buyer:
            for token in tokens:
                assert (await buyer.post(LANDING, data=form(token))).status_code == 303
    assert failures(caplog) == [
        "The shared cache failed at get (TimeoutError): registrations go on without it, and it is tried again every 5 s"
    ]
    with own_server.client() as client:
        # Two: that of the first buyer, and this client's.
        assert client.info("stats")["total_connections_received"] == 2


@pytest.mark.anyio
@pytest.mark.parametrize("query", ["", "?password=hunter2"])
async def test_startup_says_in_the_log_that_redis_cannot_be_used_and_serves(
    settings: MarketplaceSettings, own_server: RedisServer, caplog: pytest.LogCaptureFixture, query: str
) -> None:
    with own_server.client() as client, refusing() as nowhere:
        client.config_set("requirepass", "another")
        address = own_server.url if query else nowhere.replace("http", "redis")
        await Marketplace(replace(settings, cache_url=address + query)).startup()
    [said] = failures(caplog)
    assert said.startswith("The shared cache failed at get (")
    assert ("AuthenticationError" if query else "ConnectionError") in said
    assert "hunter2" not in caplog.text


@pytest.mark.anyio
async def test_startup_makes_the_connection_to_redis(settings: MarketplaceSettings, own_server: RedisServer) -> None:
    marketplace = Marketplace(replace(settings, cache_url=own_server.url))
    await marketplace.startup()
    with own_server.client() as client:
        # Two: that of the marketplace, and this client's.
        assert client.info("stats")["total_connections_received"] == 2
    marketplace.shutdown()


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@cache.example:hunter2/0",
        "redis://:hunter2@[::1/0",
        "redis://:hunter2@c/0?socket_timeout=hunter2",
        "redis://:hunter2@c/0?max_connections=hunter2",
    ],
)
def test_a_url_that_redis_py_cannot_read_is_an_error_that_does_not_quote_it(
    settings: MarketplaceSettings, url: str
) -> None:
    with pytest.raises(SettingsError, match="redis-py cannot read cache_url") as wired:
        Marketplace(replace(settings, cache_url=url))
    with pytest.raises(ValueError, match="redis-py cannot read the URL") as made:
        RedisCache.from_url(url)
    for error in (wired.value, made.value):
        assert (error.__cause__, error.__context__) == (None, None)
    for frame, _ in traceback.walk_tb(wired.value.__traceback__):
        if frame.f_code.co_filename != __file__:
            assert "hunter2" not in repr(frame.f_locals)


def test_without_redis_py_the_error_names_the_extra(
    settings: MarketplaceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "starlette_marketplace.registration.redis")
    with pytest.raises(SettingsError) as caught:
        Marketplace(replace(settings, cache_url="redis://localhost"))
    assert str(caught.value) == (
        "cache_url is set, and redis-py is not installed. "
        "Install the extra: pip install 'starlette-marketplace[redis]'."
    )


@pytest.mark.anyio
async def test_a_shared_cache_of_the_hosts_own_wins_over_cache_url(
    settings: MarketplaceSettings, marketplace: LocalMarketplace, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own = RedisCache.from_url(server.url)
    with refusing() as nowhere:
        unused = replace(settings, cache_url=nowhere.replace("http", "redis"))
        worker = starlette_middleware(settings=unused, shared_cache=own)
        assert (await post(worker, marketplace.issue_token("new-product"))).status_code == 303
    assert not failures(caplog)
    with server.client() as client:
        assert len(client.keys()) == 1


@pytest.mark.anyio
async def test_with_the_cache_turned_off_redis_is_not_used(
    shared: MarketplaceSettings, marketplace: LocalMarketplace, server: RedisServer
) -> None:
    token = marketplace.issue_token("new-product")
    with server.client() as client:
        client.config_resetstat()
    for _ in range(2):
        assert (await post(starlette_middleware(settings=replace(shared, cache_ttl=0)), token)).status_code == 303
    assert len(marketplace.resolve_calls) == 2
    with server.client() as client:
        assert "cmdstat_get" not in client.info("commandstats")


@pytest.mark.anyio
@pytest.mark.parametrize(("deadline", "lock_lives"), [(4.0, 2_000), (60.0, 5_000)])
async def test_who_waits_for_a_worker_that_died_still_has_time_to_ask(
    shared: MarketplaceSettings, server: RedisServer, deadline: float, lock_lives: int
) -> None:
    resolver = FakeResolver()
    worker = starlette_middleware(settings=replace(shared, deadline=deadline), resolver=resolver)
    async with anyio.create_task_group() as tasks:
        with resolver.held(), server.client() as client:
            tasks.start_soon(post, worker, "good")
            await anyio.to_thread.run_sync(resolver.called.acquire)
            [lock] = client.keys("*:lock")
            assert lock_lives - 1_000 < client.pttl(lock) <= lock_lives
