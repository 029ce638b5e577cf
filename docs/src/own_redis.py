"""A host that shares its resolutions by a Redis client of its own: `uvicorn own_redis:app --workers 4`."""

import os

import redis
from fastapi import FastAPI

from starlette_marketplace import MarketplaceMiddleware
from starlette_marketplace.registration.redis import RedisCache

# Whatever speaks as redis.Redis does, such as what Sentinel's master_for() gives, or redis.RedisCluster. Without
# time-outs, a Redis that hangs would hold up buyers.
client = redis.Redis.from_url(os.environ["REDIS_URL"], socket_connect_timeout=0.2, socket_timeout=0.2)

app = FastAPI()
app.add_middleware(MarketplaceMiddleware, shared_cache=RedisCache(client))
