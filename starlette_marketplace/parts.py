"""The parts of a `Marketplace`: what hosts give it, and what is made for it."""

from __future__ import annotations

import inspect
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from .errors import SettingsError
from .hooks import is_async
from .telemetry import Telemetry

if TYPE_CHECKING:
    from .registration.shared_cache import SharedCache
    from .settings import MarketplaceSettings

logger: logging.Logger = logging.getLogger("starlette_marketplace")


def check_part(name: str, part: object, *methods: str) -> None:
    """Raise a TypeError if `part` cannot be what the Protocol asks for."""
    if type(part).__module__.partition(".")[0] in ("redis", "valkey"):
        # Its methods have the same names as those of the Protocol, and do something else.
        raise TypeError(f"{name} is a Redis client. Give starlette_marketplace.registration.redis.RedisCache(client).")
    if isinstance(part, type):
        raise TypeError(f"{name} is the class {part.__name__}. Give an instance of it.")
    for method in methods if part is not None else ():
        function = getattr(part, method, None)
        if not callable(function):
            raise TypeError(f"{name} has no method {method}(). It must have {', '.join(methods)}.")
        if is_async(function) or inspect.isasyncgenfunction(inspect.unwrap(function)):
            raise TypeError(f"{name}.{method}() is async, but it is called in a thread. Make it a plain method.")


def make_telemetry() -> Telemetry:
    """The one of OpenTelemetry, where it is installed."""
    try:
        from .otel import OpenTelemetry
    except ModuleNotFoundError:
        return Telemetry()
    except ImportError:
        logger.warning("There are no spans and metrics: opentelemetry-api is older than 1.30")
        return Telemetry()
    return OpenTelemetry()


def make_shared_cache(settings: MarketplaceSettings) -> SharedCache:
    """The one of `cache_url`.

    Raises:
        SettingsError: redis-py is not installed, or cannot read the URL.
    """
    # The URL is in no variable here, as it may hold a password, and error trackers send those of a traceback along.
    try:
        from .registration.redis import RedisCache
    except ImportError as exc:
        raise SettingsError(
            "cache_url is set, and redis-py is not installed.",
            "Install the extra: pip install 'starlette-marketplace[redis]'.",
        ) from exc
    with suppress(ValueError):
        # A worker that waits for another one in vain still has time to ask by itself.
        return RedisCache.from_url(str(settings.cache_url), lock_timeout=min(5.0, settings.deadline / 2))
    raise SettingsError("redis-py cannot read cache_url.", "See redis.Redis.from_url for what it can be.")
