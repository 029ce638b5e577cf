"""Sharing resolutions with other workers: the `SharedCache` Protocol, and the resolver that asks it before AWS.

It runs in threads of our own. The shared cache is a help and never a need: one that fails or hangs is passed over, for
a while and for all tokens, so that a buyer loses a moment at most.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from itsdangerous import BadData, URLSafeSerializer

from .clocks import monotonic, wall_clock
from .customer import MarketplaceCustomer
from .errors import ExpiredTokenError, InvalidTokenError, TokenError
from .keys import Keys
from .resolver import HiddenToken
from .telemetry import Telemetry
from .threads import call_after_fork

if TYPE_CHECKING:
    from .resolver import Resolver
    from .settings import MarketplaceSettings

logger: logging.Logger = logging.getLogger("starlette_marketplace")

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


@dataclass(slots=True)
class _Visit:
    """What one resolution has to do with the cache, which it gives up at the first failure.

    Attributes:
        is_over: Whether it is to use the cache no further.
        outages: How many outages there had been when it began.
    """

    is_over: bool
    outages: int


# In the order in which a resolution comes to them.
_STEPS = ("get", "lock", "set", "unlock")


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

    # A cache that is down or slow costs its time-out once in so many seconds, and not for each buyer.
    _PAUSE = 5.0

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
        self._keys = Keys(settings, "token")
        self._signing_keys = Keys(settings, "resolution")
        self._ttl = settings.cache_ttl
        self._verdict_ttl = min(settings.cache_ttl, VERDICT_TTL)
        self._timer = timer
        self._clock = clock
        self._begin()
        call_after_fork(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._outages = 0
        # The step that fails, the last of them where several do: those before it may work all the while.
        self._failing: int | None = None
        self._next_try = 0.0

    def connect(self) -> None:
        """Use the cache once, so that a mistake in its address is in the log before the first buyer comes."""
        self._get(self._visit(), key_of(HiddenToken(""), self._keys))

    def resolve(self, token: str) -> MarketplaceCustomer:
        """The customer of `token`, whichever worker has asked AWS.

        Raises:
            MarketplaceError: What the resolver raised, here or in another worker.
        """
        hidden = HiddenToken(token)
        del token
        key = key_of(hidden, self._keys)
        visit = self._visit()
        found = self._get(visit, key)
        self._telemetry.looked_up_shared("failed" if visit.is_over else "hit" if found else "miss")
        if found is None:
            with self._locked(visit, key):
                found = self._get(visit, key) or self._ask(visit, key, hidden)
        if isinstance(found, TokenError):
            raise found
        return found

    def _ask(self, visit: _Visit, key: str, token: HiddenToken) -> MarketplaceCustomer:
        try:
            customer = self._resolver.resolve(token.value)
        except TokenError as error:
            if type(error) in _VERDICTS.values():
                self._set(visit, key, [error.code, str(error)], self._verdict_ttl)
            raise
        self._set(visit, key, asdict(customer), self._ttl)
        return customer

    def _get(self, visit: _Visit, key: str) -> MarketplaceCustomer | TokenError | None:
        value = None
        if not visit.is_over:
            with self._passed_over(visit, "get"):
                value = self._cache.get(key)
        if value is None:
            return None
        try:
            # The key is signed along, so that a value cannot be moved to another token, and so is its end, so that
            # nobody can put it back later.
            signed_key, expires_at, content = self._serializer().loads(value)
            if signed_key == key:
                return _outcome(content) if self._clock() < expires_at else None
        except (BadData, ValueError, TypeError, KeyError):
            pass
        logger.warning("A value in the shared cache was not written by this application and was passed over")
        return None

    def _set(self, visit: _Visit, key: str, content: object, ttl: float) -> None:
        if not visit.is_over:
            with self._passed_over(visit, "set"):
                self._cache.set(key, str(self._serializer().dumps([key, self._clock() + ttl, content])), ttl)

    def _serializer(self) -> URLSafeSerializer:
        return URLSafeSerializer(
            self._signing_keys.newest(), signer_kwargs={"key_derivation": "none", "digest_method": hashlib.sha256}
        )

    @contextmanager
    def _locked(self, visit: _Visit, key: str) -> Iterator[None]:
        lock = None
        if not visit.is_over:
            with self._passed_over(visit, "lock"):
                entering = self._cache.lock(key)
                entering.__enter__()
                lock = entering
        try:
            yield
        finally:
            if lock is not None:
                with self._passed_over(visit, "unlock"):
                    lock.__exit__(None, None, None)

    def _visit(self) -> _Visit:
        """Begin a resolution; while the cache is down, one of them tries it now and then."""
        with self._lock:
            is_over = False
            if self._failing is not None:
                now = self._timer()
                is_over = now < self._next_try
                if not is_over:
                    self._next_try = now + self._PAUSE
            return _Visit(is_over, self._outages)

    @contextmanager
    def _passed_over(self, visit: _Visit, operation: str) -> Iterator[None]:
        step = _STEPS.index(operation)
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - an implementation raises what its client library does.
            visit.is_over = True
            if self._fail(step):
                # Of the exception no more than its kind: its text may quote an address with the password in it.
                reason = type(exc).__name__
                logger.warning(
                    "The shared cache failed at %s (%s): registrations go on without it, and it is tried again every "
                    "%.0f s",
                    operation,
                    reason,
                    self._PAUSE,
                    extra={"operation": operation, "reason": reason, "retry_after": self._PAUSE},
                )
        else:
            if self._succeed(step, visit):
                logger.warning("The shared cache works again")

    def _fail(self, step: int) -> bool:
        """Whether this begins an outage."""
        with self._lock:
            is_new = self._failing is None
            self._outages += is_new
            self._failing = step if self._failing is None else max(step, self._failing)
            self._next_try = self._timer() + self._PAUSE
            return is_new

    def _succeed(self, step: int, visit: _Visit) -> bool:
        """Whether this ends an outage: what failed works, and it began to be tried after it had failed."""
        with self._lock:
            if step != self._failing or visit.outages < self._outages:
                return False
            self._failing = None
            return True


def key_of(token: HiddenToken, keys: Keys) -> str:
    """The key under which the outcome of `token` is kept, which tells nothing of the token without the secret key."""
    return hmac.new(keys.newest(), token.value.encode(), hashlib.sha256).hexdigest()


def _outcome(content: object) -> MarketplaceCustomer | TokenError:
    match content:
        case dict(customer):
            return MarketplaceCustomer(**customer)
        case [str(code), str(text)]:
            return _VERDICTS[code](text)
    raise ValueError("not a resolution")
