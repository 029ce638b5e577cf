from __future__ import annotations

from collections.abc import Mapping

_DEFAULTS = {
    # The same for a whole test run: an app that is made once keeps the settings of its first request.
    "MARKETPLACE_SECRET_KEY": "not a secret: only tests sign by it",
    # The failures of the scenarios do not pass, so trying again would only take time.
    "MARKETPLACE_MAX_ATTEMPTS": "1",
}


def environment_of(url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What `RunningMarketplace.environment` gives for a local marketplace at `url`."""
    from ..local.environment import app_environment

    return app_environment(url, environ, defaults=_DEFAULTS)
