from ipaddress import IPv6Address, ip_address

from fastapi import FastAPI
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.datastructures import Address
from starlette.responses import PlainTextResponse, Response

from starlette_marketplace import MarketplaceMiddleware
from starlette_marketplace.hooks import RegistrationRequested

limiter = FixedWindowRateLimiter(MemoryStorage())  # of this process; for several, a storage that they share
per_network = parse("20/minute")
for_all = parse("300/minute")  # for a flood from many networks


def network_of(client: Address | None) -> str:
    # Anyone with one IPv6 address has the 2**64 of its /64 network, so these count as one.
    try:
        address = ip_address(client.host if client else "")
    except ValueError:  # a socket of this machine
        return "unknown"
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
    return str(address)


async def limit_rate(event: RegistrationRequested) -> Response | None:
    # Behind a proxy this is the buyer's address only if the server is told so, as by uvicorn's --forwarded-allow-ips.
    network = network_of(event.request.client)
    # In this order: one network that is over its limit does not use up what there is for all.
    if limiter.hit(per_network, network) and limiter.hit(for_all):
        return None
    return PlainTextResponse("Too many tries. Please wait a minute and try again.", 429, {"Retry-After": "60"})


app = FastAPI()
app.add_middleware(MarketplaceMiddleware, on_request=limit_rate)
