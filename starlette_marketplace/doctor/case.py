"""The app that is examined: what is known of it, and what one check leaves for those after it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .. import errors
from ..aws_errors import setup_error_of

if TYPE_CHECKING:
    from botocore.session import Session

    from ..settings import MarketplaceSettings

T = TypeVar("T")
Clock = Callable[[], datetime]
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(slots=True, kw_only=True)
class Case:
    """One app, and what the checks so far have learned of it.

    Attributes:
        environ: The environment variables.
        target: What has the settings, as `module:attribute`; None takes them from the environment.
        url: The fulfillment URL in public; empty when it was not named.
        token: A registration token that AWS cannot know.
        clock: The local time, aware.
        limit: Seconds for whatever a check waits for.
        invalid: The settings that are invalid; others, or none, stand in `settings` for them.
        skews: By how much the local clock was ahead at each answer of AWS that had a date.
        settings: The settings, left by the check of that name.
        region: The AWS region, left by the check of that name.
        session: The app's own session, left by `region`.
        metering: A client of AWS Marketplace Metering that is not called, left by `region`.
        caller: The session that calls AWS Marketplace, left by `role`.
        page: What answers a GET of the fulfillment URL with 200, if anything does; left by `landing_get`.
    """

    environ: Mapping[str, str]
    target: str | None
    url: str
    token: str
    clock: Clock
    limit: float
    invalid: frozenset[str] = frozenset()
    skews: list[timedelta] = field(default_factory=list)
    settings: MarketplaceSettings = field(init=False)
    region: str = field(init=False)
    session: Session = field(init=False)
    metering: Any = field(init=False)
    caller: Session = field(init=False)
    page: Literal["ours", "other", "none"] = field(init=False)

    @property
    def endpoint(self) -> str:
        """The address of AWS Marketplace Metering that the app calls."""
        return str(self.metering.meta.endpoint_url)

    def note_date(self, response: Mapping[str, Any]) -> None:
        """Compare the clocks by what boto3 made of an answer, or of an error."""
        try:
            date = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
            self.skews.append(self.clock() - date)
        except (KeyError, TypeError, ValueError):
            return

    def ask(
        self, call: Callable[[], T], *, error_of: Callable[[Exception], errors.MarketplaceError] = setup_error_of
    ) -> T:
        """What a call of boto3 gives.

        Args:
            call: What to do.
            error_of: What an exception of it means.

        Raises:
            MarketplaceError: It failed, or took too long.
        """
        try:
            return within(self.limit, call)
        except errors.MarketplaceError:
            raise
        except TimeoutError:
            failure: errors.MarketplaceError = errors.AwsUnavailableError(
                f"AWS did not answer within {self.limit:g} seconds.",
                "Check credential_process, the network, the proxies on the way, region_name and endpoint_url.",
            )
        except Exception as exc:  # noqa: BLE001 - boto3 raises what its libraries do.
            self.note_date(getattr(exc, "response", {}))
            failure = error_of(exc)
        raise failure


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` gives or raises. After the time limit it goes on in its thread, which keeps no process alive.

    Raises:
        TimeoutError: It has not ended within the time limit.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as exc:  # noqa: BLE001 - it is raised in the thread that waits.
            future.set_exception(exc)

    threading.Thread(target=run, daemon=True).start()
    return future.result(seconds)


def utc_now() -> datetime:
    """The local time."""
    return datetime.now(UTC)
