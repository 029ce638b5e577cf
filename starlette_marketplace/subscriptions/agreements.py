"""`Agreement`: what buyer and seller have agreed on, and the answer of DescribeAgreement that it is read from."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .answers import moment, part, required_moment, required_text, text

logger: logging.Logger = logging.getLogger("starlette_marketplace")

# The pattern and the length of AWS's model.
_ID = re.compile("[A-Za-z0-9_/-]{1,64}")
_STATUS = re.compile("[A-Za-z0-9_-]{1,64}")
_KNOWN = frozenset(
    {
        "ACTIVE",
        "ARCHIVED",
        "CANCELLED",
        "EXPIRED",
        "RENEWED",
        "REPLACED",
        "ROLLED_BACK",
        "SUPERSEDED",
        "TERMINATED",
    }
)
_OVER = frozenset({"CANCELLED", "EXPIRED", "TERMINATED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What buyer and seller have agreed on. It is the only state that a pay-as-you-go product has at AWS.

    https://docs.aws.amazon.com/marketplace/latest/APIReference/API_marketplace-agreements_DescribeAgreement.html

    All times are aware, UTC.

    Attributes:
        id: The agreement id.
        status: AWS's own word, such as `ACTIVE`, `CANCELLED`, or `RENEWED` and `REPLACED`, which have a successor. A
            word that this package does not know stays as it is.
        aws_account_id: The AWS account of the buyer.
        product_id: The product id (`prod-...`), which is not the product code.
        starts_at: When it takes effect.
        ends_at: When it ends or renews; None for what has no end, such as pay as you go.
        accepted_at: When the buyer accepted it.
        free_trial_ends_at: When its free trial ends; None when it has none, or with a botocore before 1.44.0.
        initial_id: The first agreement of the chain that this one continues; None when AWS or an old botocore leaves it
            out.
        auto_renews: Whether it renews by itself at its end; None when AWS or an old botocore leaves it out.
    """

    id: str
    status: str
    aws_account_id: str
    product_id: str
    starts_at: datetime
    ends_at: datetime | None
    accepted_at: datetime
    free_trial_ends_at: datetime | None
    initial_id: str | None
    auto_renews: bool | None

    @property
    def is_over(self) -> bool:
        """Whether nothing follows it: it was canceled, terminated, or has expired.

        One that was renewed or replaced is not over: its successor goes on.
        """
        return self.status in _OVER


def check_agreement_id(agreement_id: object) -> str:
    """The agreement id, once it can be one.

    Raises:
        ValueError: It cannot. Customers of legacy products have none.
    """
    if not (isinstance(agreement_id, str) and _ID.fullmatch(agreement_id)):
        raise ValueError("agreement_id must be 1 to 64 letters, digits, '_', '/' and '-', and not None")
    return agreement_id


def agreement_of(answer: Mapping[str, Any], agreement_id: str) -> Agreement:
    """The agreement in an answer about `agreement_id`.

    Raises:
        ValueError: The answer lacks something, cannot be read, or is about another agreement.
    """
    if required_text(answer, "agreementId") != agreement_id:
        raise ValueError("it is about another agreement")
    ending = text(part(answer, "endTimeBehavior"), "type")
    return Agreement(
        id=agreement_id,
        status=_status(answer),
        aws_account_id=required_text(part(answer, "acceptor"), "accountId"),
        product_id=_product_id(part(answer, "proposalSummary").get("resources")),
        starts_at=required_moment(answer, "startTime"),
        ends_at=moment(answer, "endTime"),
        accepted_at=required_moment(answer, "acceptanceTime"),
        free_trial_ends_at=moment(part(answer, "freeTrialSummary"), "trialEndTime"),
        initial_id=text(answer, "initialAgreementId"),
        auto_renews=None if ending is None else ending == "RENEW",
    )


def _status(answer: Mapping[str, Any]) -> str:
    status = required_text(answer, "status")
    if not _STATUS.fullmatch(status):
        raise ValueError("status is not a word")
    if status not in _KNOWN:
        logger.warning(
            "AWS gave an agreement the status %s, which this version does not know: it counts neither as active nor as "
            "over",
            status,
            extra={"status": status},
        )
    return status


def _product_id(resources: object) -> str:
    if isinstance(resources, list) and resources and isinstance(resources[0], Mapping):
        return required_text(resources[0], "id")
    raise ValueError("resources are missing")
