"""What AWS says: one read-only call to STS and one to AWS Marketplace Metering, with the host's own credentials."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .. import errors
from ..aws_errors import call_error_of
from ..customer import masked
from ..registration.resolver import _customer
from .aws import Aws, code_of, is_aws, reason_of, told
from .credentials import check_credentials, check_role
from .findings import Finding, Status, ok, problem, skipped, warning

if TYPE_CHECKING:
    from botocore.session import Session

_ALLOW = '{"Effect": "Allow", "Action": "aws-marketplace:ResolveCustomer", "Resource": "*"}'


def check_calls(aws: Aws, own: Session, region: str, endpoint: str, token: str) -> Iterator[Finding]:
    """Whose credentials they are, and whether AWS lets them resolve customers."""
    found = check_credentials(aws, own)
    yield found
    if found.status is Status.PROBLEM:
        yield from _skip_calls("role", "account", "permission", reason="There are no credentials to ask with.")
        return
    caller, found = check_role(aws, own)
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
    yield _check_permission(aws, caller, region, endpoint, token)


def _skip_calls(*checks: str, reason: str) -> Iterator[Finding]:
    return (skipped(check, reason) for check in checks)


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


def _check_permission(aws: Aws, caller: Session, region: str, endpoint: str, token: str) -> Finding:
    check, url = "permission", aws.settings.endpoint_url
    try:
        metering = aws.ask(lambda: caller.create_client("meteringmarketplace", region_name=region, endpoint_url=url))
        # Something has answered, if what failed has no known class: all that is before the answer has been checked.
        aws.ask(
            lambda: _customer(metering.resolve_customer(RegistrationToken=token)),
            error_of=functools.partial(call_error_of, is_answered=True),
        )
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
