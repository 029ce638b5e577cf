"""What can go wrong when the seller reads what a buyer may use; the token itself resolves well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .answers import (
    refuse,
    say_nulls,
    say_rows,
    say_this,
    send_nothing,
    show_page,
    stay_silent,
    stop_half_way,
)
from .failures import (
    AGREEMENT_INTERNAL_ERROR,
    AGREEMENT_THROTTLED,
    INTERNAL_ERROR,
    THROTTLED,
    Failure,
    invalid,
    invalid_parameter,
    no_agreement,
)
from .scenario import Scenario
from .wire import AwsJsonResponse

if TYPE_CHECKING:
    from starlette.responses import Response

    from .answers import Answer, Members

_ROWS = "Entitlements"


def _rows_with(**others: object) -> Answer:
    return say_rows(_ROWS, lambda row: {**row, **others})


def _do_not_know(agreement: Members) -> Response:
    return AwsJsonResponse.of_failure(no_agreement(str(agreement["agreementId"])))


_ENTITLEMENTS = (
    Scenario(
        "not-yet-entitled",
        "Not yet entitled",
        "There are no entitlements until the license becomes active, 20 seconds after the buyer has arrived.",
        is_pending=True,
    ),
    Scenario(
        "entitlements-throttled",
        "Entitlements: AWS is throttling",
        "AWS answers that you are asking for entitlements too often.",
        entitlements_answer=refuse(THROTTLED),
    ),
    Scenario(
        "entitlements-internal-error",
        "Entitlements: AWS has an internal error",
        "AWS answers that it failed itself when it is asked for entitlements.",
        entitlements_answer=refuse(INTERNAL_ERROR),
    ),
    Scenario(
        "entitlements-access-denied",
        "Entitlements: your app lacks the permission",
        "AWS knows your app's credentials, but no policy allows them to get entitlements.",
        entitlements_answer=refuse(
            Failure(
                "AccessDeniedException",
                "User: arn:aws:iam::444455556666:user/acme is not authorized to perform: "
                "aws-marketplace:GetEntitlements because no identity-based policy allows the "
                "aws-marketplace:GetEntitlements action",
            )
        ),
    ),
    Scenario(
        "entitlements-invalid-parameter",
        "Entitlements: a parameter is invalid",
        "AWS does not accept what your app asks for.",
        entitlements_answer=refuse(invalid_parameter("The request has a parameter that is not valid")),
    ),
    Scenario(
        "entitlements-html-503",
        "Entitlements: a web page with status 503",
        "A load balancer answers for AWS, in HTML and not in JSON.",
        entitlements_answer=show_page("503 Service Temporarily Unavailable", 503),
    ),
    Scenario(
        "entitlements-not-json",
        "Entitlements: a web page with status 200",
        "A proxy answers in the place of AWS, which must not be taken for an answer without entitlements.",
        entitlements_answer=show_page("Log in to this network", 200),
    ),
    Scenario(
        "entitlements-empty-answer",
        "Entitlements: an empty answer",
        "AWS answers with status 200 and not a single byte.",
        entitlements_answer=send_nothing,
    ),
    Scenario(
        "entitlements-hanging-headers",
        "Entitlements: no answer at all",
        "AWS takes the request and never answers, so your app has to give up by itself.",
        entitlements_answer=stay_silent,
    ),
    Scenario(
        "entitlements-hanging-body",
        "Entitlements: half an answer",
        "The headers and one half of the body come, and then nothing more.",
        entitlements_answer=stop_half_way,
    ),
    Scenario(
        "entitlements-other-license",
        "Entitlements: of another license",
        "AWS answers with the entitlements of another license, which your app should not grant.",
        entitlements_answer=_rows_with(
            LicenseArn="arn:aws:license-manager::111122223333:license:l-00000000000000000000000000000000"
        ),
    ),
    Scenario(
        "entitlements-other-account",
        "Entitlements: of another account",
        "AWS answers with the entitlements of another AWS account, which your app should not grant.",
        entitlements_answer=_rows_with(CustomerAWSAccountId="000000000000"),
    ),
    Scenario(
        "entitlements-other-product",
        "Entitlements: of another product",
        "AWS answers with the entitlements of another product, which your app should not grant.",
        entitlements_answer=_rows_with(ProductCode="someoneelse"),
    ),
    Scenario(
        "entitlements-several-pages",
        "Entitlements: several pages",
        "Every entitlement comes on a page of its own, and your app should read them all.",
        entitlements_on_a_page=1,
    ),
    Scenario(
        "entitlements-empty-pages",
        "Entitlements: empty pages",
        "Some pages have no entitlement and a token for the next page, which your app should read.",
        entitlements_on_a_page=1,
        has_empty_pages=True,
    ),
    Scenario(
        "entitlements-no-value",
        "Entitlements: no value",
        "AWS names the dimensions and does not say how much of each.",
        entitlements_answer=_rows_with(Value={}),
    ),
    Scenario(
        "entitlements-nulls",
        "Entitlements: only nulls",
        "AWS answers with entitlements, and every member of them is null.",
        entitlements_answer=say_rows(_ROWS, dict.fromkeys),
    ),
    Scenario(
        "entitlements-unknown-type",
        "Entitlements: an unknown type of value",
        "The values are of a type that AWS has added since, and no SDK knows yet.",
        entitlements_answer=_rows_with(Value={"ListValue": ["eu", "us"]}),
    ),
)

_AGREEMENTS = (
    Scenario(
        "agreement-access-denied",
        "Agreement: a partner has sold it",
        "You are neither the proposer nor the acceptor, so AWS lets your app read entitlements and no agreement.",
        is_resold=True,
    ),
    Scenario(
        "agreement-not-found",
        "Agreement: not found",
        "AWS does not know the agreement that ResolveCustomer has named.",
        agreement_answer=_do_not_know,
    ),
    Scenario(
        "agreement-throttled",
        "Agreement: AWS is throttling",
        "AWS answers with status 429 that you are asking for agreements too often.",
        agreement_answer=refuse(AGREEMENT_THROTTLED),
    ),
    Scenario(
        "agreement-internal-error",
        "Agreement: AWS has an internal error",
        "AWS answers that it failed itself when it is asked for the agreement.",
        agreement_answer=refuse(AGREEMENT_INTERNAL_ERROR),
    ),
    Scenario(
        "agreement-invalid",
        "Agreement: the request is invalid",
        "AWS does not accept what your app asks for.",
        agreement_answer=refuse(invalid("OTHER", "agreementId", "The request is not valid")),
    ),
    Scenario(
        "agreement-html-503",
        "Agreement: a web page with status 503",
        "A load balancer answers for AWS, in HTML and not in JSON.",
        agreement_answer=show_page("503 Service Temporarily Unavailable", 503),
    ),
    Scenario(
        "agreement-hanging-headers",
        "Agreement: no answer at all",
        "AWS takes the request and never answers, so your app has to give up by itself.",
        agreement_answer=stay_silent,
    ),
    Scenario(
        "agreement-unknown-status",
        "Agreement: an unknown status",
        "The agreement has a status that AWS has added since, which your app should not take for an active one.",
        agreement_status="PAUSED",
    ),
    Scenario(
        "agreement-nulls",
        "Agreement: only nulls",
        "AWS answers with the agreement, and every member of it is null.",
        agreement_answer=say_nulls,
    ),
    Scenario(
        "agreement-no-members",
        "Agreement: no members",
        "AWS answers with an agreement that has no member at all.",
        agreement_answer=say_this({}),
    ),
)

READING_TROUBLES = _ENTITLEMENTS + _AGREEMENTS
"""The scenarios in which GetEntitlements or DescribeAgreement fails, for their own subscription alone."""
