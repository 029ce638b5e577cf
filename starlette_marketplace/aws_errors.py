"""What the errors of botocore mean: a kind of `MarketplaceError` for the buyer, and what to do for the seller."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import errors

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_CREDENTIALS_CODES = frozenset(
    {
        "ExpiredToken",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "OptInRequired",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_ACCESS_CODES = frozenset({"AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"})
_THROTTLING_CODES = frozenset(
    {
        "429",
        "RequestLimitExceeded",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


def error_of(exc: Exception) -> errors.MarketplaceError:
    """What it means that the call failed, or that it could not be made."""
    from botocore import exceptions

    if isinstance(exc, exceptions.ClientError):
        return _answered_error(exc) if exc.operation_name == "ResolveCustomer" else _credentials_call_error(exc)
    reason = type(exc).__name__
    if isinstance(exc, UnicodeDecodeError):
        return _unreadable(reason)
    if isinstance(exc, (exceptions.HTTPClientError, exceptions.ConnectionError)):
        return errors.AwsUnavailableError(
            f"AWS was not reached ({reason}): it may pass; if not, check the network, region_name, endpoint_url"
        )
    if isinstance(
        exc,
        (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.CredentialRetrievalError,
            exceptions.SSOError,
            exceptions.TokenRetrievalError,
            exceptions.MetadataRetrievalError,
        ),
    ):
        return errors.CredentialsError(f"No AWS credentials could be had ({reason}): renew or correct them")
    if isinstance(exc, (exceptions.BotoCoreError, ValueError, OSError)):
        return errors.ConfigurationError(f"The AWS configuration cannot be used ({reason}): correct it")
    return _unreadable(reason)


def _unreadable(reason: str) -> errors.AwsUnavailableError:
    return errors.AwsUnavailableError(
        f"What AWS answered cannot be read ({reason}): it may pass; if not, check endpoint_url and the proxies on the "
        "way, or upgrade boto3"
    )


def _answered_error(exc: ClientError) -> errors.MarketplaceError:
    """What an error answer of ResolveCustomer means."""
    status, code, answer = _described(exc)
    # The token is all that a call is made of, so a call that is not valid has a token that is not.
    if code in {"InvalidTokenException", "ValidationException"}:
        return errors.InvalidTokenError(
            f"AWS does not know the token ({answer}): the buyer needs a fresh link; if none of the links work, check "
            "that the credentials are those of the account that published the product"
        )
    # The same name is the common AWS error for expired credentials of the caller.
    if code == "ExpiredTokenException" and status == 400 and "security token" not in str(exc).lower():
        return errors.ExpiredTokenError(f"The token has expired ({answer}): the buyer needs a fresh link")
    if code == "ExpiredTokenException" or code in _CREDENTIALS_CODES:
        return errors.CredentialsError(
            f"AWS refused our credentials ({answer}): renew or correct them, and check the clock of this machine"
        )
    if code in _ACCESS_CODES:
        return errors.AccessDeniedError(
            f"Our credentials may not resolve customers ({answer}): "
            'allow the action aws-marketplace:ResolveCustomer on the resource "*"'
        )
    if code == "DisabledApiException":
        return errors.DisabledApiError(f"ResolveCustomer is disabled in this region ({answer}): change region_name")
    if code in _THROTTLING_CODES:
        return errors.ThrottledError(
            f"AWS limits the rate of our calls ({answer}): it passes; if it comes often, ask AWS Support for more"
        )
    if code == str(status) and status < 500:
        # What botocore makes of an answer that is not one of AWS's own errors.
        return errors.AwsUnavailableError(
            f"Something else answered for AWS ({answer}): check endpoint_url and the proxies on the way"
        )
    return errors.AwsUnavailableError(
        f"AWS failed ({answer}): it may pass; if not, see the AWS Health Dashboard or give AWS Support the request id"
    )


def _credentials_call_error(exc: ClientError) -> errors.MarketplaceError:
    """What an error answer means to a call that botocore makes for credentials, such as AssumeRole."""
    status, code, answer = _described(exc)
    if code in _THROTTLING_CODES or status >= 500:
        return errors.AwsUnavailableError(f"AWS did not give us credentials ({answer})")
    if code in _ACCESS_CODES:
        return errors.AccessDeniedError(
            f"The role cannot be assumed ({answer}): check its trust policy, role_arn and role_external_id"
        )
    return errors.CredentialsError(f"AWS refused us credentials ({answer}): renew or correct those they are had by")


def code_in(response: Mapping[str, Any]) -> str | None:
    """The code of an error answer, None when there is none that can be read."""
    return _plain(response.get("Error", {}).get("Code"), "[A-Za-z0-9.]{1,64}")


def _described(exc: ClientError) -> tuple[int, str, str]:
    metadata = exc.response["ResponseMetadata"]
    status, code = metadata["HTTPStatusCode"], code_in(exc.response) or "an unreadable code"
    request_id = _plain(metadata.get("RequestId") or "none", "[A-Za-z0-9-]{1,64}") or "unreadable"
    return status, code, f"{exc.operation_name}: {code}, HTTP {status}, AWS request id {request_id}"


def _plain(value: object, pattern: str) -> str | None:
    # Of an XML element, botocore makes a string, a dict, or None. And what stands in for AWS may quote the request,
    # with its signature, wherever it likes.
    return value if isinstance(value, str) and re.fullmatch(pattern, value) else None
