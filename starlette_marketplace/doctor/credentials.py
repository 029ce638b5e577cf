"""The AWS credentials that the host has, and the role that it assumes with them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from .. import errors
from ..aws_errors import lookup_error_of
from ..aws_session import make_sessions
from ..customer import masked
from .aws import Aws, told
from .findings import Finding, ok, problem, skipped

if TYPE_CHECKING:
    from botocore.session import Session

_SOURCES = {
    "env": "the environment",
    "shared-credentials-file": "the AWS credentials file",
    "config-file": "the AWS configuration file",
    "custom-process": "the credential_process of a profile",
    "assume-role": "the role of a profile",
    "assume-role-with-web-identity": "a web identity token, as in EKS",
    "container-role": "the container's role (ECS task or EKS Pod Identity)",
    "iam-role": "the EC2 instance's role",
    "sso": "AWS IAM Identity Center (SSO)",
    "login": "aws login",
}
_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")


def check_credentials(aws: Aws, session: Session) -> Finding:
    """Whether there are credentials, and whole ones."""
    try:
        credentials = aws.ask(session.get_credentials, error_of=lookup_error_of)
        frozen = aws.ask(credentials.get_frozen_credentials, error_of=lookup_error_of) if credentials else None
    except errors.MarketplaceError as error:
        return problem("credentials", *told(error))
    if frozen is None:
        return problem(
            "credentials",
            "No AWS credentials were found.",
            "Give the host a role of the seller account, or name a profile in profile_name. In a container, run doctor "
            "in the container.",
        )
    spoilt = [name for name in _VARIABLES if _is_spoilt(name)] if credentials.method == "env" else []
    if spoilt:
        return problem(
            "credentials",
            f"{' and '.join(spoilt)} {'has' if len(spoilt) == 1 else 'have'} white space inside or at an end, and no "
            "key of AWS has: calls fail before they are sent, or AWS refuses them.",
            "Take it out. A secret that was made of a file often ends in a newline.",
        )
    if frozen.access_key.startswith("ASIA") and not frozen.token:
        return problem(
            "credentials",
            "The AWS credentials are temporary ones, and their session token is missing.",
            "Set AWS_SESSION_TOKEN (in a file: aws_session_token) along with the two keys.",
        )
    source = _SOURCES.get(credentials.method, credentials.method)
    # Only what surely is the id and not the secret key in its place.
    is_id = re.fullmatch("A[A-Z]IA[A-Z0-9]{12,}", frozen.access_key)
    key = f", access key id ending in {frozen.access_key[-4:]}" if is_id else ""
    return ok("credentials", f"AWS credentials come from {source}{key}.")


def _is_spoilt(variable: str) -> bool:
    value = os.environ.get(variable, "")
    if variable.endswith("_TOKEN"):
        # It is a header by itself, and what carries a header takes the blanks around it off.
        value = value.strip(" \t")
    return any(character.isspace() for character in value)


def check_role(aws: Aws, own: Session) -> tuple[Session, Finding]:
    """The session that calls AWS Marketplace, and what was found of the role in it."""
    check, role_arn = "role", aws.settings.role_arn
    if role_arn is None:
        return own, skipped(check, "role_arn is not set, so there is none to assume.")
    role = role_arn.partition("/")[2]
    try:
        _, caller, _ = aws.ask(lambda: make_sessions(aws.settings))
        aws.ask(lambda: caller.get_credentials().get_frozen_credentials(), error_of=lookup_error_of)
    except errors.MarketplaceError as error:
        message, advice = told(error)
        if isinstance(error, errors.AccessDeniedError):
            advice = (
                "The trust policy of the role must name the host's own identity and allow it sts:AssumeRole; that "
                "identity needs a policy that allows the same on role_arn; and role_external_id must be the one that "
                "the trust policy asks for."
            )
        return own, problem(check, f"role_arn names the role {role}. {message}", advice)
    return caller, ok(check, f"The role {role} of account {masked(role_arn.split(':')[4])} can be assumed.")
