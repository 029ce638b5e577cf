"""The keys that sign and name things: each for one purpose, and for one place where identities come from.

A staging host that shares `secret_key` with production, and asks a local marketplace, can sign any identity it likes.
So an endpoint that is not AWS's has keys of its own, and production does not know them.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from .settings import MarketplaceSettings

# Every host that botocore builds for AWS Marketplace, and its interface endpoints in a VPC. Hosts such as
# abc.execute-api.us-east-1.amazonaws.com and metering-marketplace.s3.amazonaws.com belong to customers of AWS.
_MARKETPLACE_HOST = re.compile(
    r"(vpce-[a-z0-9-]+\.)?((metering|entitlement)[.-]|agreement-)marketplace(-fips)?\.[a-z]+(-[a-z]+)+-[0-9]+\."
    r"((vpce\.)?amazonaws\.(com|com\.cn|eu)|api\.aws|api\.amazonwebservices\.(com\.cn|eu))"
)
# In the order in which botocore asks for them.
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_MARKETPLACE_METERING", "AWS_ENDPOINT_URL")


def is_aws(endpoint_url: str) -> bool:
    """Whether it is the address of a service of AWS Marketplace itself, over TLS."""
    try:
        parts = urlsplit(endpoint_url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme == "https" and port in (None, 443) and bool(_MARKETPLACE_HOST.fullmatch(parts.hostname or ""))


def identity_source(settings: MarketplaceSettings) -> str:
    """Where identities come from by the settings and the environment: `aws`, or the endpoint that stands in for it.

    The environment is looked at each time: an app that is imported before a test sets its endpoint follows the test.
    """
    if settings.endpoint_url:
        return source_of(settings.endpoint_url)
    url = next(filter(None, map(os.environ.get, _ENDPOINT_VARIABLES)), None)
    if url is None or os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return "aws"
    return source_of(url)


def source_of(endpoint_url: str) -> str:
    """Where identities come from when that endpoint is asked."""
    return "aws" if is_aws(endpoint_url) else endpoint_url.rstrip("/")


def shown(endpoint_url: str) -> str:
    """Scheme, host and port of an endpoint: what else is in a URL may be a secret."""
    parts = urlsplit(endpoint_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class Keys:
    """The keys for one purpose.

    Args:
        settings: The secret key, the older ones, and the endpoint.
        purpose: A short word; keys of different purposes have nothing in common.
    """

    def __init__(self, settings: MarketplaceSettings, purpose: str) -> None:
        self._settings = settings
        self._purpose = purpose
        self._derived: tuple[str, list[bytes]] = ("", [])

    def all(self) -> list[bytes]:
        """The keys that verify, the one that signs last."""
        source, keys = self._derived
        now = identity_source(self._settings)
        if source != now:
            context = f"starlette_marketplace.{self._purpose}\0{now}".encode()
            secrets = (*self._settings.secret_key_fallbacks, self._settings.secret_key)
            keys = [hmac.digest(secret.encode(), context, hashlib.sha256) for secret in secrets]
            self._derived = (now, keys)
        return keys

    def newest(self) -> bytes:
        """The key that signs."""
        return self.all()[-1]
