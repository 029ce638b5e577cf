"""The filters of a SearchAgreements call."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from .agreements import OVER, Agreement, license_id_of
from .failures import RefusedError, invalid
from .parameters import Parameters
from .summaries import AGREEMENT_TYPE, RESOURCE_TYPE, end_behavior

MOST_FILTERS = 10
"""How many filters a call has at most."""

PARTY = "PartyType"
"""The filter that says whether the caller has proposed or accepted what is searched."""

LICENSE = "LicenseArn"
"""The filter for the agreements that have a license."""

CHAIN = "InitialAgreementId"
"""The filter for all agreements of a chain."""

TIMES: Mapping[str, Callable[[Agreement], datetime | None]] = {
    "EndTime": lambda agreement: agreement.ends_at,
    "StartTime": lambda agreement: agreement.starts_at,
    "LastUpdateTime": lambda agreement: agreement.updated_at,
}
"""The times of an agreement that can be searched for and sorted by."""

_TYPE = "AgreementType"
_WORDS = {
    PARTY: {"Proposer", "Acceptor"},
    _TYPE: {AGREEMENT_TYPE},
    "ResourceType": {
        "AmiProduct",
        "ContainerProduct",
        "MachineLearningProduct",
        "ProfessionalServicesProduct",
        RESOURCE_TYPE,
    },
    "Status": OVER | {"ACTIVE"},
    "EndTimeBehaviorType": {"RENEW", "REPLACE", "EXPIRE"},
    "EndTimeBehaviorReasonCode": {
        "PROPOSER_RENEW_OPTED_OUT",
        "ACCEPTOR_RENEW_OPTED_OUT",
        "NO_RENEWAL_TERM",
        "RENEWAL_LIMIT_EXHAUSTED",
    },
    "IncludesContactOfType": {"ACCEPTOR"},
}
_TEXTS: Mapping[str, Callable[[Agreement], str | None]] = {
    _TYPE: lambda _: AGREEMENT_TYPE,
    "ResourceIdentifier": lambda agreement: agreement.product.id,
    "ResourceType": lambda _: RESOURCE_TYPE,
    "AcceptorAccountId": lambda agreement: agreement.account_id,
    "OfferId": lambda agreement: agreement.offer_id,
    "OfferSetId": lambda _: None,
    "Status": lambda agreement: agreement.status,
    "EndTimeBehaviorType": lambda agreement: (end_behavior(agreement) or (None, None))[0],
    "EndTimeBehaviorReasonCode": lambda agreement: (end_behavior(agreement) or (None, None))[1],
    CHAIN: lambda agreement: agreement.initial_id,
    "IncludesContactOfType": lambda _: None,
}
_DATED = {f"{when}{name}": name for when in ("Before", "After") for name in TIMES}
_NAMES = {PARTY, LICENSE, *_TEXTS, *_DATED}
_VALUE = re.compile("[A-Za-z0-9.,+:/_-]{1,256}")

# What a buyer can combine with the type, apart from end dates.
_ACCEPTOR_COMBINATIONS: tuple[set[str], ...] = (
    set(),
    {"Status"},
    {"ResourceIdentifier"},
    {"ResourceIdentifier", "Status"},
    {"ResourceType"},
    {"OfferId"},
    {"OfferId", "Status"},
    {"OfferSetId"},
    {"OfferSetId", "Status"},
)


def read_filters(parameters: Parameters) -> dict[str, str]:
    """Read the filters of a call, each with its value.

    Raises:
        RefusedError: AWS does not accept them.
    """
    filters: dict[str, str] = {}
    given = parameters.structures("filters")
    if len(given) > MOST_FILTERS:
        raise RefusedError(invalid("INVALID_FILTERS", "filters", f"There must be at most {MOST_FILTERS} filters"))
    for each in given:
        name, values = each.text("name"), each.texts("values")
        if not name:
            raise RefusedError(invalid("MISSING_FILTER_NAME", "name", "A filter must have a name"))
        if name not in _NAMES:
            raise RefusedError(invalid("INVALID_FILTER_NAME", "name", f"The filter {name} is not supported"))
        if name in filters:
            raise RefusedError(invalid("INVALID_FILTERS", "filters", f"The filter {name} is there twice"))
        if not values:
            raise RefusedError(invalid("MISSING_FILTER_VALUES", "values", f"The filter {name} must have a value"))
        if len(values) > 1 or not _is_value(name, values[0]):
            raise RefusedError(
                invalid("INVALID_FILTER_VALUES", "values", f"The filter {name} must have one supported value")
            )
        filters[name] = values[0]
    _check_combination(filters)
    return filters


def _is_value(name: str, value: str) -> bool:
    if name in _WORDS:
        return value in _WORDS[name]
    return bool(_VALUE.fullmatch(value)) and (name not in _DATED or _read_time(value) is not None)


def _check_combination(filters: Mapping[str, str]) -> None:
    if PARTY not in filters:
        raise RefusedError(invalid("MISSING_PARTY_TYPE", "filters", f"The filter {PARTY} is required"))
    if _TYPE not in filters:
        raise RefusedError(invalid("INVALID_FILTERS", "filters", f"The filter {_TYPE} is required"))
    if filters[PARTY] == "Acceptor":
        others = filters.keys() - {PARTY, _TYPE, "BeforeEndTime", "AfterEndTime"}
        if others not in _ACCEPTOR_COMBINATIONS:
            raise RefusedError(
                invalid("UNSUPPORTED_FILTERS", "filters", "This combination of filters is not supported for Acceptor")
            )


def matches(agreement: Agreement, name: str, value: str) -> bool:
    """Whether an agreement is what a filter other than the party asks for."""
    if name == LICENSE:
        return agreement.license_arn is not None and license_id_of(agreement.license_arn) == license_id_of(value)
    if name in _TEXTS:
        return _TEXTS[name](agreement) == value
    moment, limit = TIMES[_DATED[name]](agreement), _read_time(value)
    if moment is None or limit is None:
        return False
    return moment < limit if name.startswith("Before") else moment > limit


def _read_time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
