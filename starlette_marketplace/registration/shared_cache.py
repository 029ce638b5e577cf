"""Sharing resolutions with other workers: the `SharedCache` Protocol, and the resolver that asks it before AWS.

It runs in threads of our own. The shared cache is a help and never a need: one that fails or hangs is passed over, for
a while and for all tokens, so that a buyer loses a moment at most.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from itsdangerous import BadData, URLSafeSerializer

from ..clocks import monotonic, wall_clock
from ..customer import MarketplaceCustomer
from ..errors import ExpiredTokenError, InvalidTokenError, TokenError
from ..keys import Keys
from ..settings import is_identified
from ..telemetry import Telemetry
from .kept import HiddenToken, key_of, lifetime
from .outage import Breaker, Visit

if TYPE_CHECKING:
    from ..settings import MarketplaceSettings
    from .resolver import Resolver

logger: logging.Logger = logging.getLogger("starlette_marketplace")

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

        If it is not free in good time, it lets its caller go on without it, which costs a second call to AWS.
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
        clock: Seconds since the epoch.
    """

    # The clocks of several machines differ a little.
    _CLOCK_SKEW = 30.0

    def __init__(
        self,
        resolver: Resolver,
        cache: SharedCache,
        settings: MarketplaceSettings,
        *,
        telemetry: Telemetry | None = None,
        timer: Callable[[], float] = monotonic,
        clock: Callable[[], float] = wall_clock,
    ) -> None:
        self._resolver = resolver
        self._cache = cache
        self._telemetry = Telemetry() if telemetry is None else telemetry
        self._settings = settings
        self._token_keys = Keys(settings, "token")
        self._value_keys = Keys(settings, "resolution")
        self._breaker = Breaker(patience=settings.deadline, timer=timer)
        self._clock = clock

    def connect(self) -> None:
        """Use the cache once, so that a mistake in its address is in the log before the first buyer comes."""
        self._get(self._breaker.visit(), key_of(HiddenToken(""), self._token_keys))

    def resolve(self, token: str) -> MarketplaceCustomer:
        """The customer of `token`, whichever worker has asked AWS.

        Raises:
            MarketplaceError: What the resolver raised, here or in another worker.
        """
        hidden = HiddenToken(token)
        del token
        key = key_of(hidden, self._token_keys)
        visit = self._breaker.visit()
        found: MarketplaceCustomer | BaseException | None = self._get(visit, key)
        self._telemetry.looked_up_shared("failed" if visit.is_over else "hit" if found else "miss")
        if found is None:
            with self._locked(visit, key):
                found = self._get(visit, key) or self._ask(visit, key, hidden)
        if isinstance(found, BaseException):
            try:
                raise found
            finally:
                # Its traceback holds this frame: they would keep each other alive, and the token.
                del found
        return found

    def _ask(self, visit: Visit, key: str, token: HiddenToken) -> MarketplaceCustomer | BaseException:
        outcome = _outcome_of(self._resolver, token)
        if isinstance(outcome, MarketplaceCustomer):
            self._set(visit, key, asdict(outcome), lifetime(outcome, self._settings))
        elif isinstance(outcome, TokenError) and type(outcome) in _VERDICTS.values():
            self._set(visit, key, [outcome.code, *outcome.args], lifetime(outcome, self._settings))
        return outcome

    def _get(self, visit: Visit, key: str) -> MarketplaceCustomer | TokenError | None:
        value = None if visit.is_over else self._breaker.use(visit, "get", self._cache.get, key)
        if value is None:
            return None
        try:
            # The key is signed along, so that a value cannot be moved to another token.
            signed_key, expires_at, content = self._serializer().loads(value)
            if signed_key == key:
                # Whoever can write into the cache could otherwise put an old value back for ever.
                outcome = _outcome(content) if self._clock() <= expires_at + self._CLOCK_SKEW else None
                # A worker with another setting may have shared what is not enough for this one.
                is_enough = not isinstance(outcome, MarketplaceCustomer) or is_identified(self._settings, outcome)
                return outcome if is_enough else None
        except (BadData, ValueError, TypeError, KeyError):
            pass
        logger.warning("A value in the shared cache was not written by this application and was passed over")
        return None

    def _set(self, visit: Visit, key: str, content: object, ttl: float) -> None:
        if not visit.is_over:
            value = str(self._serializer().dumps([key, self._clock() + ttl, content]))
            self._breaker.use(visit, "set", self._cache.set, key, value, ttl)

    def _serializer(self) -> URLSafeSerializer:
        # Only by the newest key: values by older ones are kept under other names, which nobody looks up any longer.
        return URLSafeSerializer(
            self._value_keys.newest(), signer_kwargs={"key_derivation": "none", "digest_method": hashlib.sha256}
        )

    @contextmanager
    def _locked(self, visit: Visit, key: str) -> Iterator[None]:
        lock = None if visit.is_over else self._breaker.use(visit, "lock", _entered, self._cache, key)
        try:
            yield
        finally:
            if lock is not None:
                self._breaker.use(visit, "unlock", lock.__exit__, None, None, None)


def _entered(cache: SharedCache, key: str) -> AbstractContextManager[object]:
    lock = cache.lock(key)
    lock.__enter__()
    return lock


def _outcome_of(resolver: Resolver, token: HiddenToken) -> MarketplaceCustomer | BaseException:
    # An error is answered and not raised: its traceback holds frames with the token, and would go along with whatever
    # the cache raises or logs meanwhile.
    try:
        return resolver.resolve(token.value)
    except BaseException as exc:  # noqa: BLE001 - raised again when the lock is released.
        return exc


def _outcome(content: object) -> MarketplaceCustomer | TokenError:
    match content:
        case dict(customer):
            return MarketplaceCustomer(**customer)
        case [str(code), *texts]:
            return _VERDICTS[code](*map(str, texts))
    raise ValueError("not a resolution")
