from __future__ import annotations

import os
from collections.abc import Mapping

# The same for a whole test run: an app that is made once keeps the settings of its first request.
_DEFAULTS = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "MARKETPLACE_SECRET_KEY": "not a secret: only tests sign by it",
    "MARKETPLACE_HTTPS_ONLY": "false",
    # The failures of the scenarios do not pass, so trying again would only take time.
    "MARKETPLACE_MAX_ATTEMPTS": "1",
}
_NOBODY = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_LEADS_TO_AWS = {
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_DEFAULT_PROFILE",
    "AWS_DEFAULTS_MODE",  # "auto" asks the metadata service of EC2 where it is.
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PROFILE",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "MARKETPLACE_ENDPOINT_URL",
    "MARKETPLACE_PROFILE_NAME",
}
# CI systems set a variable to nothing where a secret is missing, and boto3 makes no client with such a bundle.
_REFUSED_WHEN_EMPTY = {"AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"}


def environment_of(url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What `RunningMarketplace.environment` gives for a local marketplace at `url`."""
    from botocore import BOTOCORE_ROOT

    from ..local import PRODUCT_CODES

    kept = {
        name: value
        for name, value in environ.items()
        if name not in _LEADS_TO_AWS and (value or name not in _REFUSED_WHEN_EMPTY)
    }
    defaults = {name: value for name, value in _DEFAULTS.items() if not environ.get(name)}
    not_by_proxy = _joined(",", environ.get("no_proxy") or environ.get("NO_PROXY"), "127.0.0.1")
    own = {
        # The only way past ~/.aws/models, where a model of the metering service may have other members.
        "AWS_DATA_PATH": _joined(os.pathsep, os.path.join(BOTOCORE_ROOT, "data"), environ.get("AWS_DATA_PATH")),
        "AWS_ENDPOINT_URL_MARKETPLACE_METERING": url,
        "AWS_ENDPOINT_URL_STS": url,
        "MARKETPLACE_PRODUCT_CODES": _joined(",", environ.get("MARKETPLACE_PRODUCT_CODES"), *PRODUCT_CODES),
        "NO_PROXY": not_by_proxy,
        "no_proxy": not_by_proxy,
    }
    return kept | defaults | _NOBODY | own


def _joined(separator: str, *lists: str | None) -> str:
    parts = [part.strip() for text in lists for part in (text or "").split(separator)]
    return separator.join(dict.fromkeys(filter(None, parts)))
