"""Whether the app may read what comes after a registration: entitlements and agreements.

AWS is asked about a license and an agreement that cannot exist, so that it tells of no customer. Without a filter,
GetEntitlements would tell of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .. import errors
from ..aws_client import Client
from ..aws_errors import code_in
from ..aws_services import AGREEMENTS, ENTITLEMENTS, METERING, Service
from ..aws_session import place_of
from ..keys import is_aws
from .case import Case
from .configuration import is_product_id
from .connection import host_of, warn_of_stand_in
from .findings import Verdict, ok, skipped, warning

_LICENSE = f"arn:aws:license-manager::{'0' * 12}:license:l-{'0' * 32}"
_AGREEMENT = "agmt-of-starlette-marketplace-doctor"
_LOST = {
    ENTITLEMENTS: "Your app cannot read the plan and the end of a contract; registrations go on without them.",
    AGREEMENTS: "Your app cannot read the status and the dates of an agreement; registrations go on without them.",
}


def check_entitlements(case: Case) -> Iterator[Verdict]:
    """Whether AWS lets the caller read the entitlements of each product."""
    codes = [code for code in case.settings.product_codes if code != "*" and not is_product_id(code)]
    if not codes:
        yield skipped("product_codes has no product code to ask for: see product_codes.")
        return
    reader, readable = _Reader(case, ENTITLEMENTS), []
    for code in codes:
        try:
            answer = reader.ask(_entitlements_of_nobody(code))
        except errors.MarketplaceError as error:
            if _code_of(error) in {"InvalidParameterException", "ValidationException"}:
                yield warning(
                    f"{error.reason} The product code was {code}, and the license was made up.",
                    f"Check that {code} is on the page of one of your products in the AWS Marketplace Management "
                    "Portal, in the account that the calls are made from: see account.",
                )
                continue
            # All others would meet the same.
            yield reader.explain(error)
            break
        if answer.get("Entitlements"):
            yield reader.doubt("A made-up license has entitlements")
            break
        readable.append(code)
    if readable:
        yield reader.judge(f"AWS answered that a made-up license of {', '.join(readable)} has no entitlements")


def check_agreements(case: Case) -> Iterator[Verdict]:
    """Whether AWS lets the caller read agreements."""
    reader = _Reader(case, AGREEMENTS)
    try:
        reader.ask(lambda agreements: agreements.describe_agreement(agreementId=_AGREEMENT))
    except errors.AgreementNotFoundError as error:
        yield reader.judge(f"AWS answered a made-up agreement id with {_code_of(error)}")
    except errors.AccessDeniedError as error:
        status, message, advice = reader.explain(error)
        # The advice ends with products that a partner has resold.
        yield Verdict(status, message, f"{advice} Entitlements are enough there.")
    except errors.MarketplaceError as error:
        yield reader.explain(error)
    else:
        yield reader.doubt("A made-up id has an agreement")


class _Reader:
    """Asks one service, where the app would ask it."""

    def __init__(self, case: Case, service: Service) -> None:
        self._case = case
        self._service = service
        # They are never refreshed by it: the clients have those of the session.
        credentials: Any = case.caller.get_credentials()
        self._client = Client(self._make, credentials, None)
        self._endpoint = ""

    def ask(self, call: Callable[[Any], Mapping[str, Any]]) -> Mapping[str, Any]:
        """What `call` gives.

        Raises:
            MarketplaceError: It failed, or took too long.
        """
        return self._case.ask(lambda: self._client.ask(call, self._service))

    def judge(self, message: str) -> Verdict:
        """What a right answer proves."""
        if is_aws(self._endpoint):
            return ok(f"{message}: the permission is right.")
        if is_aws(self._case.endpoint):
            return warn_of_stand_in(self._service, self._endpoint)
        return ok("What stands in for AWS answered as AWS would, which proves nothing about AWS.")

    def doubt(self, message: str) -> Verdict:
        """What an answer means that AWS would not give."""
        return warning(
            f"{message}, so it is not AWS that answers at {host_of(self._endpoint)}.", self._advice("Remove or correct")
        )

    def explain(self, error: errors.MarketplaceError) -> Verdict:
        """What it means that there is no answer. None of it keeps a buyer out."""
        if isinstance(error, errors.RegionError):
            return skipped(error.reason)
        reason, advice = error.reason, error.advice
        if _code_of(error) == "UnknownOperationException":
            operation = getattr(error.__cause__, "operation_name", "")
            reason = f"What answers at {host_of(self._endpoint)} does not know {operation}."
            advice = self._advice("Upgrade what stands in for AWS there, or correct")
        return warning(f"{reason} {_LOST[self._service]}", advice)

    def _advice(self, what_to_do: str) -> str:
        setting = self._service.setting
        return f"{what_to_do} {setting} (MARKETPLACE_{setting.upper()}) or {self._service.variable}."

    def _make(self, service: Service) -> Any:
        if service is METERING:
            return self._case.metering
        case = self._case
        named, region, _ = place_of(service, case.session, case.region, case.settings)
        made: Any = case.caller.create_client(service.name, region_name=region, endpoint_url=named)
        self._endpoint = str(made.meta.endpoint_url)
        return made


def _entitlements_of_nobody(code: str) -> Callable[[Any], Mapping[str, Any]]:
    request = {"ProductCode": code, "Filter": {"LICENSE_ARN": [_LICENSE]}, "MaxResults": 1}
    return lambda entitlements: entitlements.get_entitlements(**request)


def _code_of(error: errors.MarketplaceError) -> str | None:
    """The code that AWS answered with."""
    return code_in(getattr(error.__cause__, "response", {}))
