"""Calling AWS: sessions, the role to assume, and the client of the metering service with its credentials.

boto3 is imported at first use, which is when the server starts or the first buyer comes.
"""

from __future__ import annotations

import functools
import logging
import math
import platform
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from . import errors
from ._version import __version__
from .aws_errors import call_error_of, invalid_region, lookup_error_of, setup_error_of
from .clocks import monotonic
from .keys import identity_source, is_aws, source_of
from .threads import Threads, call_after_fork

if TYPE_CHECKING:
    from botocore.credentials import Credentials, ReadOnlyCredentials
    from botocore.session import Session

    from .settings import MarketplaceSettings

R = TypeVar("R")

logger: logging.Logger = logging.getLogger("starlette_marketplace")


class Connection:
    """The client of the metering service and the credentials that it signs with, looked up and refreshed.

    A look-up runs in a thread of its own, one at a time: it may take long or hang, and it logs, which must not happen
    below a frame that holds a token.

    Args:
        settings: What to connect to, and how long to wait.
        timer: Seconds from any beginning, never running backwards.
    """

    # For so long a failed look-up is not repeated, and neither is one whose credentials AWS has refused: each takes
    # time, up to many seconds where something does not answer, and there may be many buyers.
    _PAUSE = 10.0

    def __init__(self, settings: MarketplaceSettings, *, timer: Callable[[], float] = monotonic) -> None:
        self._settings = settings
        self._timer = timer
        # Buyers wait no longer than the deadline, and are to hear of this before.
        self._limit = settings.deadline * 3 / 4
        self._begin()
        call_after_fork(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._threads = Threads(1)
        # botocore's models of services and endpoints: reading them again is most of what a new client would cost.
        self._models: Any = None
        self._client: Client | None = None
        self._made_at = -math.inf
        self._look_up: Future[None] = Future()
        self._look_up.set_result(None)
        self._began_at = -math.inf
        self._failure: errors.MarketplaceError | None = None
        self._next_look_up = -math.inf

    def client(self) -> Client:
        """The client, with credentials that have not expired.

        Raises:
            MarketplaceError: There is none. The same is raised for a while without looking again.
        """
        with self._lock:
            client = self._usable_client()
            if client is not None and not client.is_refresh_due():
                return client
            has_nothing = client is None and self._failure is None
            if self._look_up.done() and (has_nothing or self._timer() >= self._next_look_up):
                try:
                    self._look_up, self._began_at = self._threads.submit(self._look), self._timer()
                except errors.OverloadedError:
                    if client is None:
                        raise
                    return client
            elif client is not None:
                return client
            elif self._failure is not None:
                raise _copy(self._failure)
            look_up, limit = self._look_up, self._began_at + self._limit - self._timer()
        wait([look_up], timeout=max(0.0, limit))
        with self._lock:
            client = self._usable_client()
            if client is not None:
                return client
            failure = self._failure
        if failure is not None:
            raise _copy(failure)
        raise errors.CredentialsError(
            f"The look-up of AWS credentials has taken more than {self._limit:g} s. Check credential_process, the "
            "instance metadata service, role_arn and the network."
        )

    def forget(self, client: Client) -> None:
        """Have the client made anew, as AWS has refused its credentials.

        They may have been renewed since, in a file or in the environment, and only a new client looks there again.
        """
        with self._lock:
            if self._client is client and self._timer() - self._made_at >= self._PAUSE:
                self._client = None

    def _usable_client(self) -> Client | None:
        return None if self._client is None or self._client.is_expired() else self._client

    def _look(self) -> None:
        client, failure = self._client, None
        try:
            if client is None:
                client = self._make_client()
            else:
                client.refresh()
        except BaseException as exc:  # noqa: BLE001 - raised to those who ask for the client.
            # Without the traceback, which leads to credentials.
            failure = _copy(exc if isinstance(exc, errors.MarketplaceError) else setup_error_of(exc))
        with self._lock:
            now = self._timer()
            if client is not None and client is not self._client:
                self._client, self._made_at = client, now
            self._failure = failure
            is_due = client is None or client.is_refresh_due()
            self._next_look_up = now + self._PAUSE if is_due else -math.inf

    def _make_client(self) -> Client:
        import boto3

        settings = self._settings
        session, caller, region = make_sessions(settings)
        if self._models is None:
            self._models = session.get_component("data_loader")
        for each in (session, caller):
            each.register_component("data_loader", self._models)
        source = _look_up_credentials(session, caller)
        held = _held(_frozen(source))
        signing = _session_with(settings, lambda: held)
        signing.register_component("data_loader", self._models)
        maker = boto3.Session(botocore_session=signing)
        metering = maker.client("meteringmarketplace", region_name=region, endpoint_url=settings.endpoint_url)
        is_botocores_own = settings.endpoint_url is None and not _names_endpoint(session)
        if not is_botocores_own or identity_source(settings) != "aws":
            _check_endpoint(metering.meta.endpoint_url, settings)
        _warn(metering, session, region, is_asking_aws=is_botocores_own or is_aws(metering.meta.endpoint_url))
        return Client(metering, source, held)


class Client:
    """A client of the metering service, which looks up no credentials by itself.

    Args:
        metering: boto3's client.
        source: The credentials, which may know how to refresh themselves.
        held: What the client signs with.
    """

    def __init__(self, metering: Any, source: Credentials, held: Any) -> None:
        self.metering = metering
        self._source = source
        self._held = held
        self._call = threading.local()
        events = metering.meta.events
        events.register_first("request-created.marketplace-metering.ResolveCustomer", self._begin_attempt)
        events.register_first("before-parse.marketplace-metering.ResolveCustomer", self._note_answer)

    def is_refresh_due(self) -> bool:
        """Whether the credentials are to be refreshed, though they may be good for some minutes."""
        return self._needs_refresh(None)

    def is_expired(self) -> bool:
        """Whether the credentials are known to be over."""
        return self._needs_refresh(0)

    def refresh(self) -> None:
        """Refresh the credentials.

        Raises:
            MarketplaceError: That failed.
        """
        self._held.frozen = _frozen(self._source)

    def ask(self, call: Callable[[Any], Mapping[str, Any]]) -> Mapping[str, Any]:
        """What `call` gives when it is given boto3's client.

        Raises:
            MarketplaceError: The call failed.
        """
        self._call.is_answered = False
        try:
            return call(self.metering)
        except Exception as exc:  # noqa: BLE001 - whatever patches botocore may raise anything.
            failure = call_error_of(exc, is_answered=self._call.is_answered)
        # Out here it has no context, which could hold the token.
        raise failure

    def _needs_refresh(self, seconds: int | None) -> bool:
        needs_refresh = getattr(self._source, "refresh_needed", None)
        return needs_refresh is not None and needs_refresh(seconds)

    def _begin_attempt(self, **_: object) -> None:
        self._call.is_answered = False

    def _note_answer(self, **_: object) -> None:
        self._call.is_answered = True


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


def _session_with(settings: MarketplaceSettings, load: Callable[[], Any]) -> Session:
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

    return _session_with(settings, lambda: DeferredRefreshableCredentials(fetch, "assume-role"))


def _look_up_credentials(session: Session, caller: Session) -> Credentials:
    # Those of the role are looked up when they are used, and it takes others to get them.
    own = _looked_up(session.get_credentials)
    credentials = own and _looked_up(caller.get_credentials)
    if credentials is None:
        raise errors.CredentialsError(
            "No AWS credentials were found. Give the host a role, or a profile, of the seller account."
        )
    return credentials


def _frozen(credentials: Credentials) -> ReadOnlyCredentials:
    """The credentials as they are now, refreshed if that is due."""
    frozen = _looked_up(credentials.get_frozen_credentials)
    # What carries a header takes off the blanks around it, and the session token is a header by itself.
    parts = (frozen.access_key or "", frozen.secret_key or "", (frozen.token or "none").strip(" \t"))
    if not all(re.fullmatch("[!-~]+", part) for part in parts):
        raise errors.CredentialsError(
            "The AWS credentials are incomplete, or contain white space or unprintable characters. Correct them; a "
            "secret that was read from a file often ends in a newline."
        )
    return frozen


def _looked_up(look_up: Callable[[], R]) -> R:
    try:
        return look_up()
    except Exception as exc:  # noqa: BLE001 - providers raise what their libraries do.
        failure = lookup_error_of(exc)
    raise failure


def _held(frozen: ReadOnlyCredentials) -> Any:
    """Credentials for a client that stay as they are until they are replaced as a whole."""
    from botocore.credentials import Credentials

    class Held(Credentials):
        frozen: ReadOnlyCredentials

        def get_frozen_credentials(self) -> ReadOnlyCredentials:
            return self.frozen

    held = Held(str(frozen.access_key), str(frozen.secret_key), frozen.token)
    held.frozen = frozen
    return held


def _check_endpoint(endpoint_url: str, settings: MarketplaceSettings) -> None:
    parts = urlsplit(endpoint_url)
    endpoint = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if source_of(endpoint_url) != identity_source(settings):
        raise errors.SettingsError(
            f"An AWS configuration file decides that {endpoint} is called, and signing keys depend on the endpoint. "
            "Set endpoint_url (MARKETPLACE_ENDPOINT_URL) or AWS_ENDPOINT_URL_MARKETPLACE_METERING instead."
        )
    if not is_aws(endpoint_url):
        logger.warning(
            "Identities come from %s, which is not AWS Marketplace: in production they are worth nothing. Remove "
            "endpoint_url and the AWS_ENDPOINT_URL variables there",
            endpoint,
            extra={"endpoint": endpoint},
        )


def _names_endpoint(session: Session) -> bool:
    """Whether the environment or a configuration file names an endpoint, as botocore reads them."""
    from botocore.configprovider import ConfiguredEndpointProvider

    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return False
    named = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), "meteringmarketplace")
    return named.provide() is not None


def _warn(metering: Any, session: Session, region: str, *, is_asking_aws: bool) -> None:
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


def _copy(error: errors.MarketplaceError) -> errors.MarketplaceError:
    """A copy for each who raises it: one exception that many raise would gather their tracebacks."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy
