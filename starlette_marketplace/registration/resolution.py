"""`Resolutions`: each registration token is asked about once, and its outcome is kept for a while."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..clocks import monotonic
from ..flights import Flights
from ..keys import Keys
from ..pool import Pool
from .kept import HiddenToken, key_of, lifetime

if TYPE_CHECKING:
    from ..customer import MarketplaceCustomer
    from ..settings import MarketplaceSettings
    from ..telemetry import Telemetry
    from .resolver import Resolver


class Resolutions:
    """Resolves tokens, one call to the resolver for each, however many ask.

    Args:
        settings: Keys and lifetimes.
        resolver: Asks AWS.
        pool: The threads; None makes some.
        telemetry: Takes note of what happens.
        timer: Seconds from any beginning, never running backwards.

    Attributes:
        pool: The threads.
    """

    def __init__(
        self,
        settings: MarketplaceSettings,
        resolver: Resolver,
        *,
        pool: Pool | None = None,
        telemetry: Telemetry | None = None,
        timer: Callable[[], float] = monotonic,
    ) -> None:
        self._resolver = resolver
        self.pool: Pool = Pool(settings) if pool is None else pool
        self._keys = Keys(settings, "token")
        self._flights: Flights[MarketplaceCustomer] = Flights(
            self.pool,
            size=settings.cache_size,
            lifetime=lambda outcome: lifetime(outcome, settings),
            telemetry=telemetry,
            timer=timer,
        )

    async def resolve(self, token: str, *, deadline: float | None = None) -> MarketplaceCustomer:
        """The customer of `token`, from the cache, from a call under way, or by asking.

        Args:
            token: The registration token.
            deadline: When to give up, by `anyio.current_time()`; None after the seconds of the setting.

        Raises:
            MarketplaceError: What the resolver raised.
            DeadlineExceededError: There is no outcome by then.
            OverloadedError: Too many wait already.
            UnavailableError: The server is shutting down.
        """
        hidden = HiddenToken(token)
        del token
        call = functools.partial(self._resolve, hidden)
        return await self._flights.get(key_of(hidden, self._keys), call, deadline=deadline)

    def _resolve(self, token: HiddenToken) -> MarketplaceCustomer:
        return self._resolver.resolve(token.value)
