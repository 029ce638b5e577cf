"""`RedisCache`: resolutions shared by all workers, in Redis or Valkey (extra `redis`)."""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.exceptions import LockNotOwnedError, MasterDownError
    from redis.retry import Retry
except ImportError as _error:
    raise ImportError(
        "starlette_marketplace.registration.redis needs redis-py: pip install 'starlette-marketplace[redis]'"
    ) from _error

from ..clocks import monotonic
from ..hooks import is_async
from ..threads import call_after_fork

if TYPE_CHECKING:
    from typing import Self

R = TypeVar("R")

# What a server answers that is no longer the primary, and keeps the connections that it has: after a failover, new ones
# lead elsewhere. redis-py has classes for some of these answers, depending on its version and on whether a script ran.
# OOM, MISCONF and CLUSTERDOWN are not among them: another connection would get the same answer.
_DEMOTED = (redis.ReadOnlyError, redis.BusyLoadingError, MasterDownError)
_DEMOTED_TEXT = re.compile("READONLY|MASTERDOWN|NOREPLICAS|The previous master is now a slave")


class RedisCache:
    """A `SharedCache` in Redis or Valkey.

    The setting `cache_url` makes one by `from_url`. Give `Marketplace` or the middleware one of your own as
    `shared_cache` for what a URL cannot say, such as Sentinel or a cluster.

    Args:
        client: What speaks with the server, with time-outs of its own: each operation holds up a buyer so long.
        lock_timeout: Seconds that a worker waits for another one with the same token at most, and that the lock of a
            worker that died lives. After it, the worker asks AWS itself.

    Raises:
        TypeError: The client is a URL or something else that takes no commands, or an async one.
    """

    _PREFIX = "starlette-marketplace:"
    # Seconds between two looks at a lock: an answer of AWS takes some 0.1 s.
    _LOCK_SLEEP = 0.02
    # Seconds for a connection, and for an answer: within one network both are a matter of a millisecond.
    _TIMEOUT = 0.5
    # Other threads bring back connections to the old primary while the idle ones are dropped.
    _RETRIES = 2

    def __init__(self, client: redis.Redis, *, lock_timeout: float = 5.0) -> None:
        _check_client(client)
        self._lock_timeout = lock_timeout
        self._make_client: Callable[[], redis.Redis] = lambda: client
        self._clients: list[redis.Redis] = []
        self._begin()
        call_after_fork(self._begin)

    @classmethod
    def from_url(cls, url: str, *, lock_timeout: float = 5.0) -> Self:
        """A cache at `url`, as `redis.Redis.from_url` reads it; options in its query win over ours.

        Raises:
            ValueError: redis-py cannot read the URL.
        """
        make_client = functools.partial(
            redis.Redis.from_url,
            url,
            socket_connect_timeout=cls._TIMEOUT,
            socket_timeout=cls._TIMEOUT,
            # A connection that the server has closed meanwhile is made again at once; what is slow is not asked twice.
            retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
        )
        client = None
        # redis-py's error may quote a part of the password, so ours is raised outside of its handler.
        with suppress(Exception):
            client = make_client()
        if client is None:
            raise ValueError("redis-py cannot read the URL. Write it as redis.Redis.from_url describes.")
        cache = cls(client, lock_timeout=lock_timeout)
        cache._make_client = make_client
        return cache

    def _begin(self) -> None:
        # redis-py notices a fork by itself, but then takes a lock that a thread of the parent may have held. The client
        # of the parent is kept because it would do so at the end of its life, too.
        self._client = self._make_client()
        self._clients.append(self._client)

    def get(self, key: str) -> str | None:
        """The value of `key`, None when there is none or its time is over."""
        value = self._on_primary(lambda: self._client.get(self._PREFIX + key))
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    def set(self, key: str, value: str, ttl: float) -> None:
        """Keep `value` for `ttl` seconds; the server sees to it."""
        self._on_primary(lambda: self._client.set(self._PREFIX + key, value, px=max(1, round(ttl * 1000))))

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """A lock on `key`, held by one worker at a time, unless it takes longer than `lock_timeout`."""
        lock = self._client.lock(f"{self._PREFIX}{key}:lock", timeout=self._lock_timeout, sleep=self._LOCK_SLEEP)
        token = uuid.uuid4().hex
        give_up_at = monotonic() + self._lock_timeout
        is_held = self._on_primary(
            lambda: lock.acquire(token=token, blocking_timeout=max(0.0, give_up_at - monotonic()))
        )
        try:
            yield
        finally:
            if is_held:
                with suppress(LockNotOwnedError):  # It was held too long, and may be another worker's by now.
                    # Not lock.release(), which forgets the token before it has succeeded.
                    self._on_primary(lambda: lock.do_release(token))

    def _on_primary(self, operation: Callable[[], R]) -> R:
        """What `operation` answers, on new connections if those that there are lead to an old primary."""
        for _ in range(self._RETRIES):
            try:
                return operation()
            except redis.RedisError as exc:
                # A cluster's client has no such pool, and follows a failover by itself.
                pool = getattr(self._client, "connection_pool", None)
                if pool is None or not _is_demoted(exc):
                    raise
            _drop_idle_connections(pool)
        return operation()


def _is_demoted(exc: redis.RedisError) -> bool:
    return isinstance(exc, _DEMOTED) or bool(_DEMOTED_TEXT.search(str(exc)))


def _drop_idle_connections(pool: redis.ConnectionPool) -> None:
    # Those in use stay: another thread waits for an answer there.
    try:
        pool.disconnect(inuse_connections=False)
    except TypeError:  # The BlockingConnectionPool of older versions drops all or none.
        pool.disconnect()


def _check_client(client: object) -> None:
    # A Sentinel has execute_command, but not get.
    execute = getattr(client, "execute_command", None)
    if isinstance(client, type) or execute is None or not hasattr(client, "get"):
        raise TypeError(
            "RedisCache takes a client. Give it a redis.Redis, a redis.RedisCluster or what Sentinel's master_for() "
            "returns; for a URL there is RedisCache.from_url."
        )
    if is_async(execute):
        raise TypeError(
            "RedisCache calls its client in threads, and this one is async. Use redis.Redis instead of "
            "redis.asyncio.Redis."
        )
