"""What hosts test with."""

from __future__ import annotations

from collections.abc import Mapping

from .customer import MarketplaceCustomer
from .errors import InvalidTokenError, MarketplaceError


class FakeResolver:
    """A `Resolver` without AWS, for `Marketplace(settings, resolver=FakeResolver({...}))`.

    Args:
        answers: What each token stands for: a customer, or the error that is raised. Other tokens are invalid.

    Attributes:
        calls: The tokens that were asked about, in order.
    """

    def __init__(self, answers: Mapping[str, MarketplaceCustomer | MarketplaceError]) -> None:
        self.answers = dict(answers)
        self.calls: list[str] = []

    def resolve(self, token: str) -> MarketplaceCustomer:
        """The customer of `token`.

        Raises:
            MarketplaceError: The error that `answers` has for it; `InvalidTokenError` when there is nothing.
        """
        self.calls.append(token)
        answer = self.answers.get(token)
        if answer is None:
            raise InvalidTokenError("the fake resolver does not know this token")
        if isinstance(answer, MarketplaceError):
            raise answer
        return answer
