"""What a host that has the middleware asks of a request: plain functions, and FastAPI dependencies.

Hosts that mount ask their own `Marketplace`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

# FastAPI reads the annotations of its dependencies when the host starts.
from starlette.requests import HTTPConnection

from .marketplace import SCOPE_KEY, Marketplace

if TYPE_CHECKING:
    from starlette.responses import Response

    from .customer import MarketplaceCustomer, Registration
    from .subscriptions.agreements import Agreement
    from .subscriptions.entitlements import Entitlement

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
# RFC 9110, section 9.2.1: what is asked for with these changes nothing.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def get_registration(connection: HTTPConnection) -> Registration | None:
    """The newest registration that this browser has not finished; also a FastAPI dependency.

    Returns:
        None when there is none, which is normal: buyers who did not come from AWS sign up too.

    Raises:
        RuntimeError: The middleware is not installed.
    """
    return _marketplace(connection).get_registration(connection)


def get_registrations(connection: HTTPConnection) -> list[Registration]:
    """The registrations that this browser has not finished, newest first; also a FastAPI dependency.

    Raises:
        RuntimeError: The middleware is not installed.
    """
    return _marketplace(connection).get_registrations(connection)


def get_registration_by_id(connection: HTTPConnection, registration_id: str) -> Registration | None:
    """The registration of that id, as the signup form sent it; None when it is over or not of this browser.

    Raises:
        RuntimeError: The middleware is not installed.
    """
    return _marketplace(connection).get_registration(connection, registration_id)


def complete_registration(connection: HTTPConnection, response: Response, registration: Registration) -> None:
    """Make `response` end the registration session of `registration`, once the customer is linked to an account.

    Raises:
        RuntimeError: The middleware is not installed.
    """
    _marketplace(connection).complete_registration(response, registration)


def discard_registration(connection: HTTPConnection, response: Response, registration: Registration) -> None:
    """Make `response` end the registration session of `registration`, as the visitor says that it is not theirs.

    The subscription stays as it is at AWS: *Set up your account* begins another registration.

    Raises:
        RuntimeError: The middleware is not installed.
    """
    _marketplace(connection).discard_registration(response, registration)


async def get_entitlements(
    connection: HTTPConnection, customer: MarketplaceCustomer, *, refresh: bool = False
) -> tuple[Entitlement, ...]:
    """What `customer` has bought by contract; see `Marketplace.get_entitlements`.

    Raises:
        RuntimeError: The middleware is not installed.
        MarketplaceError: The one that says why it cannot be told.
    """
    return await _marketplace(connection).get_entitlements(customer, refresh=refresh)


async def get_agreement(connection: HTTPConnection, agreement_id: str, *, refresh: bool = False) -> Agreement:
    """The agreement of that id; see `Marketplace.get_agreement`.

    Raises:
        RuntimeError: The middleware is not installed.
        ValueError: It is not the id of an agreement.
        MarketplaceError: The one that says why it cannot be told.
    """
    return await _marketplace(connection).get_agreement(agreement_id, refresh=refresh)


def refuse_foreign_posts(connection: HTTPConnection) -> None:
    """Refuse a form or a WebSocket that a page of another site has sent; also a FastAPI dependency.

    Put it on every route that changes something: browsers send SameSite cookies along with a form of another subdomain.
    The POST of AWS Marketplace, which is cross-site, does not get to it: the middleware answers before. A host without
    the middleware can use it, too.

    Browsers say in `Sec-Fetch-Site` where a request comes from, or in `Origin`. A client that sends neither is no
    browser, and has no cookies of a visitor. https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header

    Raises:
        HTTPException: 403, for any method but GET, HEAD, OPTIONS and TRACE.
    """
    if connection.scope.get("method") in _SAFE_METHODS:
        return
    site, origin = connection.headers.get("sec-fetch-site"), connection.headers.get("origin")
    if site is None and origin is not None:
        scheme, _, ours = origin.lower().partition("://")
        # Some proxies add the default port.
        host = connection.headers.get("host", "").lower().removesuffix(_DEFAULT_PORTS.get(scheme, ""))
        is_ours = host == ours != ""
        site = "same-origin" if is_ours else "cross-site"
    if site not in ("same-origin", "none", None):
        raise HTTPException(403, "This form was sent from another site. Open our own page and try again.")


def _marketplace(connection: HTTPConnection) -> Marketplace:
    marketplace = connection.scope.get(SCOPE_KEY)
    if not isinstance(marketplace, Marketplace):
        raise RuntimeError(
            "MarketplaceMiddleware is not installed: call app.add_middleware(MarketplaceMiddleware), "
            "or ask the Marketplace that you mounted: marketplace.get_registration(request)"
        )
    return marketplace
