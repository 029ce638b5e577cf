"""AWS, as the host calls it: how it is asked, and what its errors and addresses are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .. import errors
from ..aws_errors import code_in, is_untrusted, setup_error_of
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
        skews: By how much the local clock was ahead at each answer that had a date, and what operation was answered.
    """

    settings: MarketplaceSettings
    clock: Clock
    limit: float
    skews: list[tuple[timedelta, str]] = field(default_factory=list)

    def note_date(self, response: Mapping[str, Any], operation: str) -> None:
        """Compare the clocks by what boto3 made of an answer, or of an error."""
        try:
            date = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
            self.skews.append((self.clock() - date, operation))
        except (KeyError, TypeError, ValueError):
            return

    def ask(
        self, call: Callable[[], Any], *, error_of: Callable[[Exception], errors.MarketplaceError] = setup_error_of
    ) -> Any:
        """What `call` gives.

        Args:
            call: What to do.
            error_of: What an exception of it means.

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
            # With its cause, which is for the sentences of doctor and goes no further.
            raise error_of(exc) from exc

    def _note_date_of(self, exc: BaseException | None) -> None:
        self.note_date(getattr(exc, "response", {}), getattr(exc, "operation_name", ""))


def is_aws(endpoint: str) -> bool:
    """Whether it is an address of AWS, and over HTTPS."""
    url = urlsplit(endpoint)
    return url.scheme == "https" and (url.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))


def host_of(endpoint: str) -> str:
    """The host and port of an address, without what may hold a secret."""
    return urlsplit(endpoint).netloc.rpartition("@")[2]


_SSO = ("SSOTokenLoadError", "UnauthorizedSSOTokenError", "TokenRetrievalError")
_LOGIN = ("LoginError", "LoginInsufficientPermissions", "LoginRefreshRequired", "LoginTokenLoadError")
_LOOK = (
    "Look at the AWS_ variables, at the files that they name or else ~/.aws/config and ~/.aws/credentials, and at the "
    "profile."
)


def told(error: errors.MarketplaceError) -> tuple[str, str]:
    """What is wrong and what to do, by the kind of the error: its text is for the log of the host."""
    is_answer, reason = _response_of(error) is not None, reason_of(error)
    match error:
        case errors.SettingsError():
            return f"{error.__cause__}.", "Set profile_name to a profile of the AWS configuration files."
        case errors.RegionError():
            return "The AWS region is not the name of one.", "Set region_name, such as us-east-1."
        case errors.CredentialsError() if is_answer:
            return f"AWS refuses the credentials ({reason}).", "Renew or correct them, and see clock."
        case errors.CredentialsError() if reason in _SSO:
            return f"The login of AWS IAM Identity Center is not there or over ({reason}).", "Run aws sso login."
        case errors.CredentialsError() if reason in _LOGIN:
            return f"The login is not there or over ({reason}).", "Run aws login."
        case errors.CredentialsError():
            return f"No AWS credentials could be had ({reason}).", "Renew or correct them."
        case errors.AccessDeniedError():
            return f"AWS does not allow the call ({reason}).", "Allow it in a policy of the host's own identity."
        case errors.DisabledApiError():
            return f"ResolveCustomer is disabled in this region ({reason}).", "Change region_name."
        case errors.ConfigurationError() if is_untrusted(error.__cause__):
            return (
                f"The certificate of what answers for AWS is not trusted ({reason}).",
                "If something on the way looks into TLS, name the file of its authority in AWS_CA_BUNDLE; that file "
                "has to exist.",
            )
        case errors.ConfigurationError():
            return f"The AWS configuration cannot be used ({reason}).", _LOOK
    if is_answer:
        return (
            f"AWS failed, or what answers in its place ({reason}).",
            "It may pass: run doctor again. If not, check endpoint_url and the proxies on the way, and see the AWS "
            "Health Dashboard.",
        )
    return (
        f"There was no answer of AWS that can be used ({reason}).",
        "It may pass: run doctor again. If not, check the network, the proxies on the way, region_name and "
        "endpoint_url.",
    )


def reason_of(error: errors.MarketplaceError) -> str:
    """What led to an error, in few words and without a secret."""
    code, response = code_of(error), _response_of(error)
    if isinstance(error.__cause__, TimeoutError):
        return "it took too long"
    if response is None:
        return code
    operation = getattr(error.__cause__, "operation_name", "")
    return f"{operation}: {code}, HTTP {response['ResponseMetadata']['HTTPStatusCode']}"


def code_of(error: errors.MarketplaceError) -> str:
    """The code that AWS gave, or else the name of botocore's error."""
    cause = error.__cause__
    if cause is None:
        return "an answer that cannot be read"
    response = _response_of(error)
    return type(cause).__name__ if response is None else code_in(response) or "a code that cannot be read"


def _response_of(error: errors.MarketplaceError) -> Any:
    # Some errors of connections have the attribute too, without an answer in it.
    return getattr(error.__cause__, "response", None)


def utc_now() -> datetime:
    """The local time."""
    return datetime.now(UTC)
