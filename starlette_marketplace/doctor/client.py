"""What stands before a call to AWS: its configuration, the region, botocore, the address. AWS itself is not asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .. import errors
from ..aws_session import has_metering, make_sessions
from .aws import Aws, Clock, host_of, is_aws, told
from .calls import check_calls
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
    aws = Aws(bounded(settings), clock, limit)
    try:
        # Without the role for now: to make its session, botocore would look for credentials.
        own, _, region = aws.ask(lambda: make_sessions(replace(aws.settings, role_arn=None, role_external_id=None)))
        metering = aws.ask(lambda: _unsigned_client(own, "meteringmarketplace", region, settings.endpoint_url))
    except errors.MarketplaceError as error:
        is_region = isinstance(error, errors.RegionError)
        check = "region" if is_region else "aws_config"
        if is_region:
            yield ok("aws_config", _config_sentence(settings))
        yield problem(check, *told(error))
        names = TOPICS["AWS"]
        for later in names[names.index(check) + 1 :]:
            yield skipped(later, f"See {check}.")
        return
    yield ok("aws_config", _config_sentence(settings))
    endpoint = metering.meta.endpoint_url
    yield _check_region(own, region, endpoint)
    yield _check_botocore(metering)
    yield _check_endpoint(endpoint)
    yield from check_calls(aws, own, region, endpoint, token)
    yield _check_clock(aws, endpoint, _sts_endpoint(aws, own, region))


def bounded(settings: MarketplaceSettings) -> MarketplaceSettings:
    """The settings, with time limits that a person can wait for."""
    return replace(
        settings,
        connect_timeout=min(settings.connect_timeout, 5.0),
        read_timeout=min(settings.read_timeout, 10.0),
        max_attempts=min(settings.max_attempts, 3),
    )


def _unsigned_client(session: Session, service: str, region: str, endpoint_url: str | None = None) -> Any:
    import botocore
    from botocore.config import Config

    # Unsigned, and so without looking for credentials: it is not called.
    config = Config(signature_version=botocore.UNSIGNED)
    return session.create_client(service, region_name=region, endpoint_url=endpoint_url, config=config)


def _sts_endpoint(aws: Aws, session: Session, region: str) -> str:
    try:
        endpoint: str = aws.ask(lambda: _unsigned_client(session, "sts", region)).meta.endpoint_url
    except errors.MarketplaceError:
        return ""  # An address that is none; see account.
    return endpoint


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
    host = host_of(endpoint)
    if is_aws(endpoint):
        return ok("endpoint", f"The calls go to {host}.")
    return warning(
        "endpoint",
        f"The calls go to {host}, which is not AWS over HTTPS: what it says proves nothing about buyers.",
        "Outside of tests, remove endpoint_url, AWS_ENDPOINT_URL_MARKETPLACE_METERING, AWS_ENDPOINT_URL, and "
        "endpoint_url in the AWS configuration files.",
    )


def _check_clock(aws: Aws, metering: str, sts: str) -> Finding:
    check = "clock"
    if not aws.skews:
        return skipped(check, "Nothing gave an answer to compare the clock with.")
    # An answer may come late, or out of a cache: the one with the least skew says most of the clock.
    skew, operation = min(aws.skews, key=lambda noted: abs(noted[0]))
    endpoint = metering if operation == "ResolveCustomer" else sts
    whose = "AWS" if is_aws(endpoint) else f"{host_of(endpoint)}, which is not AWS"
    seconds = round(abs(skew.total_seconds()))
    if seconds <= 60:
        return ok(check, f"The clock of this machine agrees with that of {whose}.")
    direction = "ahead of" if skew > timedelta() else "behind"
    return (problem if seconds > 300 else warning)(
        check,
        f"The clock of this machine is {seconds} seconds {direction} that of {whose}; AWS refuses signatures that are "
        "over 5 minutes off.",
        "Set the clock, and keep it by NTP (chrony, systemd-timesyncd).",
    )
