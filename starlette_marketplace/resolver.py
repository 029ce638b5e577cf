"""Asking AWS who a registration token stands for: the `Resolver` Protocol, and `AwsResolver` by boto3.

boto3 is imported at first use, which is when the server starts or the first buyer comes.
"""

from __future__ import annotations

import functools
import logging
import platform
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from . import errors
from ._version import __version__
from .aws_errors import error_of
from .clocks import monotonic
from .customer import MarketplaceCustomer

if TYPE_CHECKING:
    from botocore.session import Session

    from .settings import MarketplaceSettings

logger: logging.Logger = logging.getLogger("starlette_marketplace")


@dataclass(frozen=True, slots=True)
class HiddenToken:
    """A registration token on its way to AWS.

    Error trackers send the local variables of every frame along with a log line, so a frame that calls what may log
    holds a token only like this.

    Attributes:
        value: The token.
    """

    value: str = field(repr=False)


class Resolver(Protocol):
    """Exchanges a registration token for the customer whom it stands for.

    Called in threads of our own, so it may block, and from several of them at once.
    """

    def resolve(self, token: str) -> MarketplaceCustomer:
        """The customer of `token`.

        Raises:
            MarketplaceError: The one that says why not. `InvalidTokenError` and `ExpiredTokenError` are remembered for
                a moment, others are not. Its text must not contain the token.
        """
        ...


class AwsResolver:
    """`ResolveCustomer` of the AWS Marketplace Metering Service, by boto3.

    It must be called with credentials of the account that published the product, allowed
    `aws-marketplace:ResolveCustomer` on `*`: directly, or by `role_arn`.
    https://docs.aws.amazon.com/marketplace/latest/APIReference/API_marketplace-metering_ResolveCustomer.html
    """

    # Credentials that AWS refuses may have been renewed since, in a file or in the environment, and only a new client
    # looks there again. Making one takes some tens of milliseconds, so not for every buyer.
    _RENEW_AFTER = 10.0

    def __init__(self, settings: MarketplaceSettings, *, timer: Callable[[], float] = monotonic) -> None:
        self._settings = settings
        self._timer = timer
        self._client: Any = None
        # botocore's models of services and endpoints: reading them again is most of what a new client would cost.
        self._models: Any = None
        self._made_at = 0.0
        self._lock = threading.Lock()

    def connect(self) -> None:
        """Create the client, if there is none yet. Finds credentials, and asks nothing of the metering service.

        Raises:
            SettingsError: `profile_name` is not in the AWS configuration files.
            RegionError: The region is not the name of one.
            CredentialsError: There are no AWS credentials; the next call looks again.
            MarketplaceError: The AWS configuration cannot be used, or AWS did not give the credentials that it names.
        """
        self._connected()

    def resolve(self, token: str) -> MarketplaceCustomer:
        """The customer of `token`, by one call to AWS and its retries.

        Raises:
            MarketplaceError: A `TokenError`, `UnavailableError` or `ConfigurationError`; its cause is botocore's error.
        """
        client = self._connected()
        try:
            answer = client.resolve_customer(RegistrationToken=token)
        except Exception as exc:
            error = error_of(exc)
            if isinstance(error, errors.CredentialsError):
                self._forget(client)
            if token in f"{error} {exc} {vars(exc)}":
                # AWS has quoted what it was sent: what it said may go no further.
                raise type(error)(str(error).replace(token, "...")) from None
            raise error from exc
        return _customer(answer)

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._make_client()
                self._made_at = self._timer()
            return self._client

    def _make_client(self) -> Any:
        import boto3
        import botocore

        settings = self._settings
        try:
            session, caller, region = make_sessions(settings)
            maker = boto3.Session(botocore_session=caller)
            if self._models is None:
                self._models = caller.get_component("data_loader")
            for each in (session, caller):
                each.register_component("data_loader", self._models)
            client = maker.client("meteringmarketplace", region_name=region, endpoint_url=settings.endpoint_url)
            credentials = session.get_credentials()
        except Exception as exc:
            raise setup_error_of(exc) from exc
        if credentials is None:
            raise errors.CredentialsError(
                "No AWS credentials were found: give the host a role or a profile of the seller account"
            )
        if ".amazonaws." in client.meta.endpoint_url and not has_metering(session, region):
            logger.warning(
                "AWS Marketplace Metering is not known to be in the region %s: set region_name",
                region,
                extra={"region": region},
            )
        answer = client.meta.service_model.operation_model("ResolveCustomer").output_shape
        if "Metadata" not in answer.members:
            logger.warning(
                "botocore %s does not know Metadata.AgreementId, so agreement_id will be None: "
                "upgrade botocore to 1.43.111 or newer",
                botocore.__version__,
                extra={"botocore_version": botocore.__version__},
            )
        return client

    def _forget(self, client: Any) -> None:
        with self._lock:
            if self._client is client and self._timer() - self._made_at >= self._RENEW_AFTER:
                self._client = None


def make_sessions(settings: MarketplaceSettings) -> tuple[Session, Session, str]:
    """The host's own session, the one that calls AWS Marketplace, which differs with `role_arn`, and the region."""
    session = _make_session(settings)
    region = settings.region_name or session.get_config_variable("region") or "us-east-1"
    caller = session if settings.role_arn is None else _assume_role(session, settings.role_arn, settings, region)
    return session, caller, region


def setup_error_of(exc: Exception) -> errors.MarketplaceError:
    """What it means that no client could be made."""
    from botocore.exceptions import InvalidRegionError, ProfileNotFound

    if isinstance(exc, ProfileNotFound):
        return errors.SettingsError(f"{exc}: set profile_name to a profile of the AWS configuration files")
    if isinstance(exc, InvalidRegionError):
        return errors.RegionError("The AWS region is not the name of one: set region_name, such as us-east-1")
    return error_of(exc)


def has_metering(session: Session, region: str) -> bool:
    """Whether the metering service is known to be in the region."""
    known = (session.get_available_regions("meteringmarketplace", partition) for partition in ("aws", "aws-cn"))
    return any(region in regions for regions in known)


def _make_session(settings: MarketplaceSettings) -> Session:
    import boto3
    import botocore.session
    from botocore.config import Config

    session = botocore.session.Session(profile=settings.profile_name)
    session.set_default_client_config(
        Config(
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
            max_pool_connections=settings.max_concurrency,
            # Whole, as botocore otherwise puts it together twice for each call, an eighth of what the call costs.
            user_agent=(
                f"Boto3/{boto3.__version__} lang/python#{platform.python_version()} starlette-marketplace/{__version__}"
            ),
        )
    )
    return session


def _assume_role(source: Session, role_arn: str, settings: MarketplaceSettings, region: str) -> Session:
    """A session with the credentials of `role_arn`, fetched by those of `source` and refreshed before they expire."""
    from botocore.credentials import (
        AssumeRoleCredentialFetcher,
        CredentialProvider,
        CredentialResolver,
        DeferredRefreshableCredentials,
    )

    credentials = source.get_credentials()
    extra = {"RoleSessionName": "starlette-marketplace"}
    if settings.role_external_id is not None:
        extra["ExternalId"] = settings.role_external_id

    def fetch() -> Mapping[str, Any]:
        create_client = functools.partial(source.create_client, region_name=region)
        fetcher = AssumeRoleCredentialFetcher(create_client, credentials, role_arn, extra_args=extra)
        return fetcher.fetch_credentials()

    class AssumedRole(CredentialProvider):
        METHOD = "assume-role"

        def load(self) -> DeferredRefreshableCredentials:
            return DeferredRefreshableCredentials(fetch, self.METHOD)

    session = _make_session(settings)
    session.register_component("credential_provider", CredentialResolver([AssumedRole()]))
    return session


def _customer(answer: Mapping[str, Any]) -> MarketplaceCustomer:
    """The customer whom AWS answered with. No member of the answer is required by its model."""
    request_id = answer["ResponseMetadata"].get("RequestId", "none")
    if answer.keys() == {"ResponseMetadata"}:
        # What botocore makes of a body that is empty, cut off, or no JSON: it checks neither length nor content type.
        raise errors.AwsUnavailableError(
            f"AWS answered with nothing in it (AWS request id {request_id}): the answer was cut off, or did not come "
            "from AWS; it may pass; if not, check endpoint_url and the proxies on the way"
        )
    try:
        return MarketplaceCustomer(
            aws_account_id=answer.get("CustomerAWSAccountId", ""),
            product_code=answer.get("ProductCode", ""),
            license_arn=answer.get("LicenseArn"),
            customer_identifier=answer.get("CustomerIdentifier"),
            agreement_id=answer.get("Metadata", {}).get("AgreementId"),
        )
    except ValueError as exc:
        raise errors.IncompleteAnswerError(
            f"AWS accepted the token, but its answer is not usable (AWS request id {request_id}): {exc}. "
            "This passes for a new subscription; if not, check endpoint_url, or give AWS Support the request id"
        ) from exc
