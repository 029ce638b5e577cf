from ipaddress import IPv6Address, ip_address

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.datastructures import Address


class RateLimit:
    """Counts the tries of each network, and those of all networks together."""

    def __init__(self, *, network_tries_per_minute: int, tries_per_minute: int) -> None:
        self.limiter = FixedWindowRateLimiter(MemoryStorage())  # of this process; for several, one that they share
        self._of_network = RateLimitItemPerMinute(network_tries_per_minute)
        self._of_all = RateLimitItemPerMinute(tries_per_minute)

    def exceeded(self, client: Address | None) -> RateLimitItem | None:
        """Count one try and return the limit that it exceeds, if any."""
        # In this order: a network that is over its limit does not use up the limit of all.
        if not self.limiter.hit(self._of_network, network_of(client)):
            return self._of_network
        return None if self.limiter.hit(self._of_all) else self._of_all


def network_of(client: Address | None) -> str:
    # Behind a proxy this is the visitor's address only if the server is told so, as by uvicorn's --forwarded-allow-ips.
    try:
        address = ip_address(client.host if client else "")
    except ValueError:  # a socket of this machine
        return "unknown"
    if isinstance(address, IPv6Address):
        # Anyone with one IPv6 address has the 2**64 of its /64 network, so these count as one.
        return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
    return str(address)
