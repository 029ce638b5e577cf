"""`Marketplace`: everything wired once."""

from __future__ import annotations

import functools
import gc
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

import anyio
from starlette.routing import Route, Router

from .aws import Connection
from .errors import DeadlineExceededError, MarketplaceError, RegionError, SettingsError
from .hooks import HookOptions, Hooks
from .parts import check_part, make_shared_cache, make_telemetry
from .pool import Pool
from .registration.endpoint import RegistrationEndpoint
from .registration.resolution import Resolutions
from .registration.resolver import AwsResolver, CheckedResolver, Resolver
from .registration.session import RegistrationSession
from .registration.shared_cache import SharedCache, SharedResolver
from .routing import MountedRoute
from .settings import MarketplaceSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from starlette.requests import HTTPConnection
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from .customer import MarketplaceCustomer, Registration
    from .subscriptions.agreements import Agreement
    from .subscriptions.entitlements import Entitlement
    from .subscriptions.reader import SubscriptionReader
    from .subscriptions.readings import Readings

logger: logging.Logger = logging.getLogger("starlette_marketplace")

SCOPE_KEY = "starlette_marketplace"
"""Where the middleware puts its `Marketplace` into the scope of each request."""


class Marketplace:
    """The AWS Marketplace side of one host, and an ASGI app to mount, with the fulfillment URL at `/register`.

    Args:
        settings: None reads them from the environment.
        resolver: Asks for the customer of a token; `AwsResolver` when None.
        reader: Asks for entitlements and agreements; AWS when None.
        shared_cache: Shares resolutions between workers; None takes the one of `cache_url`, if that is set.
        **hooks: `on_request`, `on_resolved`, `on_error` and `on_visit`; see `hooks.HookOptions`.

    Attributes:
        settings: The settings in force.
        endpoint: The fulfillment URL as an ASGI app, whatever its path.
        routes: For `Mount("/marketplace", routes=marketplace.routes)`.

    Raises:
        SettingsError: A setting is missing or makes no sense.
        TypeError: A part is of the wrong kind, such as a resolver that is async.
    """

    def __init__(
        self,
        settings: MarketplaceSettings | None = None,
        *,
        resolver: Resolver | None = None,
        reader: SubscriptionReader | None = None,
        shared_cache: SharedCache | None = None,
        **hooks: Unpack[HookOptions],
    ) -> None:
        if not isinstance(settings, MarketplaceSettings | None):
            raise TypeError(f"settings must be MarketplaceSettings or None, not {type(settings).__name__}")
        check_part("resolver", resolver, "resolve")
        check_part("reader", reader, "get_entitlements", "get_agreement")
        check_part("shared_cache", shared_cache, "get", "set", "lock")
        self.settings: MarketplaceSettings = MarketplaceSettings.from_env() if settings is None else settings
        self._telemetry = make_telemetry()
        self._connects: list[Callable[[], None]] = []
        self._pool = Pool(self.settings)
        self._reading_pool = Pool(self.settings)
        self._connection = Connection(self.settings)
        self._reader = reader
        resolver = self._make_resolver(resolver, shared_cache)
        self._session = RegistrationSession(self.settings)
        self.endpoint: RegistrationEndpoint = RegistrationEndpoint(
            settings=self.settings,
            resolutions=Resolutions(self.settings, resolver, pool=self._pool, telemetry=self._telemetry),
            session=self._session,
            telemetry=self._telemetry,
            hooks=Hooks(**hooks),
        )
        mounted = replace(self.endpoint, is_mounted=True)
        self.routes: list[Route] = [
            MountedRoute("/register", mounted, name="marketplace-register"),
            MountedRoute("/register/", mounted, include_in_schema=False),
        ]
        self._router = Router(self.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the routes."""
        if "router" not in scope:
            # Outside Starlette, root_path may or may not contain the mount's own prefix, so it says nothing.
            scope = {"app_root_path": "", **scope}
        await self._router(scope, receive, send)

    def __copy__(self) -> Self:
        """Itself: there is one set of threads, calls under way and cached answers."""
        return self

    def __deepcopy__(self, _: object) -> Self:
        """Itself, too: some middleware copies the scope of each request deeply, and it holds this object."""
        return self

    async def startup(self) -> None:
        """Get ready for the first buyer: create the boto3 client, and look whether the shared cache can be reached.

        The middleware calls it when the server starts. Hosts that mount may call it in their lifespan; without it the
        first buyer waits a moment longer. What is wrong with AWS or its configuration, such as missing credentials, is
        logged as an ERROR and not raised: the host still serves. So is a look-up that takes longer than `deadline`.

        Raises:
            SettingsError: A setting does not fit the AWS configuration.
            RegionError: The region is not the name of one.
        """
        for connect in self._connects:
            deadline = anyio.current_time() + self.settings.deadline
            try:
                await self._pool.run(connect, deadline=deadline)
            except (SettingsError, RegionError):
                raise
            except MarketplaceError as error:
                reason = str(error)
                if isinstance(error, DeadlineExceededError):
                    # Looking up credentials ends before that by itself.
                    limit = self.settings.deadline
                    reason = f"The shared cache has not answered within {limit:g} s. Give its client time-outs."
                logger.error(
                    "AWS Marketplace registrations will fail: %s", reason, extra={"code": error.code, "reason": reason}
                )
        if self._connects and gc.isenabled():
            # boto3 has brought many objects that stay. Going through them stops the process for a moment: now, and not
            # in the middle of the first thousand buyers.
            gc.collect()

    def shutdown(self) -> None:
        """Let no registration wait any longer; calls to AWS that are under way end by themselves."""
        self._pool.close()
        self._reading_pool.close()

    def _make_resolver(self, resolver: Resolver | None, shared_cache: SharedCache | None) -> Resolver:
        """What is asked for the customer of a token: the shared cache, if there is one, and then AWS."""
        if resolver is None:
            resolver = AwsResolver(self.settings, connection=self._connection)
        if isinstance(resolver, AwsResolver):
            self._connects.append(resolver.connect)
        resolver = CheckedResolver(resolver, self.settings, self._telemetry)
        if shared_cache is None and self.settings.cache_url is not None:
            shared_cache = make_shared_cache(self.settings)
        if shared_cache is None or self.settings.cache_ttl == 0:
            return resolver
        shared = SharedResolver(resolver, shared_cache, self.settings, telemetry=self._telemetry)
        self._connects.append(shared.connect)
        return shared

    def get_registrations(self, connection: HTTPConnection) -> list[Registration]:
        """The registrations that this browser has not finished, newest first."""
        return self._session.registrations(connection)

    def get_registration(self, connection: HTTPConnection, registration_id: str | None = None) -> Registration | None:
        """One registration that this browser has not finished.

        Args:
            connection: The request that asks.
            registration_id: Which one; None for the newest.

        Returns:
            None when there is none, which is normal: buyers who did not come from AWS sign up too.
        """
        if registration_id is not None:
            return self._session.registration(connection, registration_id)
        return next(iter(self.get_registrations(connection)), None)

    def complete_registration(self, response: Response, registration: Registration) -> None:
        """Make `response` end the registration session of `registration`, once the customer is linked to an account."""
        self._session.delete(response, registration)

    def discard_registration(self, response: Response, registration: Registration) -> None:
        """Make `response` end the registration session of `registration`, as the visitor says that it is not theirs.

        The subscription stays as it is at AWS: *Set up your account* begins another registration.
        """
        self._session.delete(response, registration)

    async def get_entitlements(
        self, customer: MarketplaceCustomer, *, refresh: bool = False
    ) -> tuple[Entitlement, ...]:
        """What `customer` has bought by contract, by `GetEntitlements`.

        It is kept for `cache_ttl`, and an empty answer for ten seconds, in each worker. AWS takes 20 calls a second
        for the whole account.

        Args:
            customer: Who, as `registration.customer` or rebuilt from what you have stored.
            refresh: Whether to ask AWS now, whatever is kept or has been asked before.

        Returns:
            Empty when there is nothing, which is normal: the subscription is not active yet or not any longer, or the
            product is pay as you go, for which the agreement tells.

        Raises:
            IncompleteAnswerError: The answer cannot be used: it is about somebody else, for example.
            UnavailableError: There is no answer now; the same call may work in a moment.
            ConfigurationError: Permissions, credentials, the region or an endpoint are wrong.
        """
        return await self._readings.get_entitlements(customer, refresh=refresh)

    async def get_agreement(self, agreement_id: str, *, refresh: bool = False) -> Agreement:
        """The agreement of that id, by `DescribeAgreement`.

        It is kept for `cache_ttl` in each worker. AWS takes five calls a second for the whole account, so this is not
        for every request.

        Args:
            agreement_id: The id, as `customer.agreement_id`.
            refresh: Whether to ask AWS now, whatever is kept or has been asked before.

        Raises:
            ValueError: It is not the id of an agreement.
            AgreementNotFoundError: AWS does not know it.
            AccessDeniedError: The permission is missing, or a partner has resold the product and only the partner can
                read the agreement. `get_entitlements` works then, too.
            IncompleteAnswerError: The answer cannot be used.
            UnavailableError: There is no answer now; the same call may work in a moment.
            ConfigurationError: Credentials, the region or an endpoint are wrong.
        """
        return await self._readings.get_agreement(agreement_id, refresh=refresh)

    @functools.cached_property
    def _readings(self) -> Readings:
        # Not before somebody asks: a host that does not pays nothing for it.
        from .subscriptions.reader import AwsReader
        from .subscriptions.readings import Readings

        reader = AwsReader(self._connection, self.settings) if self._reader is None else self._reader
        return Readings(self.settings, reader, pool=self._reading_pool)
