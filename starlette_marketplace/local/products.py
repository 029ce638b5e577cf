"""What is for sale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .plans import Plan

SELLER = "123456789012"
"""The AWS account of the seller whose app is tried out."""

PARTNER = "555566667777"
"""The AWS account of a partner who resells products of that seller."""

_ANOTHER_SELLER = "999988887777"

Pricing: TypeAlias = Literal["contract", "contract with consumption", "pay as you go"]
"""How a product is paid for: in advance, in advance and by use, or by use alone."""


@dataclass(frozen=True, slots=True)
class Product:
    """A SaaS product in the local marketplace.

    Attributes:
        code: The product code that ResolveCustomer and GetEntitlements know.
        name: Its name for people.
        vendor: The company that sells it.
        id: The product id that agreements name.
        offer_id: Its public offer.
        pricing: How it is paid for.
        plans: What can be bought of it, the first one unless another is chosen; empty for pay as you go.
        seller: The vendor's AWS account.
        legacy: Listed before AWS issued licenses to new integrations: buyers have a customer identifier and no license.
    """

    code: str
    name: str
    vendor: str
    id: str
    offer_id: str
    pricing: Pricing = "contract"
    plans: tuple[Plan, ...] = ()
    seller: str = SELLER
    legacy: bool = False

    def plan(self, name: str) -> Plan:
        """Give the plan with this name.

        Raises:
            ValueError: There is none; the message names those that there are.
        """
        for plan in self.plans:
            if plan.name == name:
                return plan
        if not self.plans:
            raise ValueError(f"{self.name} is {self.pricing} and has no plans.")
        raise ValueError(f"{self.name} has no plan {name!r}. Choose one of {', '.join(p.name for p in self.plans)}.")


ANALYTICS = Product(
    "acmeanalytics",
    "Acme Analytics",
    "Acme Software",
    "prod-4xk2mq7bqmzfa",
    "offer-h3vtq6yx5wd2k",
    plans=(
        Plan("Starter", (("users", 5), ("sso", False), ("tier", "starter"), ("storage_tb", 0.5))),
        Plan("Team", (("users", 25), ("sso", False), ("tier", "team"), ("storage_tb", 2.5))),
        Plan("Enterprise", (("users", 500), ("sso", True), ("tier", "enterprise"), ("storage_tb", 40.0))),
    ),
)
REPORTS = Product(
    "acmelegacy",
    "Acme Reports",
    "Acme Software",
    "prod-7cw5hxt3nuogs",
    "offer-p2ndb7rk4mzae",
    plans=(Plan("Basic", (("reports", 10),)), Plan("Plus", (("reports", 100),))),
    legacy=True,
)
PIPELINES = Product(
    "acmepipelines",
    "Acme Pipelines",
    "Acme Software",
    "prod-k6ya2d4vrjq5e",
    "offer-w5sfj3ul7gc6i",
    "contract with consumption",
    plans=(Plan("Standard", (("pipelines", 3),)), Plan("Premium", (("pipelines", 20),))),
)
GATEWAY = Product(
    "acmegateway",
    "Acme Gateway",
    "Acme Software",
    "prod-b3zu6me5fwtlo",
    "offer-x7qhg4kv2nady",
    "pay as you go",
)
FORECAST = Product(
    "someoneelse",
    "Borealis Forecast",
    "Borealis Labs",
    "prod-q5ri3vp7xcj2y",
    "offer-e6otl2zs4bwum",
    plans=(Plan("Standard", (("forecasts", 12),)),),
    seller=_ANOTHER_SELLER,
)

PRODUCTS = (ANALYTICS, REPORTS, PIPELINES, GATEWAY, FORECAST)
"""All products."""

PRODUCT_CODES = tuple(product.code for product in PRODUCTS if product.seller == SELLER)
"""The product codes of the seller whose app is tried out; the remaining product is another seller's."""
