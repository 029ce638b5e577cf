"""Calling AWS: clients of its services, with credentials that are looked up and refreshed beside the calls.

boto3 is imported at first use, which is when the server starts or the first buyer comes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

from . import errors
from .aws_client import Client
from .aws_errors import setup_error_of
from .aws_services import AGREEMENTS, METERING
from .aws_session import (
    check_endpoint,
    freeze,
    hold,
    look_up_credentials,
    make_sessions,
    place_of,
    session_with,
    warn,
    warn_of_old_models,
    warn_of_stand_in,
)
from .clocks import monotonic
from .keys import identity_source, is_aws
from .threads import Threads, call_after_fork

if TYPE_CHECKING:
    from .aws_services import Service
    from .settings import MarketplaceSettings


class Connection:
    """The clients of AWS Marketplace and the credentials that they sign with, looked up and refreshed.

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
            f"The look-up of AWS credentials has taken more than {self._limit:g} s.",
            "Check credential_process, the instance metadata service, role_arn and the network.",
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
        source = look_up_credentials(session, caller)
        held = hold(freeze(source))
        session_of_client = session_with(settings, lambda: held)
        clients: Any = boto3.Session(botocore_session=session_of_client)

        def make(service: Service) -> Any:
            endpoint_url, home, is_botocores_own = place_of(service, session, region, settings)
            made = clients.client(service.name, region_name=home, endpoint_url=endpoint_url)
            url = made.meta.endpoint_url
            if service is not METERING:
                if identity_source(settings) == "aws":
                    warn_of_stand_in(url)
                if service is AGREEMENTS:
                    warn_of_old_models(made)
                return made
            if not is_botocores_own or identity_source(settings) != "aws":
                check_endpoint(url, settings)
            warn(made, session, region, is_asking_aws=is_botocores_own or is_aws(url))
            return made

        return Client(make, source, held)


def _copy(error: errors.MarketplaceError) -> errors.MarketplaceError:
    """A copy with the cause, and without the traceback."""
    copy = errors.copy_of(error)
    copy.__cause__ = error.__cause__
    return copy
