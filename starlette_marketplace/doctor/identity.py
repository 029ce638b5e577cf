"""Who calls AWS Marketplace, and whether AWS allows it: credentials, role, account, permission.

AWS is asked two things: the caller's identity, and the customer of a token that was made up.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from .. import errors
from ..aws_errors import call_error_of, code_in, lookup_error_of
from ..aws_session import freeze, look_up_credentials, make_sessions
from ..customer import masked
from ..keys import is_aws
from ..registration.resolver import _customer
from .case import Case
from .connection import bounded
from .findings import Verdict, ok, problem, skipped, warning


def check_credentials(case: Case) -> Iterator[Verdict]:
    """Whether there are credentials, and whole ones."""
    credentials = case.ask(lambda: look_up_credentials(case.session, case.session))
    frozen = case.ask(lambda: freeze(credentials))
    access_key = str(frozen.access_key)
    if access_key.startswith("ASIA") and not frozen.token:
        raise errors.CredentialsError(
            "The AWS credentials are temporary, and their session token is missing.",
            "Set AWS_SESSION_TOKEN (in a file: aws_session_token) along with the two keys.",
        )
    # Only what surely is the id and not the secret key in its place.
    is_id = re.fullmatch("A[A-Z]IA[A-Z0-9]{12,}", access_key)
    key = f", access key id ending in {access_key[-4:]}" if is_id else ""
    yield ok(f"AWS credentials were found ({credentials.method}{key}).")


def check_role(case: Case) -> Iterator[Verdict]:
    """Whether the role that is to call AWS Marketplace can be assumed."""
    role_arn = case.settings.role_arn
    if role_arn is None:
        case.caller = case.session
        yield skipped("role_arn is not set, so your app assumes no role.")
        return
    _, case.caller, _ = case.ask(lambda: make_sessions(bounded(case.settings)))
    credentials: Any = case.caller.get_credentials()
    case.ask(credentials.get_frozen_credentials, error_of=lookup_error_of)
    name, account = role_arn.partition("/")[2], masked(role_arn.split(":")[4])
    yield ok(f"The role {name} of account {account} can be assumed.")


def check_account(case: Case) -> Iterator[Verdict]:
    """Whether AWS accepts the credentials, and whether they are those of the seller."""
    expected = case.settings.seller_account_id
    try:
        sts: Any = case.ask(lambda: case.caller.create_client("sts", region_name=case.region))
        if not is_aws(case.endpoint) and (urlsplit(sts.meta.endpoint_url).hostname or "").endswith(_AWS):
            yield skipped("Only the calls to AWS Marketplace go elsewhere, so AWS's own STS was not asked.")
            return
        answer = case.ask(sts.get_caller_identity)
    except errors.CredentialsError:
        raise
    except errors.MarketplaceError as error:
        yield warning(
            f"STS did not say whose account it is. {error.reason}",
            "Allow GetCallerIdentity, or make sure yourself that it is the account that published the product.",
        )
        return
    case.note_date(answer)
    account, caller = answer.get("Account", ""), answer.get("Arn", "").split(":", 5)[-1]
    made_from = f"The calls are made from account {masked(account)}, by {caller}"
    if not account:
        yield warning("STS did not say whose account it is.", "See endpoint: is it AWS that answers?")
    elif "seller_account_id" in case.invalid:
        yield skipped(f"{made_from}. Whether it is the seller's needs a valid seller_account_id: see settings.")
    elif expected is None:
        yield warning(
            f"{made_from}, and doctor does not know whether it is the account that published the product.",
            "Set seller_account_id to that account. From any other, AWS refuses every registration token.",
        )
    elif account != expected:
        yield problem(
            f"{made_from}, not from the seller account {masked(expected)}: AWS will refuse every registration token.",
            "Give your app credentials of the account that published the product, or a role_arn; or correct "
            "seller_account_id.",
        )
    else:
        yield ok(f"The calls are made from the seller account, {masked(account)}, by {caller}.")


_AWS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws")


def check_permission(case: Case) -> Iterator[Verdict]:
    """Whether AWS lets the caller resolve customers."""
    url = case.settings.endpoint_url
    client: Any = case.ask(
        lambda: case.caller.create_client("meteringmarketplace", region_name=case.region, endpoint_url=url)
    )
    try:
        # Something has answered, if what failed has no known class: all that is before the answer has been checked.
        answered = functools.partial(call_error_of, is_answered=True)
        case.ask(lambda: _customer(client.resolve_customer(RegistrationToken=case.token)), error_of=answered)
    except errors.TokenError as error:
        yield _judge_refusal(code_in(getattr(error.__cause__, "response", {})), case.endpoint)
        return
    except errors.ThrottledError as error:
        yield warning(error.reason, "AWS accepts the credentials; run doctor again in a minute for the rest.")
        return
    except errors.IncompleteAnswerError:
        pass  # An answer that is not an error, and so as good as that of a customer.
    yield problem(
        "A made-up token was taken for that of a customer, so it is not AWS that answers.",
        "See endpoint: anyone who posts a token will be let in.",
    )


def _judge_refusal(code: str | None, endpoint: str) -> Verdict:
    if not is_aws(endpoint):
        return ok("What stands in for AWS refused a made-up token, which proves nothing about AWS.")
    if code != "InvalidTokenException":
        return warning(
            f"AWS answered a made-up token with {code}, which does not prove the permission.",
            "Check that a buyer with a real token gets through.",
        )
    return ok("AWS answered a made-up token with InvalidTokenException: signature, permission and region are right.")
