"""The shared cache that `cache_url` names: whether it is there, and whether the app may use it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .case import LOOPBACK, Case, within
from .findings import Verdict, ok, problem, warning

if TYPE_CHECKING:
    from ..registration.redis import RedisCache

_ENCODE = "percent-encode what is neither letter nor digit in the user name and in the password, such as / as %2F"
_RIGHTS = "~starlette-marketplace:* +get +set +del +evalsha +script|load +select"
_REACH = (
    "Check that it is running, the host and port in cache_url, and firewalls on the way. With TLS, cache_url must "
    "begin with rediss://, without it with redis://."
)


def check_cache(case: Case) -> Iterator[Verdict]:
    """Whether workers can share what AWS answered. Where they cannot, buyers get through all the same."""
    url = case.settings.cache_url
    if url is None:
        yield ok("cache_url is not set: each worker asks AWS by itself, unless your app has its own shared_cache.")
        return
    try:
        cache, read = _cache_at(url)
    except ImportError:
        yield problem(
            "cache_url is set, and redis-py is not installed: your app does not start.",
            "Install the extra redis: pip install 'starlette-marketplace[redis]'.",
        )
        return
    except (ValueError, TypeError):
        yield problem(
            "redis-py cannot read cache_url: your app does not start.",
            f"It has to look like rediss://user:password@host:6379/0; {_ENCODE}.",
        )
        return
    if case.settings.cache_ttl == 0:
        yield warning(
            "cache_url is set, but cache_ttl is 0: nothing is kept, and the shared cache is not used.",
            "Leave cache_ttl at its default, or leave cache_url out.",
        )
        return
    if read.get("password") and urlsplit(url).scheme == "redis" and _host(read) not in LOOPBACK:
        yield warning(
            "The password in cache_url travels unencrypted, because redis:// is without TLS.",
            "Begin cache_url with rediss://, or make sure that nobody else is in the network on the way.",
        )
    yield _check_use(cache, url, read, case.limit)


def _cache_at(url: str) -> tuple[RedisCache, Mapping[str, Any]]:
    """The cache as the app makes it, and what redis-py reads in the URL."""
    from redis import ConnectionPool

    from ..registration.redis import RedisCache

    return RedisCache.from_url(url), ConnectionPool.from_url(url).connection_kwargs


def _check_use(cache: RedisCache, url: str, read: Mapping[str, Any], limit: float) -> Verdict:
    # With an @ behind the address, what was read as one may be a part of the password.
    is_cut = any("@" in part for part in urlsplit(url)[2:])
    place = "The shared cache" if is_cut or "path" in read else f"The shared cache at {_address(read)}"
    try:
        within(limit, lambda: _use(cache))
    except Exception as exc:  # noqa: BLE001 - whatever redis-py raises; the app passes over it as well.
        meaning, advice = _explain(exc)
        message = f"{place} {meaning}. Registrations go on without it."
        return warning(message, f"In cache_url, {_ENCODE}." if is_cut else advice)
    return ok(f"{place} can be read and written.")


def _address(read: Mapping[str, Any]) -> str:
    host = _host(read)
    return f"{f'[{host}]' if ':' in host else host}:{read.get('port', 6379)}"


def _host(read: Mapping[str, Any]) -> str:
    return str(read.get("host", "localhost"))


def _use(cache: RedisCache) -> None:
    """Read and lock a key of our own. A lock is written and deleted, and so stands for all that an app writes."""
    key = f"doctor:{secrets.token_hex(16)}"
    cache.get(key)
    with cache.lock(key):
        pass


def _explain(exc: Exception) -> tuple[str, str]:
    """What it means and what to do, by the kind of the error: its text may quote what the URL holds."""
    from redis import exceptions

    match exc:
        case exceptions.AuthenticationError():
            return "refuses the user name or the password, or needs them", f"Correct them in cache_url; {_ENCODE}."
        case exceptions.NoPermissionError():
            return "does not allow all that your app needs", f"Give the user in cache_url these rights: {_RIGHTS}."
        case exceptions.ReadOnlyError():
            return "is a read-only replica", "Name the primary in cache_url."
        case exceptions.OutOfMemoryError():
            return "has no memory left", "Give it more, or a maxmemory-policy that makes room, such as volatile-ttl."
        case exceptions.TimeoutError() | TimeoutError():
            return "does not answer in time", _REACH
        case exceptions.ConnectionError():
            return f"cannot be reached ({getattr(exc.__context__, 'strerror', None) or type(exc).__name__})", _REACH
        case exceptions.ResponseError():
            return (
                f"answers with an error ({type(exc).__name__})",
                f"A user in cache_url needs these rights: {_RIGHTS}. For Sentinel or a cluster, give your app a "
                "shared_cache instead of cache_url. If it is neither, see the log of the server.",
            )
    return f"cannot be used ({type(exc).__name__})", "Check cache_url and its options: see redis.Redis.from_url."
