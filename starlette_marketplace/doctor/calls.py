"""What AWS says: one read-only call to STS and one to AWS Marketplace Metering, with the host's own credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .. import errors
from ..customer import masked
from ..resolver import AwsResolver, make_sessions
from .aws import Aws, code_of, is_aws, reason_of, told
from .findings import Finding, Status, ok, problem, skipped, warning

if TYPE_CHECKING:
    from botocore.session import Session

_ALLOW = '{"Effect": "Allow", "Action": "aws-marketplace:ResolveCustomer", "Resource": "*"}'
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


def check_calls(aws: Aws, own: Session, region: str, endpoint: str, token: str) -> Iterator[Finding]:
    """Whose credentials they are, and whether AWS lets them resolve customers."""
    found = _check_credentials(aws, own)
    yield found
    if found.status is Status.PROBLEM:
        yield from _skip_calls("role", "account", "permission", reason="There are no credentials to ask with.")
        return
    caller, found = _check_role(aws, own)
    yield found
    if found.status is Status.PROBLEM:
        yield from _skip_calls("account", "permission", reason="There are no credentials of the role to ask with.")
        return
    try:
        yield _check_account(aws, caller, region, endpoint)
    except errors.CredentialsError as error:
        yield problem(
            "account",
            f"AWS does not accept the credentials ({reason_of(error)}).",
            "Renew or correct them; a wrong clock makes for this too: see clock.",
        )
        yield skipped("permission", "AWS does not accept the credentials.")
        return
    yield _check_permission(aws, token, endpoint)


def _skip_calls(*checks: str, reason: str) -> Iterator[Finding]:
    return (skipped(check, reason) for check in checks)


def _check_credentials(aws: Aws, session: Session) -> Finding:
    try:
        credentials = aws.ask(session.get_credentials)
        frozen = aws.ask(credentials.get_frozen_credentials) if credentials else None
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


def _check_role(aws: Aws, own: Session) -> tuple[Session, Finding]:
    """The session that calls AWS Marketplace, and what was found of the role in it."""
    check, role_arn = "role", aws.settings.role_arn
    if role_arn is None:
        return own, skipped(check, "role_arn is not set, so there is none to assume.")
    role = role_arn.partition("/")[2]
    try:
        _, caller, _ = aws.ask(lambda: make_sessions(aws.settings))
        aws.ask(lambda: caller.get_credentials().get_frozen_credentials())
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


def _check_account(aws: Aws, caller: Session, region: str, endpoint: str) -> Finding:
    check, expected = "account", aws.settings.seller_account_id
    try:
        sts = aws.ask(lambda: caller.create_client("sts", region_name=region))
        if is_aws(sts.meta.endpoint_url) and not is_aws(endpoint):
            return skipped(check, "Only the calls to AWS Marketplace go elsewhere, so AWS's own STS was not asked.")
        answer = aws.ask(sts.get_caller_identity)
        account, who = answer.get("Account", ""), answer.get("Arn", "").split(":", 5)[-1]
    except errors.CredentialsError:
        raise
    except errors.MarketplaceError as error:
        return warning(
            check,
            f"STS did not say whose account it is ({reason_of(error)}).",
            "Let GetCallerIdentity of STS through, or make sure by yourself that it is the account that published the "
            "product.",
        )
    aws.note_date(answer, "GetCallerIdentity")
    if not account:
        return warning(check, "STS did not say whose account it is.", "See endpoint: is it AWS that answers?")
    if expected is None:
        return warning(
            check,
            f"The calls are made from account {masked(account)}, by {who}, and nothing says whether that is the "
            "account that published the product.",
            "Set seller_account_id to that account. From another one AWS takes every registration token for invalid.",
        )
    if account != expected:
        return problem(
            check,
            f"The calls are made from account {masked(account)}, by {who}, and not from the seller account "
            f"{masked(expected)}: AWS will take every registration token for invalid.",
            "Give the host credentials of the account that published the product, or name a role of it in role_arn; or "
            "correct seller_account_id.",
        )
    return ok(check, f"The calls are made from the seller account, {masked(account)}, by {who}.")


def _check_permission(aws: Aws, token: str, endpoint: str) -> Finding:
    check = "permission"
    try:
        aws.ask(lambda: AwsResolver(aws.settings).resolve(token))
    except errors.TokenError as error:
        return _judge_refusal(code_of(error), endpoint)
    except errors.AccessDeniedError as error:
        return problem(
            check,
            f"The credentials may not resolve customers ({reason_of(error)}).",
            f"Attach a policy with this statement: {_ALLOW}. If one is there, look for a permissions boundary or a "
            "service control policy that denies it.",
        )
    except errors.ThrottledError as error:
        return warning(
            check,
            f"AWS limits the rate of the calls ({reason_of(error)}).",
            "AWS knows the credentials; run doctor again in a minute for the rest.",
        )
    except errors.IncompleteAnswerError:
        pass  # An answer that is not an error, and so as good as that of a customer.
    except errors.MarketplaceError as error:
        return problem(check, *told(error))
    return problem(
        check,
        "A made-up token was taken for that of a customer, so it is not AWS that answers.",
        "See endpoint: whoever posts a token will be let in.",
    )


def _judge_refusal(code: str, endpoint: str) -> Finding:
    check = "permission"
    if not is_aws(endpoint):
        return ok(check, "What stands in for AWS refused a made-up token, which proves nothing of AWS.")
    if code != "InvalidTokenException":
        return warning(
            check,
            f"AWS answered a made-up token with {code}, which does not prove the permission.",
            "Look whether a buyer with a real token gets through.",
        )
    return ok(
        check,
        "AWS answered a made-up token with InvalidTokenException: the signature, the permission and the region are "
        "right.",
    )
