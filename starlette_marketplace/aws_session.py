"""What a client of AWS is made from: sessions, the role to assume, the region, credentials and the endpoint."""

from __future__ import annotations

import functools
import logging
import platform
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from . import errors
from ._version import __version__
from .aws_errors import invalid_region, lookup_error_of
from .aws_services import region_of
from .keys import identity_source, is_aws, shown, source_of

if TYPE_CHECKING:
    from botocore.credentials import Credentials, ReadOnlyCredentials
    from botocore.session import Session

    from .aws_services import Service
    from .settings import MarketplaceSettings

R = TypeVar("R")

logger: logging.Logger = logging.getLogger("starlette_marketplace")

# What reads botocore's models of services and endpoints, by where it looks. It keeps them: reading them again is most
# of what a new client would cost.
_loaders: dict[tuple[str, ...], Any] = {}


def make_sessions(settings: MarketplaceSettings) -> tuple[Session, Session, str]:
    """The host's own session, the one that calls AWS Marketplace, which differs with `role_arn`, and the region.

    Raises:
        RegionError: The region of the AWS configuration is malformed.
    """
    session = _make_session(settings)
    region = settings.region_name or session.get_config_variable("region") or "us-east-1"
    # botocore lets a newline at the end pass.
    if not re.fullmatch("[!-~]+", region):
        raise invalid_region()
    if settings.role_arn is None:
        return session, session, region
    return session, _assume_role(session, settings.role_arn, settings, region), region


def has_metering(session: Session, region: str) -> bool:
    """Whether the metering service is known to be in the region."""
    known = (session.get_available_regions("meteringmarketplace", partition) for partition in ("aws", "aws-cn"))
    return any(region in regions for regions in known)


def _make_session(settings: MarketplaceSettings) -> Session:
    import boto3
    import botocore.session
    from botocore.config import Config

    session = botocore.session.Session(profile=settings.profile_name)
    loader: Any = session.get_component("data_loader")
    session.register_component("data_loader", _loaders.setdefault(tuple(loader.search_paths), loader))
    session.set_default_client_config(
        Config(
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
            max_pool_connections=settings.max_concurrency,
            # Whole, as botocore otherwise puts it together twice for each call, 4 % of what the call costs.
            user_agent=(
                f"Boto3/{boto3.__version__} lang/python#{platform.python_version()} starlette-marketplace/{__version__}"
            ),
        )
    )
    return session


def session_with(settings: MarketplaceSettings, load: Callable[[], Any]) -> Session:
    """A session with the credentials that `load` gives, and no others."""
    from botocore.credentials import CredentialProvider, CredentialResolver

    class Given(CredentialProvider):
        METHOD = "starlette-marketplace"

        def load(self) -> Any:
            return load()

    session = _make_session(settings)
    session.register_component("credential_provider", CredentialResolver([Given()]))
    return session


def _assume_role(source: Session, role_arn: str, settings: MarketplaceSettings, region: str) -> Session:
    """A session with the credentials of `role_arn`, fetched by those of `source` and refreshed before they expire."""
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

    extra = {"RoleSessionName": "starlette-marketplace"}
    if settings.role_external_id is not None:
        extra["ExternalId"] = settings.role_external_id

    def fetch() -> Mapping[str, Any]:
        create_client = functools.partial(source.create_client, region_name=region)
        fetcher = AssumeRoleCredentialFetcher(create_client, source.get_credentials(), role_arn, extra_args=extra)
        return fetcher.fetch_credentials()

    return session_with(settings, lambda: DeferredRefreshableCredentials(fetch, "assume-role"))


def look_up_credentials(session: Session, caller: Session) -> Credentials:
    """The credentials that `caller` has; with a role, `session` has to have those that assume it.

    Raises:
        MarketplaceError: There are none, or they could not be looked up.
    """
    # Those of the role are looked up when they are used, and it takes others to get them.
    own = _looked_up(session.get_credentials)
    credentials = own and _looked_up(caller.get_credentials)
    if credentials is None:
        raise errors.CredentialsError(
            "No AWS credentials were found.", "Give your app a role, or a profile, of the seller account."
        )
    return credentials


def freeze(credentials: Credentials) -> ReadOnlyCredentials:
    """The credentials as they are now, refreshed if that is due.

    Raises:
        MarketplaceError: They could not be refreshed, or cannot be sent.
    """
    frozen = _looked_up(credentials.get_frozen_credentials)
    # What carries a header takes off the blanks around it, and the session token is a header by itself.
    parts = (frozen.access_key or "", frozen.secret_key or "", (frozen.token or "none").strip(" \t"))
    if not all(re.fullmatch("[!-~]+", part) for part in parts):
        raise errors.CredentialsError(
            "The AWS credentials are incomplete, or contain white space or unprintable characters.",
            "Correct them; a secret that was read from a file often ends in a newline.",
        )
    return frozen


def _looked_up(look_up: Callable[[], R]) -> R:
    try:
        return look_up()
    except Exception as exc:  # noqa: BLE001 - providers raise what their libraries do.
        failure = lookup_error_of(exc)
    raise failure


def hold(frozen: ReadOnlyCredentials) -> Any:
    """Credentials for a client that stay as they are until they are replaced as a whole."""
    from botocore.credentials import Credentials

    class Held(Credentials):
        frozen: ReadOnlyCredentials

        def get_frozen_credentials(self) -> ReadOnlyCredentials:
            return self.frozen

    held = Held(str(frozen.access_key), str(frozen.secret_key), frozen.token)
    held.frozen = frozen
    return held


def place_of(
    service: Service, session: Session, region: str, settings: MarketplaceSettings
) -> tuple[str | None, str, bool]:
    """Where `service` is called: the endpoint of the settings, the region, and whether the endpoint is botocore's own.

    Raises:
        SettingsError: Identities come from another endpoint than AWS, and this service would be AWS's.
        RegionError: The service is nowhere in the partition of the region.
    """
    endpoint_url = service.endpoint(settings)
    is_own = endpoint_url is None and not names_endpoint(session, service)
    return endpoint_url, region_of(service, session, region, settings, is_own=is_own), is_own


def warn_of_stand_in(endpoint_url: str) -> None:
    """Warn when entitlements or agreements are read from an endpoint that does not belong to AWS."""
    if not is_aws(endpoint_url):
        endpoint = shown(endpoint_url)
        logger.warning(
            "Entitlements and agreements are read from %s, which is not AWS Marketplace. In production, remove the "
            "settings and the AWS_ENDPOINT_URL variables that say so",
            endpoint,
            extra={"endpoint": endpoint},
        )


def check_endpoint(endpoint_url: str, settings: MarketplaceSettings) -> None:
    """Warn of an endpoint that is not AWS's.

    Raises:
        SettingsError: It is not the one that the signing keys depend on.
    """
    endpoint = shown(endpoint_url)
    if source_of(endpoint_url) != identity_source(settings):
        raise errors.SettingsError(
            f"An AWS configuration file decides that {endpoint} is called, and signing keys depend on the endpoint.",
            "Set endpoint_url (MARKETPLACE_ENDPOINT_URL) or AWS_ENDPOINT_URL_MARKETPLACE_METERING instead.",
        )
    if not is_aws(endpoint_url):
        logger.warning(
            "Identities come from %s, which is not AWS Marketplace: in production they are worth nothing. Remove "
            "endpoint_url and the AWS_ENDPOINT_URL variables there",
            endpoint,
            extra={"endpoint": endpoint},
        )


def names_endpoint(session: Session, service: Service) -> bool:
    """Whether the environment or a configuration file names an endpoint of `service`, as botocore reads them."""
    from botocore.configprovider import ConfiguredEndpointProvider

    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return False
    named = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), service.name)
    return named.provide() is not None


def warn_of_old_models(agreements: Any) -> None:
    """Warn of a botocore that drops a part of what AWS says of an agreement."""
    import botocore

    answer = agreements.meta.service_model.operation_model("DescribeAgreement").output_shape
    if "freeTrialSummary" not in answer.members:
        logger.warning(
            "botocore %s does not know all of DescribeAgreement, so free_trial_ends_at, initial_id and auto_renews may "
            "be None: upgrade botocore to 1.44.0 or newer",
            botocore.__version__,
            extra={"botocore_version": botocore.__version__},
        )


def warn(metering: Any, session: Session, region: str, *, is_asking_aws: bool) -> None:
    """Log what the client cannot do well."""
    import botocore

    if is_asking_aws and not has_metering(session, region):
        logger.warning(
            "AWS Marketplace Metering is not known to be in the region %s: set region_name",
            region,
            extra={"region": region},
        )
    answer = metering.meta.service_model.operation_model("ResolveCustomer").output_shape
    if "Metadata" not in answer.members:
        logger.warning(
            "botocore %s does not know Metadata.AgreementId, so agreement_id will be None: "
            "upgrade botocore to 1.43.111 or newer",
            botocore.__version__,
            extra={"botocore_version": botocore.__version__},
        )
