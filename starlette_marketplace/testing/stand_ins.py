"""What stands in for AWS and its buyers, without the local marketplace."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from typing import Protocol, TypedDict, Unpack
from urllib.parse import urlsplit

from ..clocks import wall_clock
from ..customer import MarketplaceCustomer, Registration
from ..errors import InvalidTokenError, MarketplaceError
from ..registration.form import RegistrationForm
from ..registration.session import RegistrationSession
from ..settings import MarketplaceSettings, accepts_product, is_identified


class FakeResolver:
    """A `Resolver` without AWS, for `Marketplace(settings, resolver=FakeResolver({...}))`.

    Args:
        answers: What each token stands for: a customer, or the error that is raised. Other tokens are invalid.

    Attributes:
        answers: What each token stands for; it can be changed.
        calls: The tokens that were asked about, in order.
    """

    def __init__(self, answers: Mapping[str, MarketplaceCustomer | MarketplaceError]) -> None:
        self.answers: dict[str, MarketplaceCustomer | MarketplaceError] = dict(answers)
        self.calls: list[str] = []

    def resolve(self, token: str) -> MarketplaceCustomer:
        """The customer of `token`.

        Raises:
            MarketplaceError: The error that `answers` has for it; `InvalidTokenError` when there is nothing.
        """
        self.calls.append(token)
        answer = self.answers.get(token)
        if answer is None:
            raise InvalidTokenError("The fake resolver does not know this token.", "Add it to answers.")
        if isinstance(answer, MarketplaceError):
            raise answer
        return answer


class CustomerFields(TypedDict, total=False):
    """The fields of `MarketplaceCustomer`."""

    aws_account_id: str
    product_code: str
    license_arn: str | None
    customer_identifier: str | None
    agreement_id: str | None


def make_customer(**fields: Unpack[CustomerFields]) -> MarketplaceCustomer:
    """A made-up customer of a new SaaS product: another buyer with another agreement at each call.

    Args:
        **fields: What not to make up. `product_code` is `acmeanalytics`, as in the local marketplace, unless given.

    Raises:
        ValueError: A field is malformed.
    """
    customer = MarketplaceCustomer(
        aws_account_id=f"{secrets.randbelow(10**12):012}",
        product_code="acmeanalytics",
        license_arn=f"arn:aws:license-manager::111122223333:license:l-{secrets.token_hex(16)}",
        agreement_id=f"agmt-{secrets.token_hex(12)}",
    )
    return replace(customer, **fields)


def registration_form(
    token: str, *, free_trial: bool = False, hints: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The form that AWS Marketplace makes the buyer's browser post to the landing URL.

    Args:
        token: The registration token.
        free_trial: Whether the form says that the offer is a free trial.
        hints: Further `x-amzn-marketplace-*` fields.
    """
    return RegistrationForm(token=token, free_trial=free_trial, hints=_hints(free_trial, hints)).fields


class _Cookies(Protocol):
    """A cookie jar."""

    def set(self, name: str, value: str, *, domain: str) -> object:
        """Put a cookie into the jar."""
        ...


class Client(Protocol):
    """A test client with a cookie jar, such as Starlette's `TestClient`, those of httpx, and a `requests.Session`."""

    @property
    def cookies(self) -> _Cookies:
        """The jar."""
        ...


def add_registration(
    client: Client,
    settings: MarketplaceSettings | None = None,
    *,
    customer: MarketplaceCustomer | None = None,
    free_trial: bool = False,
    hints: Mapping[str, str] | None = None,
) -> Registration:
    """Give a test client the cookie of a buyer who has just arrived from AWS Marketplace.

    It works whatever `https_only` and `session_domain` say and whether the client speaks http or https. When the host
    completes the registration, the client loses the cookie, provided that it has a `base_url`.

    Args:
        client: The test client.
        settings: Those of the host; None reads them from the environment, as the middleware does.
        customer: Who has arrived. Made up when None, for the first of the settings' product codes.
        free_trial: Whether the form said that the offer is a free trial.
        hints: The further `x-amzn-marketplace-*` fields that the form had.

    Returns:
        What the host will read from the request.

    Raises:
        SettingsError: A setting is missing or makes no sense.
        ValueError: `product_codes` does not list the product of `customer`, so the host would not read the cookie.
    """
    settings = MarketplaceSettings.from_env() if settings is None else settings
    if customer is None:
        code = settings.product_codes[0]
        customer = make_customer() if code == "*" else make_customer(product_code=code)
    elif not accepts_product(settings, customer.product_code):
        raise ValueError(f"product_codes does not list {customer.product_code!r}, the product of this customer")
    elif not is_identified(settings, customer):
        raise ValueError(f"legacy_product_codes does not list {customer.product_code!r}: give the customer a license")
    registration = Registration(
        customer=customer,
        resolved_at=datetime.fromtimestamp(wall_clock(), UTC),
        free_trial=free_trial,
        hints=_hints(free_trial, hints),
    )
    [(name, cookie)] = SimpleCookie(RegistrationSession(settings).cookie(registration)).items()
    client.cookies.set(name, cookie.value, domain=_domain_in_jar(client, cookie["domain"]))
    return registration


def _hints(free_trial: bool, hints: Mapping[str, str] | None) -> dict[str, str]:
    offer_type = {"x-amzn-marketplace-offer-type": "free-trial"} if free_trial else {}
    return {**offer_type, **(hints or {})}


def _domain_in_jar(client: Client, session_domain: str) -> str:
    """The domain under which a cookie of the host itself gets into the client's jar, so that it is the same cookie."""
    host = urlsplit(str(getattr(client, "base_url", ""))).hostname or ""
    parent = "." + session_domain.lstrip(".")
    if session_domain and f".{host}".endswith(parent):
        return parent
    # What http.cookiejar makes of a name without a dot. Without a base_url, the cookie goes to every host.
    return host + ".local" if host and "." not in host else host
