from fastapi import FastAPI
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.responses import PlainTextResponse, Response

from starlette_marketplace import MarketplaceMiddleware
from starlette_marketplace.hooks import RegistrationRequested

limiter = MovingWindowRateLimiter(MemoryStorage())  # of this process; for several, a storage that they share
per_address = parse("20/minute")


async def limit_rate(event: RegistrationRequested) -> Response | None:
    # Behind a proxy this is the buyer's address only if the server is told so, as by uvicorn's --forwarded-allow-ips.
    client = event.request.client
    if limiter.hit(per_address, client.host if client else "unknown"):
        return None
    return PlainTextResponse("Too many tries. Please wait a minute and try again.", 429, {"Retry-After": "60"})


app = FastAPI()
app.add_middleware(MarketplaceMiddleware, on_request=limit_rate)
