"""What a buyer can arrive with, by name."""

from __future__ import annotations

from .answers import (
    refuse,
    say_this,
    say_without,
    send_nothing,
    show_page,
    stay_silent,
    stop_half_way,
)
from .failures import EXPIRED_TOKEN, INTERNAL_ERROR, INVALID_TOKEN, THROTTLED, Failure
from .products import FORECAST, GATEWAY, PIPELINES, REPORTS
from .reading_troubles import READING_TROUBLES
from .scenario import Scenario

_MEMBERS = ("CustomerIdentifier", "CustomerAWSAccountId", "ProductCode", "LicenseArn", "Metadata")

SUBSCRIPTIONS = (
    Scenario(
        "new-product",
        "New product",
        "The buyer arrives with an account id and a license, as for every new SaaS product.",
        is_subscription=True,
    ),
    Scenario(
        "free-trial",
        "Free trial",
        "The buyer arrives like any other, with a note in the form that this is a free trial.",
        free_trial=True,
        is_subscription=True,
    ),
    Scenario(
        "legacy-product",
        "Legacy product",
        "The buyer arrives with a customer identifier and no license, as for products listed before June 2026.",
        REPORTS,
        is_subscription=True,
    ),
    Scenario(
        "second-agreement",
        "Second agreement",
        "The same AWS account has bought the same product once more: another agreement with a license of its own.",
        is_subscription=True,
    ),
    Scenario(
        "contract-with-consumption",
        "Contract with consumption",
        "The buyer has paid for some of it in advance, and pays for what goes beyond that by use.",
        PIPELINES,
        is_subscription=True,
    ),
    Scenario(
        "pay-as-you-go",
        "Pay as you go",
        "The buyer pays by use alone, so there are never any entitlements, and the agreement has no end date.",
        GATEWAY,
        is_subscription=True,
    ),
)

TROUBLES = (
    Scenario(
        "wrong-product",
        "Another seller's product",
        "AWS knows the buyer, but the product code is not yours, so your app should refuse.",
        FORECAST,
    ),
    Scenario(
        "expired",
        "The link has expired",
        "The buyer waited too long, and AWS no longer accepts the registration token.",
        answer=refuse(EXPIRED_TOKEN),
    ),
    Scenario(
        "invalid",
        "The token is invalid",
        "AWS does not know the registration token, as when it was damaged on its way.",
        answer=refuse(INVALID_TOKEN),
    ),
    Scenario(
        "no-license-yet",
        "The license is not there yet",
        "The first answer for the token has the agreement and no license, and every later answer has everything.",
        # One report tells of such a first answer, and not whether it had the agreement: ours has.
        first_answer=say_without("LicenseArn"),
    ),
    Scenario(
        "slow",
        "AWS is slow",
        "The token is good, but AWS takes three seconds to say so.",
        delay=3.0,
    ),
    Scenario(
        "throttled",
        "AWS is throttling",
        "AWS answers that you are asking too often, so the buyer should get a way to try again.",
        answer=refuse(THROTTLED),
    ),
    Scenario(
        "internal-error",
        "AWS has an internal error",
        "AWS answers that it failed itself, so the buyer should get a way to try again.",
        answer=refuse(INTERNAL_ERROR),
    ),
    Scenario(
        "disabled-api",
        "The API is disabled",
        "AWS has switched ResolveCustomer off in the region that your app calls: for you to fix, not the buyer.",
        answer=refuse(Failure("DisabledApiException", "The API is disabled in the Region")),
    ),
    Scenario(
        "expired-credentials",
        "Your AWS credentials have expired",
        "The token is good, but AWS refuses your app's own credentials: for you to fix, not the buyer.",
        answer=refuse(Failure("ExpiredTokenException", "The security token included in the request is expired", 403)),
    ),
)

RARE_TROUBLES = (
    Scenario(
        "access-denied",
        "Your app lacks the permission",
        "AWS knows your app's credentials, but no policy allows them to resolve customers.",
        answer=refuse(
            Failure(
                "AccessDeniedException",
                "User: arn:aws:iam::444455556666:user/acme is not authorized to perform: "
                "aws-marketplace:ResolveCustomer because no identity-based policy allows the "
                "aws-marketplace:ResolveCustomer action",
            )
        ),
    ),
    Scenario(
        "invalid-signature",
        "Your secret key is wrong",
        "AWS knows your app's access key, but the signature was made with another secret key.",
        answer=refuse(
            Failure(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method. Consult the service documentation for details.",
            )
        ),
    ),
    Scenario(
        "unrecognized-client",
        "Your access key is unknown",
        "AWS does not know your app's access key, as when it was deleted.",
        answer=refuse(Failure("UnrecognizedClientException", "The security token included in the request is invalid.")),
    ),
    Scenario(
        "namespaced-error",
        "An error with a namespace",
        "The link has expired, and the name of the error comes with that of the service before it.",
        answer=refuse(Failure("com.amazonaws.marketplace.metering#ExpiredTokenException", EXPIRED_TOKEN.message)),
    ),
    Scenario(
        "html-503",
        "A web page with status 503",
        "A load balancer answers for AWS, in HTML and not in JSON.",
        answer=show_page("503 Service Temporarily Unavailable", 503),
    ),
    Scenario(
        "not-json",
        "A web page with status 200",
        "A proxy or a captive portal answers in the place of AWS, as if all were well.",
        answer=show_page("Log in to this network", 200),
    ),
    Scenario(
        "empty-answer", "An empty answer", "AWS answers with status 200 and not a single byte.", answer=send_nothing
    ),
    Scenario(
        "hanging-headers",
        "No answer at all",
        "AWS takes the request and never answers, so your app has to give up by itself.",
        answer=stay_silent,
    ),
    Scenario(
        "hanging-body",
        "Half an answer",
        "The headers and one half of the body come, and then nothing more.",
        answer=stop_half_way,
    ),
    Scenario(
        "no-account-id",
        "No account id",
        "AWS accepts the token and does not say which AWS account it is for.",
        answer=say_without("CustomerAWSAccountId"),
    ),
    Scenario(
        "no-product-code",
        "No product code",
        "AWS accepts the token and does not say which product it is for.",
        answer=say_without("ProductCode"),
    ),
    Scenario(
        "nulls",
        "Only nulls",
        "AWS accepts the token, and every member of its answer is null.",
        answer=say_this(dict.fromkeys(_MEMBERS)),
    ),
    Scenario(
        "empty-strings",
        "Only empty strings",
        "AWS accepts the token, and every member of its answer is an empty string.",
        answer=say_this({**dict.fromkeys(_MEMBERS, ""), "Metadata": {"AgreementId": ""}}),
    ),
)

SCENARIOS = {scenario.slug: scenario for scenario in SUBSCRIPTIONS + TROUBLES + RARE_TROUBLES + READING_TROUBLES}
"""Every scenario by its slug, in the order of the storefront."""


def find_scenario(slug: str) -> Scenario:
    """Give the scenario with this slug.

    Raises:
        ValueError: There is none; the message names those that there are.
    """
    if slug not in SCENARIOS:
        raise ValueError(f"{slug!r} is not a scenario of the local marketplace: {', '.join(SCENARIOS)}")
    return SCENARIOS[slug]
