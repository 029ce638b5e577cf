"""AWS's side of AWS Marketplace on a laptop: a storefront to click, and the operations that sellers call."""

try:
    from .agreements import Agreement
    from .calls import Call, ResolveCall
    from .command import AppCommand
    from .conditions import CONDITIONS, Condition, Conditions
    from .environment import ENDPOINTS, app_environment
    from .exchange import SeenRequest
    from .marketplace import LocalMarketplace
    from .plans import Plan
    from .products import PRODUCT_CODES, Product
    from .scenario import Scenario
    from .scenarios import SCENARIOS
    from .server import bind_loopback, run, run_beside
except ModuleNotFoundError as _error:
    raise ImportError(
        f'The local marketplace needs {_error.name} of the extra "local": pip install "starlette-marketplace[local]"'
    ) from _error

__all__ = [
    "CONDITIONS",
    "ENDPOINTS",
    "PRODUCT_CODES",
    "SCENARIOS",
    "Agreement",
    "AppCommand",
    "Call",
    "Condition",
    "Conditions",
    "LocalMarketplace",
    "Plan",
    "Product",
    "ResolveCall",
    "Scenario",
    "SeenRequest",
    "app_environment",
    "bind_loopback",
    "run",
    "run_beside",
]
