"""A shared cache without Redis."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette_marketplace import (
    MarketplaceSettings,
)
from starlette_marketplace.registration.shared_cache import SharedResolver
from tests.support.fakes import FakeResolver, FakeTimer


class FakeSharedCache:
    """A cache on another machine: a store, and a lock for each key."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.ttls: list[float] = []
        self.fails: set[str] = set()
        self.breaks_off = False
        self.used: Counter[str] = Counter()
        self._locks: dict[str, threading.Lock] = {}

    def _use(self, operation: str) -> None:
        self.used[operation] += 1
        if self.breaks_off:
            raise BrokenOff
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


class BrokenOff(BaseException):
    """What no handler of exceptions catches, such as the time-out of gevent."""
