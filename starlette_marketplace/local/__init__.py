"""AWS's side of AWS Marketplace on a laptop: a storefront to click, and the operations that sellers call."""

try:
    from .agreements import Agreement
    from .calls import Call, ResolveCall
    from .conditions import CONDITIONS, Condition, Conditions
    from .exchange import SeenRequest
    from .marketplace import LocalMarketplace
    from .plans import Plan
    from .products import PRODUCT_CODES, Product
    from .scenario import Scenario
    from .scenarios import SCENARIOS
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
    "Call",
    "Condition",
    "Conditions",
    "LocalMarketplace",
    "Plan",
    "Product",
    "ResolveCall",
    "Scenario",
    "SeenRequest",
    "bind_loopback",
    "run",
]
