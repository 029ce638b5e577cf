"""What the errors of boto3 mean: a kind of `MarketplaceError` for the buyer, and what to do for the seller.

Only what came back over the network can be AWS's fault. Everything else, and whatever has no known class, is for the
seller to look at.

None of these errors leads to the one that it was made of. botocore's connection errors hold the whole request, with the
token and the signature, and an answer may quote them. Of an error that AWS answered with, a cleaned copy is the cause.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
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
# By name, as older versions of botocore lack some of them.
_LOGIN_ERRORS = frozenset({"LoginError", "NoAuthTokenError", "SSOError", "TokenRetrievalError"})
_MFA_ERRORS = frozenset({"EOFError", "GetPassWarning", "RefreshWithMFAUnsupportedError"})
_LOOKUP_ERRORS = frozenset(
    {
        "CredentialRetrievalError",
        "MetadataRetrievalError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "UnknownCredentialError",
        "UnknownTokenProviderError",
    }
)
# Of the other errors of TLS, most are a connection that was cut off.
_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED|NO_CERTIFICATE|\[Errno 2\]")
# What reads an answer: what fails in there has stumbled over it.
_READERS = frozenset({"botocore", "dateutil", "urllib3"})


def setup_error_of(exc: BaseException) -> errors.MarketplaceError:
    """What it means that no session or no client could be made: nothing was sent."""
    return _error_of(exc, lambda unknown: _unusable_configuration(type(unknown).__name__))


def lookup_error_of(exc: Exception) -> errors.MarketplaceError:
    """What it means that credentials could not be looked up or refreshed: AWS Marketplace was not asked."""
    return _error_of(exc, _failed_lookup)


def call_error_of(exc: Exception, *, is_answered: bool, setting: str = "endpoint_url") -> errors.MarketplaceError:
    """What it means that a call failed.

    Args:
        exc: What boto3 raised.
        is_answered: Whether something came back over the network.
        setting: The setting with the address that was called.
    """

    def failed_call(unknown: BaseException) -> errors.MarketplaceError:
        name = type(unknown).__name__
        if is_answered and _raised_in(unknown) in _READERS:
            return errors.AwsUnavailableError(
                f"The answer from AWS cannot be read ({name}).",
                f"Try again in a moment; if the problem persists, check {setting} and the proxies on the way, or "
                "upgrade boto3.",
            )
        return errors.ConfigurationError(
            f"The call to AWS failed on this machine ({name}).",
            "Check the AWS configuration, and any library that patches botocore, such as tracing.",
        )

    return _error_of(exc, failed_call, setting)


def foreign_answer(answer: Mapping[str, Any], setting: str) -> errors.AwsUnavailableError:
    """What it means that something answered without an error, and AWS would have answered otherwise."""
    return errors.AwsUnavailableError(
        f"The answer from AWS is empty (AWS request id {request_id_in(answer)}): it was cut off, or did not come from "
        "AWS.",
        f"Try again in a moment; if the problem persists, check {setting} and the proxies on the way.",
    )


def invalid_region() -> errors.RegionError:
    """What it means that the region of the AWS configuration is malformed."""
    return errors.RegionError("The AWS region is not a valid name.", "Set region_name to a region such as us-east-1.")


def is_untrusted(exc: BaseException | None) -> bool:
    """Whether TLS failed because the certificate of the other side is not trusted, and not by an accident."""
    from botocore.exceptions import SSLError

    return isinstance(exc, SSLError) and bool(_UNTRUSTED.search(str(exc)))


def code_in(response: Mapping[str, Any]) -> str | None:
    """The code of an error answer, None when there is none that can be read."""
    return _plain(_part(response, "Error").get("Code"), "[A-Za-z0-9.]{1,64}")


def request_id_in(response: Mapping[str, Any]) -> str:
    """AWS's request id of an answer, as a text may show it."""
    request_id = _part(response, "ResponseMetadata").get("RequestId")
    return _plain(request_id or "none", "[A-Za-z0-9-]{1,64}") or "unreadable"


def _error_of(
    exc: BaseException,
    error_of_unknown: Callable[[BaseException], errors.MarketplaceError],
    setting: str = "endpoint_url",
) -> errors.MarketplaceError:
    for each in (chain := list(_chain(exc))):
        error = _known_error(each, setting)
        if error is not None:
            return error
    return error_of_unknown(chain[-1])


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """`exc` and what it was raised from, as by a wrapper around botocore."""
    found: list[BaseException] = []
    led: BaseException | None = exc
    while led is not None and led not in found:
        found.append(led)
        yield led
        led = led.__cause__ or _wrapped(led)


def _wrapped(exc: BaseException) -> BaseException | None:
    """What botocore has met while sending and has no class for."""
    from botocore.exceptions import HTTPClientError

    return exc.kwargs.get("error") if type(exc) is HTTPClientError else None


def _known_error(exc: BaseException, setting: str) -> errors.MarketplaceError | None:
    from botocore import exceptions

    if isinstance(exc, exceptions.ClientError):
        is_ours = exc.operation_name in _ANSWERS
        error = _answered_error(exc, setting) if is_ours else _credentials_call_error(exc)
        error.__cause__ = _cleaned(exc)
        return error
    name, names = type(exc).__name__, {kind.__name__ for kind in type(exc).__mro__}
    if isinstance(exc, exceptions.ProfileNotFound):
        return errors.SettingsError(f"{exc}.", "Set profile_name to a profile of the AWS configuration files.")
    if isinstance(exc, exceptions.InvalidRegionError):
        return invalid_region()
    if is_untrusted(exc):
        return errors.ConfigurationError(
            f"The TLS certificate of the endpoint is not trusted ({name}).",
            "If a proxy inspects TLS, name the file of its certificate authority in AWS_CA_BUNDLE; that file "
            "must exist.",
        )
    if isinstance(exc, (exceptions.HTTPClientError, exceptions.ConnectionError)):
        wrapped = _wrapped(exc)
        return _unreached(name, setting) if wrapped is None or _is_of_the_network(wrapped) else None
    if names & _LOGIN_ERRORS:
        return errors.CredentialsError(
            f"The AWS login cannot be used ({name}).", "Run aws sso login or aws login again; on a server, use a role."
        )
    if names & _MFA_ERRORS:
        return errors.CredentialsError(
            f"The AWS profile asks for an MFA code, which a server cannot enter ({name}).",
            "Use a role, or a profile without mfa_serial.",
        )
    if names & _LOOKUP_ERRORS:
        return errors.CredentialsError(f"AWS credentials could not be looked up ({name}).", "Renew or correct them.")
    if name == "MissingDependencyException":
        return errors.ConfigurationError(
            f"boto3 lacks a package that these AWS credentials need ({name}).", 'Run pip install "botocore[crt]".'
        )
    return _unusable_configuration(name) if isinstance(exc, exceptions.BotoCoreError) else None


def _is_of_the_network(exc: BaseException) -> bool:
    from urllib3.exceptions import HTTPError, LocationValueError

    # A location is the address of a proxy or an endpoint that nobody could reach.
    return isinstance(exc, (OSError, HTTPException, HTTPError)) and not isinstance(exc, LocationValueError)


def _raised_in(exc: BaseException) -> str:
    """The package that raised it, seen past the standard library."""
    raised_in = ""
    for frame, _ in traceback.walk_tb(exc.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package not in sys.stdlib_module_names:
            raised_in = package
    return raised_in


def _unusable_configuration(name: str) -> errors.MarketplaceError:
    return errors.ConfigurationError(
        f"The AWS configuration cannot be used ({name}).",
        "Correct the AWS_ variables and the files that they name, by default ~/.aws/config and ~/.aws/credentials.",
    )


def _unreached(name: str, setting: str) -> errors.MarketplaceError:
    return errors.AwsUnavailableError(
        f"AWS was not reached ({name}).",
        "Try again in a moment; if the problem persists, check the network, the proxies on the way, "
        f"region_name and {setting}.",
    )


def _failed_lookup(unknown: BaseException) -> errors.MarketplaceError:
    name = type(unknown).__name__
    # botocore has no class for it.
    if isinstance(unknown, RuntimeError) and "expired" in str(unknown):
        return errors.CredentialsError(
            f"The AWS credentials have expired ({name}).", "Renew them, and check this machine's clock."
        )
    return errors.CredentialsError(
        f"The look-up of AWS credentials failed ({name}).",
        "Check the AWS_ variables, the profile, credential_process and the role.",
    )


def _resolve_error(exc: ClientError) -> errors.MarketplaceError | None:
    status, code, answer = _described(exc)
    # The token is all that a call is made of, so a call that is not valid has a token that is not.
    if code in {"InvalidTokenException", "ValidationException"}:
        return errors.InvalidTokenError(
            f"AWS does not recognize the token ({answer}).",
            "The buyer needs a fresh link; if no link works, check that the credentials are those of the account "
            "that published the product.",
        )
    # The same name is the common AWS error for expired credentials of the caller.
    if code == "ExpiredTokenException" and status == 400 and "security token" not in str(exc).lower():
        return errors.ExpiredTokenError(f"The token has expired ({answer}).", "The buyer needs a fresh link.")
    return None


def _entitlements_error(exc: ClientError) -> errors.MarketplaceError | None:
    _, code, answer = _described(exc)
    if code in {"InvalidParameterException", "ValidationException"}:
        return errors.ConfigurationError(
            f"AWS does not accept the product code, license or customer identifier ({answer}).",
            "Check that the customer came from this product, and that the credentials are those of the account that "
            "published it.",
        )
    return None


def _agreement_error(exc: ClientError) -> errors.MarketplaceError | None:
    _, code, answer = _described(exc)
    # The id is all that a call is made of, so a call that is not valid has an id that is not.
    if code in {"ResourceNotFoundException", "ValidationException"}:
        return errors.AgreementNotFoundError(
            f"AWS does not know the agreement ({answer}).",
            "Check the agreement id, and that the credentials are those of the account that published the product.",
        )
    if code in _ACCESS_CODES:
        return errors.AccessDeniedError(
            f"Our credentials may not read the agreement ({answer}).",
            'Allow the action aws-marketplace:DescribeAgreement on the resource "*"; if it is allowed, a partner has '
            "resold the product, and only the partner can read the agreement.",
        )
    return None


# The errors that only one operation has.
_ANSWERS: dict[str, Callable[[ClientError], errors.MarketplaceError | None]] = {
    "ResolveCustomer": _resolve_error,
    "GetEntitlements": _entitlements_error,
    "DescribeAgreement": _agreement_error,
}


def _answered_error(exc: ClientError, setting: str) -> errors.MarketplaceError:
    """What an error answer of AWS Marketplace means."""
    own = _ANSWERS[exc.operation_name](exc)
    if own is not None:
        return own
    status, code, answer = _described(exc)
    if code == "ExpiredTokenException" or code in _CREDENTIALS_CODES:
        return errors.CredentialsError(
            f"AWS rejected our credentials ({answer}).", "Renew them, and check this machine's clock."
        )
    if code in _ACCESS_CODES:
        return errors.AccessDeniedError(
            f"Our credentials lack a permission ({answer}).",
            f'Allow the action aws-marketplace:{exc.operation_name} on the resource "*"; if a policy does, look for a '
            "permissions boundary or a service control policy that denies it.",
        )
    if code == "DisabledApiException":
        return errors.DisabledApiError(
            f"{exc.operation_name} is disabled in this region ({answer}).", "Change region_name."
        )
    if code in _THROTTLING_CODES:
        return errors.ThrottledError(
            f"AWS throttled the call ({answer}).",
            "Try again in a moment; if it happens often, ask AWS Support to raise the limit.",
        )
    if code == str(status) and status < 500:
        # What botocore makes of an answer that is not one of AWS's own errors.
        return errors.AwsUnavailableError(
            f"Something else answered in place of AWS ({answer}).", f"Check {setting} and the proxies on the way."
        )
    return errors.AwsUnavailableError(
        f"AWS failed ({answer}).",
        "Try again in a moment; if the problem persists, see the AWS Health Dashboard, or give AWS Support the "
        "request id.",
    )


def _credentials_call_error(exc: ClientError) -> errors.MarketplaceError:
    """What an error answer means to a call that botocore makes for credentials, such as AssumeRole."""
    status, code, answer = _described(exc)
    if code in _THROTTLING_CODES or status >= 500:
        return errors.AwsUnavailableError(f"AWS did not give us credentials ({answer}).", "Try again in a moment.")
    if code in _ACCESS_CODES:
        return errors.AccessDeniedError(
            f"The role cannot be assumed ({answer}).",
            "Allow sts:AssumeRole to your app's own identity, in the role's trust policy and in a policy of that "
            "identity, and check role_arn and role_external_id.",
        )
    return errors.CredentialsError(
        f"AWS refused us credentials ({answer}).", "Renew those that we asked with, and check this machine's clock."
    )


def _cleaned(exc: ClientError) -> ClientError:
    """`exc` without what an answer may have quoted: the token, the signature, the session token."""
    from botocore import exceptions

    status, code, _ = _described(exc)
    metadata = {"HTTPStatusCode": status, "RequestId": request_id_in(exc.response)}
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": metadata}
    # Not by its own constructor: some subclasses have another one.
    cleaned = type(exc).__new__(type(exc))
    exceptions.ClientError.__init__(cleaned, response, exc.operation_name)
    return cleaned


def _described(exc: ClientError) -> tuple[int, str, str]:
    status = _part(exc.response, "ResponseMetadata").get("HTTPStatusCode", 0)
    code = code_in(exc.response) or "an unreadable code"
    return status, code, f"{exc.operation_name}: {code}, HTTP {status}, AWS request id {request_id_in(exc.response)}"


def _part(response: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = response.get(name)
    return part if isinstance(part, Mapping) else {}


def _plain(value: object, pattern: str) -> str | None:
    # Of an XML element, botocore makes a string, a dict, or None. And what stands in for AWS may quote the request,
    # with its signature, wherever it likes.
    return value if isinstance(value, str) and re.fullmatch(pattern, value) else None
