"""The environment of an app that asks a local marketplace, and never AWS Marketplace."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .products import PRODUCT_CODES

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDPOINTS = (
    "AWS_ENDPOINT_URL_MARKETPLACE_METERING",
    "AWS_ENDPOINT_URL_MARKETPLACE_ENTITLEMENT_SERVICE",
    "AWS_ENDPOINT_URL_MARKETPLACE_AGREEMENT",
    "AWS_ENDPOINT_URL_STS",
)
"""The variables by which AWS SDKs find the services that the local marketplace stands in for."""

KEY_COMMAND = '$(python -c "import secrets; print(secrets.token_urlsafe(32))")'
"""What gives a secret key, in a shell."""

_REGION = "us-east-1"
_CREDENTIALS = {
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
    "MARKETPLACE_AGREEMENT_ENDPOINT_URL",
    "MARKETPLACE_ENDPOINT_URL",
    "MARKETPLACE_ENTITLEMENT_ENDPOINT_URL",
    "MARKETPLACE_PROFILE_NAME",
}
# CI systems set a variable to nothing where a secret is missing, and boto3 makes no client with such a bundle.
_REFUSED_WHEN_EMPTY = {"AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"}


def app_environment(
    url: str, environ: Mapping[str, str], *, defaults: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Give the environment of an app that asks the local marketplace at `url`.

    The `MARKETPLACE_*` variables that are there stay, and `MARKETPLACE_PRODUCT_CODES` gets the local marketplace's
    added. Everything that could lead an AWS SDK to AWS Marketplace, or to somebody's credentials, is removed. Clients
    of other AWS services go where they went, with credentials that AWS refuses.

    Args:
        url: The address of the local marketplace.
        environ: The variables to begin with.
        defaults: What to set where `environ` has nothing or an empty text, before the defaults that are set here:
            region, a fresh secret key, cookies over plain http.
    """
    from botocore import BOTOCORE_ROOT

    kept = {
        name: value
        for name, value in environ.items()
        if name not in _LEADS_TO_AWS and (value or name not in _REFUSED_WHEN_EMPTY)
    }
    region = environ.get("AWS_DEFAULT_REGION") or _REGION
    every_default = {
        "AWS_DEFAULT_REGION": region,  # boto3 reads this one, and most other SDKs the next.
        "AWS_REGION": region,
        "MARKETPLACE_SECRET_KEY": secrets.token_urlsafe(32),
        "MARKETPLACE_HTTPS_ONLY": "false",
        **(defaults or {}),
    }
    host = urlsplit(url).hostname or ""
    # urllib, which boto3 asks, wants the brackets of an IPv6 address, and other SDKs do not.
    bracketed = f"[{host}]" if ":" in host else None
    not_by_proxy = _joined(",", environ.get("no_proxy") or environ.get("NO_PROXY"), host, bracketed)
    own = {
        **dict.fromkeys(ENDPOINTS, url),
        # The only way past ~/.aws/models, where a model of a service may have other members.
        "AWS_DATA_PATH": _joined(os.pathsep, os.path.join(BOTOCORE_ROOT, "data"), environ.get("AWS_DATA_PATH")),
        "MARKETPLACE_PRODUCT_CODES": _joined(",", environ.get("MARKETPLACE_PRODUCT_CODES"), *PRODUCT_CODES),
        "NO_PROXY": not_by_proxy,
        "no_proxy": not_by_proxy,
    }
    absent = {name: value for name, value in every_default.items() if not environ.get(name)}
    return kept | absent | _CREDENTIALS | own


def export_lines(url: str, *, secret_key: str) -> list[str]:
    """Give what a person types before an app that asks the local marketplace at `url`.

    Args:
        url: The address of the local marketplace.
        secret_key: The app's secret key, or what the shell makes it with.
    """
    settings = [
        *(f"{name}={url}" for name in ENDPOINTS),
        "AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local",
        f"AWS_REGION={_REGION} AWS_DEFAULT_REGION={_REGION}",
        f"MARKETPLACE_PRODUCT_CODES={','.join(PRODUCT_CODES)}",
        f"MARKETPLACE_SECRET_KEY={secret_key}",
        "MARKETPLACE_HTTPS_ONLY=false",
    ]
    return [f"export {setting}" for setting in settings]


def _joined(separator: str, *lists: str | None) -> str:
    parts = [part.strip() for text in lists for part in (text or "").split(separator)]
    return separator.join(dict.fromkeys(filter(None, parts)))
