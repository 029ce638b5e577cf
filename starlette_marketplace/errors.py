"""The errors of this package, one tree.

    MarketplaceError
    ├── RequestError                  what the buyer's browser sent
    │   ├── MissingTokenError         400
    │   ├── MalformedRequestError     400
    │   ├── RequestTooLargeError      413
    │   └── UnsupportedMediaTypeError 415
    ├── TokenError                    what AWS says of the registration token
    │   ├── InvalidTokenError         400
    │   └── ExpiredTokenError         400
    ├── ProductMismatchError          403, the token is for a product that is not ours
    ├── AgreementNotFoundError        404, AWS knows no agreement of that id
    ├── UnavailableError              503, trying again may help
    │   ├── ThrottledError
    │   ├── DeadlineExceededError
    │   ├── OverloadedError
    │   ├── AwsUnavailableError
    │   └── IncompleteAnswerError
    └── ConfigurationError            503 for the buyer, for the seller to fix
        ├── SettingsError             raised at start
        ├── CredentialsError
        ├── AccessDeniedError
        ├── RegionError
        └── DisabledApiError

`reason` and `advice` are for the seller, and `str(error)` joins them; `title` and `message` are for the buyer. None of
them contains a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

E = TypeVar("E", bound=Exception)


def copy_of(error: E) -> E:
    """A copy for each who raises it: one exception that many raise would gather all their tracebacks.

    Not by copy.copy, which calls the constructor: a host's own error may have another one.
    """
    new = type(error).__new__(type(error), *error.args)
    new.__dict__.update(error.__dict__)
    return new


class MarketplaceError(Exception):
    """A registration that failed, or a question to AWS that has no answer.

    Args:
        reason: What happened, as a sentence.
        advice: What to do, in the imperative; empty when there is nothing to do.

    Attributes:
        code: What happened, in upper snake case; part of the JSON answer.
        status: HTTP status of the answer.
        title: Heading of the buyer's page.
        message: What the buyer is told.
        retry_after: Seconds after which trying again makes sense, None when it does not.
        reason: What happened, for the seller.
        advice: What the seller can do.
    """

    code: str = "MARKETPLACE_ERROR"
    status: int = 500
    title: str = "Your account could not be set up"
    message: str = "Something went wrong while setting up your account."
    retry_after: int | None = None

    reason: str = ""
    advice: str = ""

    def __init__(self, reason: str = "", advice: str = "") -> None:
        super().__init__(*filter(None, (reason, advice)))
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        return " ".join(map(str, self.args))


class RequestError(MarketplaceError):
    """The request is not one that AWS Marketplace makes a browser send."""

    code: str = "BAD_REQUEST"
    status: int = 400
    title = "This link is incomplete"
    message = "The request did not have the form that AWS Marketplace sends."


class MissingTokenError(RequestError):
    """The form has no registration token, or an empty one."""

    code: str = "MISSING_TOKEN"
    message = "The request came without a registration token from AWS Marketplace."


class MalformedRequestError(RequestError):
    """The form has several tokens, a bad encoding, is cut off, or did not arrive within `deadline`."""

    code: str = "MALFORMED_REQUEST"


class RequestTooLargeError(RequestError):
    """The body is over `max_body_size`."""

    code: str = "REQUEST_TOO_LARGE"
    status: int = 413
    message = "The request was too large to come from AWS Marketplace."


class UnsupportedMediaTypeError(RequestError):
    """The body is neither a form nor JSON, or it is compressed."""

    code: str = "UNSUPPORTED_MEDIA_TYPE"
    status: int = 415


class TokenError(MarketplaceError):
    """AWS does not accept the registration token."""

    code: str = "BAD_TOKEN"
    status: int = 400
    title = "This link cannot be used"
    message = "AWS Marketplace did not accept this link."


class InvalidTokenError(TokenError):
    """AWS does not know the registration token (`InvalidTokenException`)."""

    code: str = "INVALID_TOKEN"
    message = "AWS Marketplace does not recognize this link. Your subscription is not affected."


class ExpiredTokenError(TokenError):
    """The registration token is too old or used up (`ExpiredTokenException`)."""

    code: str = "EXPIRED_TOKEN"
    title = "This link has expired"
    message = "Links from AWS Marketplace work for a short time only. Your subscription is not affected."


class ProductMismatchError(MarketplaceError):
    """The token is valid, and for a product that `product_codes` does not list."""

    code: str = "PRODUCT_MISMATCH"
    status: int = 403
    title = "This subscription is for another product"
    message = "The AWS Marketplace subscription that you came with does not belong to this product."


class AgreementNotFoundError(MarketplaceError):
    """AWS knows no agreement of that id (`ResourceNotFoundException`)."""

    code: str = "AGREEMENT_NOT_FOUND"
    status: int = 404


class UnavailableError(MarketplaceError):
    """No answer from AWS right now; trying again may help in a moment."""

    code: str = "UNAVAILABLE"
    status: int = 503
    title = "AWS Marketplace did not answer in time"
    message = "We could not confirm your subscription with AWS Marketplace just now. Please try again in a moment."
    retry_after: int | None = 5


class ThrottledError(UnavailableError):
    """AWS limits the rate of our calls (`ThrottlingException`)."""

    code: str = "THROTTLED"


class DeadlineExceededError(UnavailableError):
    """AWS has not answered within `deadline`; the call goes on, and a later try finds its answer."""

    code: str = "DEADLINE_EXCEEDED"


class OverloadedError(UnavailableError):
    """More than `max_waiting` calls wait for a thread already."""

    code: str = "OVERLOADED"
    title = "Many people are setting up their accounts right now"


class AwsUnavailableError(UnavailableError):
    """AWS failed, could not be reached, or gave an answer that we do not know."""

    code: str = "AWS_UNAVAILABLE"


class IncompleteAnswerError(UnavailableError):
    """An answer from AWS left out what it has to have, or is about somebody else.

    The first answer for the token of a new product has been seen without `LicenseArn` and the second with it.
    """

    code: str = "INCOMPLETE_ANSWER"
    title = "Your subscription is still being prepared"
    message = "AWS Marketplace has not finished preparing your subscription. Please try again in a moment."


class ConfigurationError(MarketplaceError):
    """Something on the seller's side has to be put right; the buyer can only come back later."""

    code: str = "CONFIGURATION"
    status: int = 503
    title = "Setting up accounts is not possible right now"
    message = "This is a problem on our side, and your subscription is not affected. Please try again later."
    retry_after: int | None = 60


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with one setting.

    Attributes:
        setting: The name of the setting.
        reason: What is wrong, as a sentence that begins with that name, or with its variable in the environment.
        advice: What to do, in the imperative; empty where the reason says it.
    """

    setting: str
    reason: str
    advice: str = ""

    def renamed(self, names: Mapping[str, str]) -> Mistake:
        """The same with the setting by the name that `names` has for it."""
        name = names.get(self.setting, self.setting)
        return replace(self, reason=name + self.reason.removeprefix(self.setting))


class SettingsError(ConfigurationError):
    """Settings are missing or invalid; raised when they are made, or at startup.

    Attributes:
        mistakes: What is wrong with which setting; empty when it is found only at startup.
    """

    code: str = "SETTINGS"
    mistakes: tuple[Mistake, ...] = ()

    @classmethod
    def of(cls, mistakes: Sequence[Mistake]) -> SettingsError:
        """The error that reports all these mistakes."""
        if len(mistakes) == 1:
            error = cls(mistakes[0].reason, mistakes[0].advice)
        else:
            lines = "\n".join(f"{mistake.reason} {mistake.advice}".rstrip() for mistake in mistakes)
            error = SettingsError(f"{len(mistakes)} settings are wrong:\n{lines}")
        error.mistakes = tuple(mistakes)
        return error


class CredentialsError(ConfigurationError):
    """Our own AWS credentials are missing, expired or wrong."""

    code: str = "CREDENTIALS"


class AccessDeniedError(ConfigurationError):
    """Our AWS credentials lack a permission: for one of the calls to AWS Marketplace, or to assume `role_arn`."""

    code: str = "ACCESS_DENIED"


class RegionError(ConfigurationError):
    """The AWS region is not the name of one."""

    code: str = "REGION"


class DisabledApiError(ConfigurationError):
    """AWS has the API switched off in this region (`DisabledApiException`)."""

    code: str = "DISABLED_API"
