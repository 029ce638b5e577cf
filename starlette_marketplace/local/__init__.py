"""AWS's side of AWS Marketplace on a laptop: a storefront to click and ResolveCustomer on the wire."""

try:
    from .marketplace import LocalMarketplace, ResolveCall
    from .products import PRODUCT_CODES, Product
    from .scenarios import SCENARIOS, Scenario
    from .server import bind_loopback, run
except ModuleNotFoundError as exc:
    raise ImportError(
        f'The local marketplace needs {exc.name} of the extra "local": pip install "starlette-marketplace[local]"'
    ) from exc

__all__ = [
    "PRODUCT_CODES",
    "SCENARIOS",
    "LocalMarketplace",
    "Product",
    "ResolveCall",
    "Scenario",
    "bind_loopback",
    "run",
]
