"""What is for sale."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Product:
    """A SaaS product in the local marketplace.

    Attributes:
        code: The product code that AWS answers with.
        name: Its name for people.
        vendor: The company that sells it.
        legacy: Listed before AWS issued licenses to new integrations: buyers have a customer identifier and no license.
    """

    code: str
    name: str
    vendor: str
    legacy: bool = False


ANALYTICS = Product("acmeanalytics", "Acme Analytics", "Acme Software")
REPORTS = Product("acmelegacy", "Acme Reports", "Acme Software", legacy=True)
FORECAST = Product("someoneelse", "Borealis Forecast", "Borealis Labs")

PRODUCT_CODES = (ANALYTICS.code, REPORTS.code)
"""The product codes of the seller whose app is tried out; the remaining product is another seller's."""
