"""AWS's side of AWS Marketplace on a laptop: a storefront to click and ResolveCustomer on the wire."""

try:
    from .agreements import Agreement
    from .calls import ResolveCall
    from .conditions import CONDITIONS, Condition, Conditions
    from .exchange import SeenRequest
    from .marketplace import LocalMarketplace
    from .products import PRODUCT_CODES, Product
    from .scenarios import SCENARIOS, Scenario
    from .server import bind_loopback, run
except ModuleNotFoundError as _error:
    raise ImportError(
        f'The local marketplace needs {_error.name} of the extra "local": pip install "starlette-marketplace[local]"'
    ) from _error

__all__ = [
    "CONDITIONS",
    "PRODUCT_CODES",
    "SCENARIOS",
    "Agreement",
    "Condition",
    "Conditions",
    "LocalMarketplace",
    "Product",
    "ResolveCall",
    "Scenario",
    "SeenRequest",
    "bind_loopback",
    "run",
]
