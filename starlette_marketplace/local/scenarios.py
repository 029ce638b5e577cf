"""What a buyer can arrive with, by name."""

from __future__ import annotations

from dataclasses import dataclass

from .wire import INVALID_TOKEN, Failure


@dataclass(frozen=True, slots=True)
class Product:
    """A SaaS product in the local marketplace.

    Attributes:
        legacy: Listed before AWS issued licenses to new integrations: buyers have a customer identifier and no license.
    """

    code: str
    name: str
    vendor: str
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way in which setting up an account goes.

    Attributes:
        slug: Its name in code.
        title: Its name for people.
        summary: One sentence on what will happen.
        failure: What AWS answers instead of the buyer's identity; None when the token resolves.
        in_trouble: Whether the buyer will not get to sign up.
    """

    slug: str
    title: str
    summary: str
    product: Product
    free_trial: bool = False
    failure: Failure | None = None
    in_trouble: bool = False


_ANALYTICS = Product("acmeanalytics", "Acme Analytics", "Acme Software")
_REPORTS = Product("acmelegacy", "Acme Reports", "Acme Software", legacy=True)
_FORECAST = Product("someoneelse", "Borealis Forecast", "Borealis Labs")

PRODUCT_CODES = (_ANALYTICS.code, _REPORTS.code)
"""The product codes of the seller whose app is tried out; the remaining product is another seller's."""

SCENARIOS = {
    scenario.slug: scenario
    for scenario in (
        Scenario(
            "new-product",
            "New product",
            "The buyer arrives with an account id and a license, as for every new SaaS product.",
            _ANALYTICS,
        ),
        Scenario(
            "free-trial",
            "Free trial",
            "The buyer arrives like any other, with a note in the form that this is a free trial.",
            _ANALYTICS,
            free_trial=True,
        ),
        Scenario(
            "legacy-product",
            "Legacy product",
            "The buyer arrives with a customer identifier and no license, as for products listed before June 2026.",
            _REPORTS,
        ),
        Scenario(
            "wrong-product",
            "Another seller's product",
            "AWS knows the buyer, but the product code is not yours, so your app should refuse.",
            _FORECAST,
            in_trouble=True,
        ),
        Scenario(
            "expired",
            "The link has expired",
            "The buyer waited too long, and AWS no longer accepts the registration token.",
            _ANALYTICS,
            # The text that AWS really sends for an expired registration token is unknown: this one is ours.
            failure=Failure("ExpiredTokenException", "The submitted registration token has expired"),
            in_trouble=True,
        ),
        Scenario(
            "invalid",
            "The token is invalid",
            "AWS does not know the registration token, as when it was damaged on its way.",
            _ANALYTICS,
            failure=INVALID_TOKEN,
            in_trouble=True,
        ),
        Scenario(
            "throttled",
            "AWS is throttling",
            "AWS answers that you are asking too often, so the buyer should get a way to try again.",
            _ANALYTICS,
            failure=Failure("ThrottlingException", "Rate exceeded"),
            in_trouble=True,
        ),
        Scenario(
            "expired-credentials",
            "Your AWS credentials have expired",
            "The token is good, but AWS refuses your app's own credentials: for you to mend, not the buyer.",
            _ANALYTICS,
            failure=Failure("ExpiredTokenException", "The security token included in the request is expired", 403),
            in_trouble=True,
        ),
    )
}
"""Every scenario by its slug, in the order of the storefront."""
