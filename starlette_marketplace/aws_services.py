"""The services of AWS Marketplace that are called: where each of them is, and where the settings have it instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import errors
from .keys import identity_source, shown

if TYPE_CHECKING:
    from botocore.session import Session

    from .settings import MarketplaceSettings


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """A service of AWS Marketplace.

    Attributes:
        name: boto3's name for it.
        setting: The setting with another address of it.
        variable: AWS's environment variable for the same.
        reads: What it gives, in words.
        regions: By partition, the one region that it is in; empty for a service that is in many.
    """

    name: str
    setting: str
    variable: str
    reads: str
    regions: Mapping[str, str]

    def endpoint(self, settings: MarketplaceSettings) -> str | None:
        """Its address by the settings; None leaves it to botocore."""
        endpoint: str | None = getattr(settings, self.setting)
        return endpoint

    def region(self, session: Session, region: str) -> str | None:
        """Where to call it, for an app in `region`; None when it is nowhere in the partition of that region.

        botocore would build a host in any region without a word.
        """
        from botocore.exceptions import UnknownRegionError

        if not self.regions:
            return region
        try:
            partition = session.get_partition_for_region(region)
        except UnknownRegionError:
            # A region that is newer than this botocore.
            partition = "aws"
        return self.regions.get(partition)


METERING = Service("meteringmarketplace", "endpoint_url", "AWS_ENDPOINT_URL_MARKETPLACE_METERING", "identities", {})
ENTITLEMENTS = Service(
    "marketplace-entitlement",
    "entitlement_endpoint_url",
    "AWS_ENDPOINT_URL_MARKETPLACE_ENTITLEMENT_SERVICE",
    "entitlements",
    {"aws": "us-east-1", "aws-cn": "cn-northwest-1", "aws-eusc": "eusc-de-east-1"},
)
AGREEMENTS = Service(
    "marketplace-agreement",
    "agreement_endpoint_url",
    "AWS_ENDPOINT_URL_MARKETPLACE_AGREEMENT",
    "agreements",
    {"aws": "us-east-1", "aws-eusc": "eusc-de-east-1"},
)


def region_of(service: Service, session: Session, region: str, settings: MarketplaceSettings, *, is_own: bool) -> str:
    """Where to call `service` for an app in `region`.

    Args:
        service: The service.
        session: Knows the partitions.
        region: That of the app.
        settings: Say where identities come from.
        is_own: Whether its endpoint is botocore's own, and not one that somebody has named.

    Raises:
        SettingsError: Identities come from another endpoint than AWS, and this service would be AWS's.
        RegionError: The service is nowhere in the partition of that region.
    """
    source, home = identity_source(settings), service.region(session, region)
    if not is_own or service is METERING:
        return home or region
    if source != "aws":
        raise errors.SettingsError(
            f"Identities come from {shown(source)}, and {service.reads} would be read from AWS.",
            f"Set {service.setting} (MARKETPLACE_{service.setting.upper()}) or {service.variable} as well.",
        )
    if home is None:
        raise errors.RegionError(
            f"AWS has no {service.reads} for the region {region}.",
            f"Do without them: AWS has them in {' and '.join(service.regions.values())} only, each for its own "
            "partition.",
        )
    return home
