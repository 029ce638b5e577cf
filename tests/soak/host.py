"""The host of the soak: `python -m tests.soak.host FD [--sabotaged]`, with settings from the environment."""

import gc
import logging
import socket
import sys
from itertools import count

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from starlette_marketplace import InvalidTokenError, MarketplaceCustomer, MarketplaceSettings
from starlette_marketplace.registration.resolver import AwsResolver
from tests.support.hosts import starlette_middleware


class Counting(AwsResolver):
    """Knows how many resolutions are under way, those included that wait before they ask AWS again."""

    def __init__(self, settings: MarketplaceSettings) -> None:
        super().__init__(settings)
        self._under_way: set[object] = set()

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    def resolve(self, token: str) -> MarketplaceCustomer:
        this = object()
        self._under_way.add(this)
        try:
            return self._resolve(token)
        finally:
            self._under_way.remove(this)

    def _resolve(self, token: str) -> MarketplaceCustomer:
        return super().resolve(token)


class Sabotaged(Counting):
    """Breaks what the package promises, to see that the soak would notice."""

    def __init__(self, settings: MarketplaceSettings) -> None:
        super().__init__(settings)
        self._numbers = count(1)
        self._hoard: list[bytearray] = []
        self._last: MarketplaceCustomer | None = None

    def _resolve(self, token: str) -> MarketplaceCustomer:
        self._hoard += (bytearray(1000) for _ in range(500))
        last, self._last = self._last, super()._resolve(token)
        match next(self._numbers) % 10:
            case 0:
                raise InvalidTokenError("lost")
            case 3:
                raise RuntimeError("failed")
            case 6 if last is not None:
                return last
            case _:
                return self._last


async def rest(request: Request) -> Response:
    """What is open, under way and alive, to be asked when all is quiet."""
    gc.collect()
    state = request.app.state
    return JSONResponse(
        {
            "connections": len(state.server.server_state.connections),
            "resolutions": state.resolver.under_way,
            "objects": sys.getallocatedblocks(),
        }
    )


def main(descriptor: str, *options: str) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    settings = MarketplaceSettings.from_env()
    resolver = Sabotaged(settings) if options else Counting(settings)
    app = starlette_middleware(settings=settings, resolver=resolver)
    if isinstance(app, Starlette):
        app.router.routes.append(Route("/rest", rest))
        app.state.resolver = resolver
        app.state.server = uvicorn.Server(uvicorn.Config(app, ws="none", log_config=None, access_log=False))
        app.state.server.run([socket.socket(fileno=int(descriptor))])


if __name__ == "__main__":
    main(*sys.argv[1:])
