"""What stands before a call to AWS: its configuration, the region, botocore, the address. AWS itself is not asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .. import errors
from ..resolver import has_metering, make_sessions
from .aws import Aws, Clock, halves, is_aws
from .calls import check_calls, check_clock
from .findings import TOPICS, Finding, ok, problem, skipped, warning

if TYPE_CHECKING:
    from botocore.session import Session

    from ..settings import MarketplaceSettings

_LIMIT = 30.0


def check_aws(settings: MarketplaceSettings, *, clock: Clock, token: str, limit: float = _LIMIT) -> Iterator[Finding]:
    """What is between the host and AWS.

    Args:
        settings: The settings, which are valid.
        clock: The local time, aware.
        token: A registration token that AWS cannot know.
        limit: Seconds for each check.
    """
    bounded = replace(
        settings,
        connect_timeout=min(settings.connect_timeout, 5.0),
        read_timeout=min(settings.read_timeout, 10.0),
        max_attempts=min(settings.max_attempts, 3),
    )
    aws = Aws(bounded, clock, limit)
    try:
        # Without the role for now: to make its session, botocore would look for credentials.
        own, _, region = aws.ask(lambda: make_sessions(replace(bounded, role_arn=None, role_external_id=None)))
        metering = aws.ask(lambda: _unsigned_client(own, region, bounded.endpoint_url))
    except errors.MarketplaceError as error:
        is_region = isinstance(error, errors.RegionError)
        check = "region" if is_region else "aws_config"
        if is_region:
            yield ok("aws_config", _config_sentence(bounded))
        yield problem(check, *halves(error))
        names = TOPICS["AWS"]
        for later in names[names.index(check) + 1 :]:
            yield skipped(later, f"See {check}.")
        return
    yield ok("aws_config", _config_sentence(bounded))
    yield _check_region(own, region, metering.meta.endpoint_url)
    yield _check_botocore(metering)
    yield _check_endpoint(metering.meta.endpoint_url)
    yield from check_calls(aws, own, region, metering.meta.endpoint_url, token)
    yield check_clock(aws.skews)


def _unsigned_client(session: Session, region: str, endpoint_url: str | None) -> Any:
    import botocore
    from botocore.config import Config

    # Unsigned, and so without looking for credentials: it is not called.
    config = Config(signature_version=botocore.UNSIGNED)
    return session.create_client("meteringmarketplace", region_name=region, endpoint_url=endpoint_url, config=config)


def _config_sentence(settings: MarketplaceSettings) -> str:
    return f"The AWS configuration can be read{f', profile {settings.profile_name}' if settings.profile_name else ''}."


def _check_region(session: Session, region: str, endpoint: str) -> Finding:
    if has_metering(session, region):
        return ok("region", f"AWS Marketplace Metering is in the region {region}.")
    if not is_aws(endpoint):
        return skipped("region", f"AWS is not called, so the region {region} makes no difference.")
    return problem(
        "region",
        f"AWS Marketplace Metering is not in the region {region}, as far as botocore knows.",
        "Set region_name to a region that has it, such as us-east-1; GovCloud has none, and China has cn-northwest-1.",
    )


def _check_botocore(metering: Any) -> Finding:
    import botocore

    members = metering.meta.service_model.operation_model("ResolveCustomer").output_shape.members
    version = f"botocore {botocore.__version__}"
    if "LicenseArn" not in members:
        return problem(
            "botocore",
            f"{version} does not know LicenseArn, so buyers of new products cannot be told apart.",
            "Upgrade botocore to 1.43.111 or newer; older models may also be in AWS_DATA_PATH or ~/.aws/models.",
        )
    if "AgreementId" not in getattr(members.get("Metadata"), "members", ()):
        return warning(
            "botocore",
            f"{version} does not know Metadata.AgreementId, so agreement_id will be None.",
            "Upgrade botocore to 1.43.111 or newer; older models may also be in AWS_DATA_PATH or ~/.aws/models.",
        )
    return ok("botocore", f"{version} knows LicenseArn and AgreementId.")


def _check_endpoint(endpoint: str) -> Finding:
    host = urlsplit(endpoint).netloc.rpartition("@")[2]
    if is_aws(endpoint):
        return ok("endpoint", f"The calls go to {host}.")
    return warning(
        "endpoint",
        f"The calls go to {host}, which is not AWS over HTTPS: what it says proves nothing about buyers.",
        "Outside of tests, remove endpoint_url, AWS_ENDPOINT_URL_MARKETPLACE_METERING, AWS_ENDPOINT_URL, and "
        "endpoint_url in the AWS configuration files.",
    )
