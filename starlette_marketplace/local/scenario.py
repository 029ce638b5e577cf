"""One way in which things go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .answers import say
from .products import ANALYTICS, Product

if TYPE_CHECKING:
    from .answers import Answer


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way in which setting up an account goes, and reading what the buyer may use afterwards.

    Attributes:
        slug: Its name in code.
        title: Its name for people.
        summary: One sentence on what will happen.
        product: What the buyer subscribed to.
        free_trial: Whether the form says that the offer is a free trial.
        answer: How ResolveCustomer answers.
        first_answer: How it answers the first call for a token, where that differs.
        delay: Seconds that it takes to answer.
        entitlements_answer: How GetEntitlements answers when it is asked about this subscription alone.
        entitlements_on_a_page: At most so many entitlements are on a page of such an answer.
        has_empty_pages: Whether a page without any comes before each of its pages.
        agreement_answer: How DescribeAgreement answers.
        agreement_status: The status that the agreement has at first.
        is_resold: Whether a partner has sold the product, so that the agreement is not the seller's to read.
        is_pending: Whether the license becomes active only after the buyer has come.
        is_subscription: Whether it is one of the subscriptions that buyers have, and not one of the worse days.
    """

    slug: str
    title: str
    summary: str
    product: Product = ANALYTICS
    free_trial: bool = False
    answer: Answer = say
    first_answer: Answer | None = None
    delay: float = 0.0
    entitlements_answer: Answer = say
    entitlements_on_a_page: int = 25
    has_empty_pages: bool = False
    agreement_answer: Answer = say
    agreement_status: str = "ACTIVE"
    is_resold: bool = False
    is_pending: bool = False
    is_subscription: bool = False

    @property
    def can_be_bought_again(self) -> bool:
        """Whether another agreement would be told from the first: by its license, which legacy products have not."""
        return self.is_subscription and not self.product.legacy and not self.free_trial

    @property
    def resolves(self) -> bool:
        """Whether AWS confirms the token, in the end and with all that it knows of the buyer."""
        return self.answer is say
