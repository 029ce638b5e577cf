"""Sharing resolutions with other workers: the `SharedCache` Protocol, and the resolver that asks it before AWS.

It runs in threads of our own. The shared cache is a help and never a need: one that fails or hangs is passed over, for
a while and for all tokens, so that a buyer loses a moment at most.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from itsdangerous import BadData, URLSafeSerializer

from .customer import MarketplaceCustomer
from .errors import ExpiredTokenError, InvalidTokenError, TokenError
from .telemetry import Telemetry

if TYPE_CHECKING:
    from .resolver import Resolver
    from .settings import MarketplaceSettings

logger = logging.getLogger("starlette_marketplace")

VERDICT_TTL = 60.0
"""Seconds that a verdict on a token is kept: a reload of the error page costs no call, and a mistake does not last."""

# What is shared of a verdict is its code and its text, so an error of the host's own kind is not.
_VERDICTS: dict[str, type[TokenError]] = {kind.code: kind for kind in (InvalidTokenError, ExpiredTokenError)}


class SharedCache(Protocol):
    """Keeps resolutions for several workers.

    Called in threads of our own, from several at once, so it may block; it should give up by itself within a second.
    Whatever it raises is logged and passed over: it never fails a buyer. Values are signed by the caller, keys tell
    nothing of the token.
    """

    def get(self, key: str) -> str | None:
        """The value of `key`, None when there is none or its time is over."""
        ...

    def set(self, key: str, value: str, ttl: float) -> None:
        """Keep `value` for `ttl` seconds."""
        ...

    def lock(self, key: str) -> AbstractContextManager[object]:
        """A lock on `key` across all workers, which sees to its own release should its holder die.

        Where it cannot be had in good time it lets its caller go on without: that costs a second call to AWS.
        """
        ...


class SharedResolver:
    """A resolver that looks into the shared cache first, and asks `resolver` once for all workers.

    Args:
        resolver: Asks AWS.
        cache: Shares what it answered.
        settings: Keys and lifetimes.
        telemetry: Takes note of what the cache answers.
        timer: Seconds from any beginning, never running backwards.
    """

    # A cache that is down or slow costs its time-out once in so many seconds, and not for each buyer.
    _PAUSE = 5.0

    def __init__(
        self,
        resolver: Resolver,
        cache: SharedCache,
        settings: MarketplaceSettings,
        *,
        telemetry: Telemetry | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = resolver
        self._cache = cache
        self._telemetry = Telemetry() if telemetry is None else telemetry
        self._secret_key = settings.secret_key.encode()
        self._serializer = URLSafeSerializer(
            settings.secret_key,
            salt="starlette_marketplace.resolution",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )
        self._ttl = settings.cache_ttl
        self._verdict_ttl = min(settings.cache_ttl, VERDICT_TTL)
        self._timer = timer
        self._lock = threading.Lock()
        self._is_down = False
        self._next_try = 0.0

    def connect(self) -> None:
        """Use the cache once, so that a mistake in its address is in the log before the first buyer comes."""
        self._get(self._key(""))

    def resolve(self, token: str) -> MarketplaceCustomer:
        """The customer of `token`, whichever worker has asked AWS.

        Raises:
            MarketplaceError: What the resolver raised, here or in another worker.
        """
        key = self._key(token)
        found = self._get(key)
        self._telemetry.looked_up_shared("failed" if self._is_down else "hit" if found else "miss")
        if found is None:
            with self._locked(key):
                found = self._get(key) or self._ask(key, token)
        if isinstance(found, TokenError):
            raise found
        return found

    def _ask(self, key: str, token: str) -> MarketplaceCustomer:
        try:
            customer = self._resolver.resolve(token)
        except TokenError as error:
            if type(error) in _VERDICTS.values():
                self._set(key, [error.code, str(error)], self._verdict_ttl)
            raise
        self._set(key, asdict(customer), self._ttl)
        return customer

    def _key(self, token: str) -> str:
        return hmac.new(self._secret_key, token.encode(), hashlib.sha256).hexdigest()

    def _get(self, key: str) -> MarketplaceCustomer | TokenError | None:
        value = None
        if self._is_usable():
            with self._passed_over("get"):
                value = self._cache.get(key)
        if value is None:
            return None
        try:
            # The key is signed along, so that a value cannot be moved to another token.
            signed_key, content = self._serializer.loads(value)
            if signed_key == key:
                return _outcome(content)
        except (BadData, ValueError, TypeError, KeyError):
            pass
        logger.warning("A value in the shared cache was not written by this application and was passed over")
        return None

    def _set(self, key: str, content: object, ttl: float) -> None:
        if self._is_usable():
            with self._passed_over("set"):
                self._cache.set(key, str(self._serializer.dumps([key, content])), ttl)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        lock = None
        if self._is_usable():
            with self._passed_over("lock"):
                entering = self._cache.lock(key)
                entering.__enter__()
                lock = entering
        try:
            yield
        finally:
            if lock is not None:
                with self._passed_over("unlock"):
                    lock.__exit__(None, None, None)

    def _is_usable(self) -> bool:
        """Whether to use the cache; while it is down, now and then for one thread."""
        with self._lock:
            if self._is_down:
                now = self._timer()
                if now < self._next_try:
                    return False
                self._next_try = now + self._PAUSE
            return True

    @contextmanager
    def _passed_over(self, operation: str) -> Iterator[None]:
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - an implementation raises what its client library does.
            with self._lock:
                was_down, self._is_down = self._is_down, True
                self._next_try = self._timer() + self._PAUSE
            if not was_down:
                # Of the exception no more than its kind: its text may quote an address with the password in it.
                logger.warning(
                    "The shared cache failed at %s (%s): registrations go on without it, and it is tried again every "
                    "%.0f s",
                    operation,
                    type(exc).__name__,
                    self._PAUSE,
                    extra={"operation": operation, "reason": type(exc).__name__, "retry_after": self._PAUSE},
                )
        else:
            with self._lock:
                was_down, self._is_down = self._is_down, False
            if was_down:
                logger.warning("The shared cache works again")


def _outcome(content: object) -> MarketplaceCustomer | TokenError:
    match content:
        case dict(customer):
            return MarketplaceCustomer(**customer)
        case [str(code), str(text)]:
            return _VERDICTS[code](text)
    raise ValueError("not a resolution")
