"""`Readings`: what AWS says of a customer, asked once however many want to know, and kept for a while."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..clocks import monotonic
from ..errors import AccessDeniedError, AgreementNotFoundError, MarketplaceError
from ..flights import Flights
from .agreements import check_agreement_id

if TYPE_CHECKING:
    from ..customer import MarketplaceCustomer
    from ..pool import Pool
    from ..settings import MarketplaceSettings
    from .agreements import Agreement
    from .entitlements import Entitlement
    from .reader import SubscriptionReader

# What may change at any moment: a subscription that is being prepared, a permission that is being given.
_SHORT = 10.0


class Readings:
    """Entitlements and agreements, by one call to the reader for each customer or agreement.

    Args:
        settings: Lifetimes.
        reader: Asks AWS.
        pool: The threads. They are not those of registrations, which must go on when AWS hangs here.
        timer: Seconds from any beginning, never running backwards.
    """

    def __init__(
        self,
        settings: MarketplaceSettings,
        reader: SubscriptionReader,
        *,
        pool: Pool,
        timer: Callable[[], float] = monotonic,
    ) -> None:
        self._reader = reader
        kept, briefly = settings.cache_ttl, min(settings.cache_ttl, _SHORT)

        def lifetime(outcome: object) -> float:
            if isinstance(outcome, MarketplaceError):
                # The agreement service takes five calls a second for all customers: the same refusal is kept, too.
                return briefly if isinstance(outcome, AccessDeniedError | AgreementNotFoundError) else 0.0
            return kept if outcome else briefly

        self._entitlements: Flights[tuple[Entitlement, ...]] = Flights(
            pool, size=settings.cache_size, lifetime=lifetime, timer=timer
        )
        self._agreements: Flights[Agreement] = Flights(pool, size=settings.cache_size, lifetime=lifetime, timer=timer)

    async def get_entitlements(self, customer: MarketplaceCustomer, *, refresh: bool) -> tuple[Entitlement, ...]:
        """See `Marketplace.get_entitlements`."""
        call = functools.partial(self._reader.get_entitlements, customer)
        return await self._entitlements.get(customer, call, refresh=refresh)

    async def get_agreement(self, agreement_id: str, *, refresh: bool) -> Agreement:
        """See `Marketplace.get_agreement`."""
        call = functools.partial(self._reader.get_agreement, check_agreement_id(agreement_id))
        return await self._agreements.get(agreement_id, call, refresh=refresh)
