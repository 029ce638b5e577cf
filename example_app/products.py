"""What Acme sells on AWS Marketplace, in the words of its listings and of people."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Product:
    name: str
    pricing: Literal["contract", "contract with consumption", "pay as you go"]


PRODUCTS = {  # by product code
    "acmeanalytics": Product("Acme Analytics", "contract"),
    "acmelegacy": Product("Acme Reports", "contract"),
    "acmepipelines": Product("Acme Pipelines", "contract with consumption"),
    "acmegateway": Product("Acme Gateway", "pay as you go"),
}
DIMENSIONS = {  # by API identifier, in the order of the pages
    "tier": "Plan",
    "users": "Users",
    "storage_tb": "Storage (TB)",
    "sso": "Single sign-on",
    "reports": "Reports",
    "pipelines": "Pipelines",
}


def find_product(product_code: str) -> Product:
    return PRODUCTS.get(product_code, Product(product_code, "contract"))


def in_words(value: int | float | bool | str | None) -> str:
    match value:
        case True | None:
            return "Included"
        case False:
            return "Not included"
        case str():
            return value.capitalize()
        case _:
            return f"{value:,}".removesuffix(".0")
