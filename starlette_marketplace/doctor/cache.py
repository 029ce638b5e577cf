"""The shared cache that `cache_url` names: whether it is there, and whether the host may use it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .configuration import LOOPBACK
from .findings import Finding, ok, problem, warning
from .patience import within

if TYPE_CHECKING:
    from ..registration.redis import RedisCache
    from ..settings import MarketplaceSettings

_CHECK = "shared_cache"
_LIMIT = 10.0
_ENCODE = "percent-encode what is neither letter nor digit in the user name and in the password, such as / as %2F"
_RIGHTS = "~starlette-marketplace:* +get +set +del +evalsha +script|load +select"
_REACH = (
    "Is it running, and is this the right host and port? Does a firewall drop what comes from here? Where the server "
    "wants TLS, cache_url has to begin with rediss://, and where it has none, with redis://."
)


def check_cache(settings: MarketplaceSettings, *, limit: float = _LIMIT) -> Iterator[Finding]:
    """Whether workers can share what AWS answered. Where they cannot, buyers get through all the same.

    Args:
        settings: The settings, which are valid.
        limit: Seconds for what the server is asked.
    """
    url = settings.cache_url
    if url is None:
        yield ok(
            _CHECK,
            "cache_url is not set: each worker asks AWS by itself, unless the host has a shared_cache of its own; "
            "either is fine.",
        )
        return
    try:
        cache, read = _cache_at(url)
    except ImportError:
        yield problem(
            _CHECK,
            "cache_url is set, and redis-py is not installed: the host does not start.",
            "Install the extra redis: pip install 'starlette-marketplace[redis]'.",
        )
        return
    except (ValueError, TypeError):
        yield problem(
            _CHECK,
            "redis-py cannot read cache_url: the host does not start.",
            f"It has to look like rediss://user:password@host:6379/0; {_ENCODE}.",
        )
        return
    if settings.cache_ttl == 0:
        yield warning(
            _CHECK,
            "cache_url is set, but cache_ttl is 0: nothing is kept, and the shared cache is not used.",
            "Leave cache_ttl at its default, or leave cache_url out.",
        )
        return
    yield from _check_secrecy(url, read)
    yield _check_use(cache, url, read, limit)


def _cache_at(url: str) -> tuple[RedisCache, Mapping[str, Any]]:
    """The cache as the host makes it, and what redis-py reads in the URL."""
    from redis import ConnectionPool

    from ..registration.redis import RedisCache

    return RedisCache.from_url(url), ConnectionPool.from_url(url).connection_kwargs


def _check_secrecy(url: str, read: Mapping[str, Any]) -> Iterator[Finding]:
    if read.get("password") and urlsplit(url).scheme == "redis" and _host(read) not in LOOPBACK:
        yield warning(
            _CHECK,
            "The password in cache_url travels in the open, as redis:// is without TLS.",
            "Begin cache_url with rediss:// if the server has TLS; if not, see to it that nobody else is in the "
            "network on the way.",
        )


def _check_use(cache: RedisCache, url: str, read: Mapping[str, Any], limit: float) -> Finding:
    # With an @ behind the address, what was read as one may be a part of the password.
    is_cut = any("@" in part for part in urlsplit(url)[2:])
    place = "The shared cache" if is_cut or "path" in read else f"The shared cache at {_address(read)}"
    try:
        within(limit, lambda: _use(cache))
    except Exception as exc:  # noqa: BLE001 - whatever redis-py raises; the host passes over it as well.
        meaning, advice = _explain(exc)
        message = f"{place} {meaning}. Registrations go on without it."
        return warning(_CHECK, message, f"In cache_url, {_ENCODE}." if is_cut else advice)
    return ok(_CHECK, f"{place} can be read and written.")


def _address(read: Mapping[str, Any]) -> str:
    host = _host(read)
    return f"{f'[{host}]' if ':' in host else host}:{read.get('port', 6379)}"


def _host(read: Mapping[str, Any]) -> str:
    return str(read.get("host", "localhost"))


def _use(cache: RedisCache) -> None:
    """Read and lock a key of our own. A lock is written and deleted, and so stands for all that a host writes."""
    key = f"doctor:{secrets.token_hex(16)}"
    cache.get(key)
    with cache.lock(key):
        pass


def _explain(exc: Exception) -> tuple[str, str]:
    """What it means and what to do, by the kind of the error: its text may quote what the URL holds."""
    from redis import exceptions

    match exc:
        case exceptions.AuthenticationError():
            return (
                "refuses the user name or the password, or wants them",
                f"Put those that the server has for the host into cache_url; {_ENCODE}.",
            )
        case exceptions.NoPermissionError():
            return (
                "does not allow all that it is needed for",
                f"Give the user in cache_url these rights with ACL SETUSER: {_RIGHTS}.",
            )
        case exceptions.ReadOnlyError():
            return "is a replica that can only be read", "Name the primary in cache_url."
        case exceptions.OutOfMemoryError():
            return (
                "has no memory left",
                "Give it more, or a maxmemory-policy that makes room, such as volatile-ttl.",
            )
        case exceptions.TimeoutError() | TimeoutError():
            return "does not answer in time", _REACH
        case exceptions.ConnectionError():
            return f"cannot be reached ({getattr(exc.__context__, 'strerror', None) or type(exc).__name__})", _REACH
        case exceptions.ResponseError():
            return (
                f"answers with an error ({type(exc).__name__})",
                f"A user in cache_url needs these rights: {_RIGHTS}. A Sentinel, or a node of a cluster, takes a "
                "shared_cache of your own in the place of cache_url. If it is neither, its log may say more.",
            )
    return (
        f"cannot be used ({type(exc).__name__})",
        "Look at the host and the options in cache_url: see redis.Redis.from_url.",
    )
