"""AWS Marketplace SaaS registration for FastAPI and Starlette."""

import importlib
from typing import TYPE_CHECKING

from ._version import __version__
from .customer import MarketplaceCustomer, Registration
from .dependencies import (
    complete_registration,
    discard_registration,
    get_agreement,
    get_entitlements,
    get_registration,
    get_registration_by_id,
    get_registrations,
    refuse_foreign_posts,
)
from .errors import (
    AccessDeniedError,
    AgreementNotFoundError,
    AwsUnavailableError,
    ConfigurationError,
    CredentialsError,
    DeadlineExceededError,
    DisabledApiError,
    ExpiredTokenError,
    IncompleteAnswerError,
    InvalidTokenError,
    MalformedRequestError,
    MarketplaceError,
    MissingTokenError,
    OverloadedError,
    ProductMismatchError,
    RegionError,
    RequestError,
    RequestTooLargeError,
    SettingsError,
    ThrottledError,
    TokenError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from .marketplace import Marketplace
from .middleware import MarketplaceMiddleware
from .registration.resolver import Resolver
from .settings import MarketplaceSettings

if TYPE_CHECKING:
    from .subscriptions.agreements import Agreement
    from .subscriptions.entitlements import Entitlement
    from .subscriptions.reader import SubscriptionReader

# Imported when they are first used: an app that only registers buyers starts as fast as without them.
_LATER = {
    "Agreement": ".subscriptions.agreements",
    "Entitlement": ".subscriptions.entitlements",
    "SubscriptionReader": ".subscriptions.reader",
}


# A type checker that saw it would take every misspelled name for one of the package's.
if not TYPE_CHECKING:  # pragma: no branch - it is never false when this runs.

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_LATER[name], __name__), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LATER})


__all__ = [
    "AccessDeniedError",
    "Agreement",
    "AgreementNotFoundError",
    "AwsUnavailableError",
    "ConfigurationError",
    "CredentialsError",
    "DeadlineExceededError",
    "DisabledApiError",
    "Entitlement",
    "ExpiredTokenError",
    "IncompleteAnswerError",
    "InvalidTokenError",
    "MalformedRequestError",
    "Marketplace",
    "MarketplaceCustomer",
    "MarketplaceError",
    "MarketplaceMiddleware",
    "MarketplaceSettings",
    "MissingTokenError",
    "OverloadedError",
    "ProductMismatchError",
    "RegionError",
    "Registration",
    "RequestError",
    "RequestTooLargeError",
    "Resolver",
    "SettingsError",
    "SubscriptionReader",
    "ThrottledError",
    "TokenError",
    "UnavailableError",
    "UnsupportedMediaTypeError",
    "__version__",
    "complete_registration",
    "discard_registration",
    "get_agreement",
    "get_entitlements",
    "get_registration",
    "get_registration_by_id",
    "get_registrations",
    "refuse_foreign_posts",
]
