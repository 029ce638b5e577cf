"""`RedisCache`: resolutions shared by all workers, in Redis or Valkey (extra `redis`)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.exceptions import LockNotOwnedError, MasterDownError, ReadOnlyError, ResponseError
    from redis.retry import Retry
except ImportError as _error:
    raise ImportError(
        "starlette_marketplace.redis needs redis-py: pip install 'starlette-marketplace[redis]'"
    ) from _error

if TYPE_CHECKING:
    from typing import Self

R = TypeVar("R")

# As scripts say it, whose errors redis-py has no class for, and what a primary says that its replicas have left.
_DEMOTED = re.compile("READONLY|NOREPLICAS")


class RedisCache:
    """A `SharedCache` in Redis or Valkey.

    The setting `cache_url` makes one by `from_url`. Give `Marketplace` or the middleware one of your own as
    `shared_cache` for what a URL cannot say, such as Sentinel or a cluster.

    Args:
        client: What speaks with the server, with time-outs of its own: each operation holds up a buyer so long.
        lock_timeout: Seconds that a worker waits for another one with the same token at most, and that the lock of a
            worker that died lives. After it, the worker asks AWS itself.

    Raises:
        TypeError: The client is one of `redis.asyncio`.
    """

    _PREFIX = "starlette-marketplace:"
    # Seconds between two looks at a lock: an answer of AWS takes some 0.1 s.
    _LOCK_SLEEP = 0.02
    # Seconds for a connection, and for an answer: within one network both are a matter of a millisecond.
    _TIMEOUT = 0.5

    def __init__(self, client: redis.Redis, *, lock_timeout: float = 5.0) -> None:
        if inspect.iscoroutinefunction(client.execute_command):
            raise TypeError(
                "RedisCache calls its client in threads, and this one is async. Use redis.Redis instead of "
                "redis.asyncio.Redis."
            )
        self._client = client
        self._lock_timeout = lock_timeout

    @classmethod
    def from_url(cls, url: str, *, lock_timeout: float = 5.0) -> Self:
        """A cache at `url`, as `redis.Redis.from_url` reads it; options in its query win over ours.

        Raises:
            ValueError: redis-py cannot read the URL.
        """
        client = redis.Redis.from_url(
            url,
            socket_connect_timeout=cls._TIMEOUT,
            socket_timeout=cls._TIMEOUT,
            # A connection that the server has closed meanwhile is made again at once; what is slow is not asked twice.
            retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
        )
        return cls(client, lock_timeout=lock_timeout)

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
        lock = self._client.lock(
            f"{self._PREFIX}{key}:lock",
            timeout=self._lock_timeout,
            blocking_timeout=self._lock_timeout,
            sleep=self._LOCK_SLEEP,
        )
        is_held = self._on_primary(lock.acquire)
        try:
            yield
        finally:
            if is_held:
                with suppress(LockNotOwnedError):  # It was held too long, and may be another worker's by now.
                    self._on_primary(lock.release)

    def _on_primary(self, operation: Callable[[], R]) -> R:
        """What `operation` gives, tried again with new connections if the server has become a replica.

        After a failover the address leads to the new primary, and the old one goes on to answer old connections.
        """
        try:
            return operation()
        except ResponseError as exc:
            if not (isinstance(exc, ReadOnlyError | MasterDownError) or _DEMOTED.search(str(exc))):
                raise
        # A cluster has no pool of its own, and finds its primaries itself.
        pool = getattr(self._client, "connection_pool", None)
        if pool is not None:
            try:
                # Those in use find out by themselves.
                pool.disconnect(inuse_connections=False)
            except TypeError:  # pragma: no cover - a BlockingConnectionPool of redis-py 5
                pool.disconnect()
        return operation()
