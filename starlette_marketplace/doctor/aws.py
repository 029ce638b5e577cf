"""AWS, as the host calls it: how it is asked, and what its errors and addresses are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .. import errors
from ..resolver import setup_error_of
from .patience import within

if TYPE_CHECKING:
    from ..settings import MarketplaceSettings

Clock = Callable[[], datetime]


@dataclass(slots=True)
class Aws:
    """AWS, as the host calls it.

    Attributes:
        settings: The settings, with time limits that a person can wait for.
        clock: The local time, aware.
        limit: Seconds for each check.
        skews: By how much the local clock was ahead of AWS, at each answer that had a date.
    """

    settings: MarketplaceSettings
    clock: Clock
    limit: float
    skews: list[timedelta] = field(default_factory=list)

    def note_date(self, response: Mapping[str, Any]) -> None:
        """Compare the clocks by what boto3 made of an answer, or of an error."""
        try:
            date = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
            self.skews.append(self.clock() - date)
        except (KeyError, TypeError, ValueError):
            return

    def ask(self, call: Callable[[], Any]) -> Any:
        """What `call` gives.

        Raises:
            MarketplaceError: It failed, or took too long.
        """
        try:
            return within(self.limit, call)
        except errors.MarketplaceError as error:
            self._note_date_of(error.__cause__)
            raise
        except TimeoutError as exc:
            raise errors.AwsUnavailableError(f"There was no answer within {self.limit:g} seconds") from exc
        except Exception as exc:
            self._note_date_of(exc)
            raise setup_error_of(exc) from exc

    def _note_date_of(self, exc: BaseException | None) -> None:
        self.note_date(getattr(exc, "response", {}))


def is_aws(endpoint: str) -> bool:
    """Whether it is an address of AWS, and over HTTPS."""
    url = urlsplit(endpoint)
    return url.scheme == "https" and (url.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))


def halves(error: errors.MarketplaceError) -> tuple[str, str]:
    """What is wrong and what to do, of the text that the host's log would have."""
    parts = re.fullmatch(r"(?P<wrong>.*\)|[^:]*): (?P<advice>.*)", str(error))
    if parts is None:
        return f"{error}.", "It may pass: run doctor again."
    advice = parts["advice"]
    return f"{parts['wrong']}.", f"{advice[0].upper()}{advice[1:]}."


def utc_now() -> datetime:
    """The local time."""
    return datetime.now(UTC)
