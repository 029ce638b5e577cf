"""What stands before a call to AWS: its configuration, the region, botocore, the address, and the clock after all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..aws_services import METERING
from ..aws_session import has_metering, make_sessions
from ..keys import is_aws
from .case import Case
from .findings import Verdict, ok, problem, skipped, warning

if TYPE_CHECKING:
    from botocore.session import Session

    from ..aws_services import Service
    from ..settings import MarketplaceSettings

_UPGRADE = "Upgrade botocore to 1.43.111 or newer; older models may also be in AWS_DATA_PATH or ~/.aws/models."


def check_config(case: Case) -> Iterator[Verdict]:
    """Whether a client can be made from the AWS configuration, apart from the region in it."""
    profile = case.settings.profile_name
    _make_client(case, replace(bounded(case.settings), region_name="us-east-1"))
    yield ok(f"The AWS configuration can be read{f', profile {profile}' if profile else ''}.")


def check_region(case: Case) -> Iterator[Verdict]:
    """Whether AWS Marketplace Metering is in the region."""
    case.session, case.metering, case.region = _make_client(case, bounded(case.settings))
    if has_metering(case.session, case.region):
        yield ok(f"AWS Marketplace Metering is in the region {case.region}.")
    elif not is_aws(case.endpoint):
        yield skipped(f"AWS is not called, so the region {case.region} makes no difference.")
    else:
        yield problem(
            f"AWS Marketplace Metering is not in the region {case.region}, as far as botocore knows.",
            "Set region_name to a region that has it, such as us-east-1; GovCloud has none, and China has "
            "cn-northwest-1.",
        )


def bounded(settings: MarketplaceSettings) -> MarketplaceSettings:
    """The settings, with time limits that a person can wait for."""
    return replace(
        settings,
        connect_timeout=min(settings.connect_timeout, 5.0),
        read_timeout=min(settings.read_timeout, 10.0),
        max_attempts=min(settings.max_attempts, 3),
    )


def _make_client(case: Case, settings: MarketplaceSettings) -> tuple[Session, Any, str]:
    """A session and a client of AWS Marketplace Metering that is not to be called, and the region."""
    import botocore
    from botocore.config import Config

    # Without the role and unsigned, as botocore looks for credentials otherwise.
    roleless = replace(settings, role_arn=None, role_external_id=None)
    session, _, region = case.ask(lambda: make_sessions(roleless))
    unsigned = Config(signature_version=botocore.UNSIGNED)
    client = case.ask(
        lambda: session.create_client(
            "meteringmarketplace", region_name=region, endpoint_url=settings.endpoint_url, config=unsigned
        )
    )
    return session, client, region


def check_botocore(case: Case) -> Iterator[Verdict]:
    """Whether botocore knows all that AWS answers."""
    import botocore

    members = case.metering.meta.service_model.operation_model("ResolveCustomer").output_shape.members
    version = f"botocore {botocore.__version__}"
    if "LicenseArn" not in members:
        message = f"{version} does not know LicenseArn, so buyers of new products cannot be told apart."
        yield problem(message, _UPGRADE)
    elif "AgreementId" not in getattr(members.get("Metadata"), "members", ()):
        message = f"{version} does not know Metadata.AgreementId, so agreement_id will be None."
        yield warning(message, _UPGRADE)
    else:
        yield ok(f"{version} knows LicenseArn and AgreementId.")


def check_endpoint(case: Case) -> Iterator[Verdict]:
    """Whether it is AWS that is called."""
    if is_aws(case.endpoint):
        yield ok(f"The calls go to {host_of(case.endpoint)}.")
    else:
        yield warn_of_stand_in(METERING, case.endpoint)


def warn_of_stand_in(service: Service, endpoint_url: str) -> Verdict:
    """Say that it is not AWS that is called."""
    return warning(
        f"The calls go to {host_of(endpoint_url)}, which is not AWS Marketplace over HTTPS: its answers prove nothing "
        "about buyers.",
        f"In production, remove {service.setting}, {service.variable}, AWS_ENDPOINT_URL, and endpoint_url in the AWS "
        "configuration files.",
    )


def host_of(endpoint_url: str) -> str:
    """Host and port of an endpoint: what stands before them may be a secret."""
    return urlsplit(endpoint_url).netloc.rpartition("@")[2]


def check_clock(case: Case) -> Iterator[Verdict]:
    """Whether the clock of this machine agrees with what answered, which is AWS unless `endpoint` says otherwise."""
    if not case.skews:
        yield skipped("No answer from AWS had a date to compare the clock with.")
        return
    # An answer may come late, or out of a cache: the one with the least skew says most of the clock.
    skew = min(case.skews, key=abs)
    seconds = round(abs(skew.total_seconds()))
    if seconds <= 60:
        yield ok("The clock of this machine agrees with the dates of the answers.")
        return
    yield (problem if seconds > 300 else warning)(
        f"The clock of this machine is {seconds} seconds {'ahead of' if skew > timedelta() else 'behind'} the dates of "
        "the answers; AWS rejects signatures that are over 5 minutes off.",
        "Set the clock, and keep it right by NTP (chrony, systemd-timesyncd).",
    )
