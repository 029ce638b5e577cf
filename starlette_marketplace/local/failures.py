"""The errors that AWS answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as AWS answers it.

    Attributes:
        code: Its `__type`.
        message: What it says.
        status: The HTTP status.
        members: What it says in further members.
    """

    code: str
    message: str
    status: int = 400
    members: Mapping[str, object] = field(default_factory=dict)


class RefusedError(Exception):
    """A call cannot be answered; it never leaves the marketplace.

    Attributes:
        failure: What AWS answers instead.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure: Failure = failure


TOO_LARGE = Failure("RequestEntityTooLargeException", "The request is a megabyte or more, or tells no length", 413)
UNKNOWN_OPERATION = Failure("UnknownOperationException", "The requested operation is not recognized by the service.")
NOT_SIGNED = Failure("MissingAuthenticationTokenException", "Missing Authentication Token", 403)

INVALID_TOKEN = Failure("InvalidTokenException", "Registration token is invalid")
# The text that AWS really sends for an expired registration token is unknown: this one is ours.
EXPIRED_TOKEN = Failure("ExpiredTokenException", "The submitted registration token has expired")
NO_TOKEN = Failure(
    "ValidationException",
    "1 validation error detected: Value at 'registrationToken' failed to satisfy constraint: Member must not be empty",
)
THROTTLED = Failure("ThrottlingException", "Rate exceeded")
INTERNAL_ERROR = Failure("InternalServiceErrorException", "An internal error has occurred", 500)

# The Agreement API has names and statuses of its own. Its texts are unknown: these are ours.
AGREEMENT_THROTTLED = Failure("ThrottlingException", "Rate exceeded", 429)
AGREEMENT_INTERNAL_ERROR = Failure("InternalServerException", "An internal error has occurred", 500)
AGREEMENT_DENIED = Failure(
    "AccessDeniedException", "The caller is neither the proposer nor the acceptor of the agreement", 403
)


def not_json(operation: str) -> Failure:
    """A body that is not what the operation takes."""
    return Failure("SerializationException", f"The request body is not the JSON of {operation}")


def wrong_service(name: str) -> Failure:
    """A signature for another service than the one with this name."""
    return Failure("InvalidSignatureException", f"Credential should be scoped to correct service: '{name}'. ")


def invalid_parameter(message: str) -> Failure:
    """What GetEntitlements does not accept."""
    return Failure("InvalidParameterException", message)


def invalid(reason: str, name: str, message: str) -> Failure:
    """What the Agreement API does not accept.

    Args:
        reason: One of AWS's words for it.
        name: The member that is wrong.
        message: What is wrong with it.
    """
    fields = [{"name": name, "message": message}]
    return Failure("ValidationException", message, 400, {"reason": reason, "fields": fields})


def no_agreement(agreement_id: str) -> Failure:
    """An agreement that the Agreement API does not know."""
    members = {"resourceId": agreement_id, "resourceType": "Agreement"}
    return Failure("ResourceNotFoundException", "The agreement does not exist", 404, members)
