"""What a SearchAgreements call asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .failures import RefusedError, invalid
from .filters import CHAIN, LICENSE, PARTY, TIMES, matches, read_filters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .agreements import Agreement
    from .parameters import Parameters


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched for, and how it is sorted.

    Attributes:
        filters: The value of each filter.
        sorted_by: The time that it is sorted by.
        is_descending: Whether the latest comes first.
    """

    filters: Mapping[str, str]
    sorted_by: str
    is_descending: bool

    @classmethod
    def read(cls, parameters: Parameters) -> Search:
        """Read it out of a call.

        Raises:
            RefusedError: AWS does not accept it.
        """
        catalog, sort = parameters.text("catalog"), parameters.structure("sort")
        if catalog not in (None, "AWSMarketplace"):
            raise RefusedError(invalid("INVALID_CATALOG", "catalog", "The catalog must be AWSMarketplace"))
        filters = read_filters(parameters)
        sorted_by = (sort.text("sortBy") if sort else None) or "EndTime"
        order = (sort.text("sortOrder") if sort else None) or "ASCENDING"
        if sorted_by not in TIMES or (sorted_by != "EndTime" and filters[PARTY] == "Acceptor"):
            raise RefusedError(invalid("INVALID_SORT_BY", "sortBy", f"{sorted_by} is not supported"))
        if order not in ("ASCENDING", "DESCENDING"):
            raise RefusedError(invalid("INVALID_SORT_ORDER", "sortOrder", f"{order} is not supported"))
        return cls(filters, sorted_by, order == "DESCENDING")

    @property
    def text(self) -> str:
        """The same for all pages of an answer, whatever their size."""
        return json.dumps([self.filters, self.sorted_by, self.is_descending], sort_keys=True)

    @property
    def names_agreement(self) -> bool:
        """Whether it asks for the agreements of one subscription."""
        return not self.filters.keys().isdisjoint({LICENSE, CHAIN})

    def find(self, agreements: list[Agreement], caller: str) -> list[Agreement]:
        """Give those that match.

        Args:
            agreements: All that there are.
            caller: The AWS account that searches, in those that it has proposed or accepted.
        """
        if self.filters[PARTY] == "Acceptor":
            parties = [agreement for agreement in agreements if agreement.account_id == caller]
        else:
            parties = [agreement for agreement in agreements if agreement.proposer_id == caller]
        found = [agreement for agreement in parties if self._matches(agreement)]
        return sorted(found, key=self._position, reverse=self.is_descending)

    def _matches(self, agreement: Agreement) -> bool:
        return all(matches(agreement, name, value) for name, value in self.filters.items() if name != PARTY)

    def _position(self, agreement: Agreement) -> datetime:
        # An agreement without end date ends after all others.
        return TIMES[self.sorted_by](agreement) or datetime.max.replace(tzinfo=UTC)
