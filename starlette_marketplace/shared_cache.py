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
from typing import TYPE_CHECKING, Protocol, TypeVar

from itsdangerous import BadData, URLSafeSerializer

from .clocks import monotonic, wall_clock
from .customer import MarketplaceCustomer
from .errors import ExpiredTokenError, InvalidTokenError, TokenError
from .keys import Keys
from .resolver import HiddenToken
from .settings import is_identified
from .telemetry import Telemetry
from .threads import call_after_fork

if TYPE_CHECKING:
    from .resolver import Resolver
    from .settings import MarketplaceSettings

R = TypeVar("R")

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


@dataclass(slots=True, eq=False)
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
        self._ttl = settings.cache_ttl
        self._verdict_ttl = min(settings.cache_ttl, VERDICT_TTL)
        # Longer than a buyer waits: what has not ended by then hangs.
        self._patience = settings.deadline
        self._timer = timer
        self._clock = clock
        self._begin()
        call_after_fork(self._begin)

    def _begin(self) -> None:
        # Guards all below.
        self._lock = threading.RLock()
        self._outages = 0
        # The step that fails, the last of them where several do: those before it may work all the while.
        self._failing: int | None = None
        self._next_try = 0.0
        # At which step a resolution is, and since when.
        self._under_way: dict[_Visit, tuple[int, float]] = {}

    def connect(self) -> None:
        """Use the cache once, so that a mistake in its address is in the log before the first buyer comes."""
        self._get(self._visit(), key_of(HiddenToken(""), self._token_keys))

    def resolve(self, token: str) -> MarketplaceCustomer:
        """The customer of `token`, whichever worker has asked AWS.

        Raises:
            MarketplaceError: What the resolver raised, here or in another worker.
        """
        hidden = HiddenToken(token)
        del token
        key = key_of(hidden, self._token_keys)
        visit = self._visit()
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

    def _ask(self, visit: _Visit, key: str, token: HiddenToken) -> MarketplaceCustomer | BaseException:
        outcome = _outcome_of(self._resolver, token)
        if isinstance(outcome, MarketplaceCustomer):
            self._set(visit, key, asdict(outcome), self._ttl)
        elif isinstance(outcome, TokenError) and type(outcome) in _VERDICTS.values():
            self._set(visit, key, [outcome.code, str(outcome)], self._verdict_ttl)
        return outcome

    def _get(self, visit: _Visit, key: str) -> MarketplaceCustomer | TokenError | None:
        value = None if visit.is_over else self._use(visit, "get", self._cache.get, key)
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

    def _set(self, visit: _Visit, key: str, content: object, ttl: float) -> None:
        if not visit.is_over:
            value = str(self._serializer().dumps([key, self._clock() + ttl, content]))
            self._use(visit, "set", self._cache.set, key, value, ttl)

    def _serializer(self) -> URLSafeSerializer:
        # Only by the newest key: values by older ones are kept under other names, which nobody looks up any longer.
        return URLSafeSerializer(
            self._value_keys.newest(), signer_kwargs={"key_derivation": "none", "digest_method": hashlib.sha256}
        )

    @contextmanager
    def _locked(self, visit: _Visit, key: str) -> Iterator[None]:
        lock = None if visit.is_over else self._use(visit, "lock", _entered, self._cache, key)
        try:
            yield
        finally:
            if lock is not None:
                self._use(visit, "unlock", lock.__exit__, None, None, None)

    def _visit(self) -> _Visit:
        """Begin a resolution; while the cache is down, one of them tries it now and then, and none while it hangs."""
        now = self._timer()
        with self._lock:
            hanging = [step for step, began in self._under_way.values() if now - began > self._patience]
            is_over = bool(hanging)
            if not is_over and self._failing is not None:
                is_over = now < self._next_try
                if not is_over:
                    self._next_try = now + self._PAUSE
            visit = _Visit(is_over, self._outages)
        if hanging:
            # Each further use would cost one more of our threads.
            self._fail(max(hanging), TimeoutError.__name__)
        return visit

    def _use(self, visit: _Visit, operation: str, function: Callable[..., R], *args: object) -> R | None:
        """What `function` answers; None when it fails, which is logged and passed over."""
        step = _STEPS.index(operation)
        with self._lock:
            self._under_way[visit] = step, self._timer()
        answer = reason = None
        try:
            answer = function(*args)
        except Exception as exc:  # noqa: BLE001 - an implementation raises what its client library does.
            # No more than its kind: its text may quote an address with the password in it. So it is logged when no
            # frame holds it any longer.
            reason = type(exc).__name__
        finally:
            with self._lock:
                del self._under_way[visit]
        if reason is not None:
            visit.is_over = True
            self._fail(step, reason)
        elif self._succeed(step, visit):
            logger.warning("The shared cache works again")
        return answer

    def _fail(self, step: int, reason: str) -> None:
        """Take note of a failure, and log it if it begins an outage."""
        with self._lock:
            is_new = self._failing is None
            self._outages += is_new
            self._failing = step if self._failing is None else max(step, self._failing)
            self._next_try = self._timer() + self._PAUSE
        if is_new:
            operation = _STEPS[step]
            logger.warning(
                "The shared cache failed at %s (%s): registrations go on without it, and it is tried again every "
                "%.0f s",
                operation,
                reason,
                self._PAUSE,
                extra={"operation": operation, "reason": reason, "retry_after": self._PAUSE},
            )

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
        case [str(code), str(text)]:
            return _VERDICTS[code](text)
    raise ValueError("not a resolution")
