"""What the answers of a fulfillment URL mean."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .fetch import Answer, without_secrets
from .findings import Status

_NOT_AWS = "Look for endpoint_url and for a resolver in the settings of your app: see endpoint."
_OWN = "No error of this package has this code by itself: look into your hooks and your resolver."
_MEANINGS: tuple[tuple[str, Status, str, str], ...] = (
    ("INVALID_TOKEN", Status.OK, "your app refuses it, as it should.", ""),
    (
        "EXPIRED_TOKEN",
        Status.WARNING,
        "your app was told that the token has expired, and not that it is invalid.",
        "If something stands in for AWS there, this may be right; otherwise see the log of your app.",
    ),
    (
        "PRODUCT_MISMATCH INCOMPLETE_ANSWER",
        Status.PROBLEM,
        "it was taken for the token of a customer, so it is not AWS that your app asks.",
        _NOT_AWS,
    ),
    (
        "CREDENTIALS ACCESS_DENIED REGION DISABLED_API SETTINGS CONFIGURATION",
        Status.PROBLEM,
        "your app cannot call AWS with its own configuration, which is not the one that was checked here.",
        "See the log of your app, and run doctor where your app runs, with its environment.",
    ),
    (
        "AWS_UNAVAILABLE DEADLINE_EXCEEDED",
        Status.PROBLEM,
        "your app does not reach AWS in time, or AWS failed.",
        "If it persists, let your app reach metering.marketplace.<region>.amazonaws.com; its log says more.",
    ),
    (
        "OVERLOADED THROTTLED",
        Status.WARNING,
        "too many buyers are waiting, or AWS throttles your app.",
        "Run doctor again in a minute.",
    ),
    (
        "MISSING_TOKEN",
        Status.PROBLEM,
        "the form arrived without its fields.",
        "Put MarketplaceMiddleware outside of what reads the form before it, and let proxies pass the body.",
    ),
    (
        "MALFORMED_REQUEST UNSUPPORTED_MEDIA_TYPE REQUEST_TOO_LARGE",
        Status.PROBLEM,
        "the form arrived changed, cut off, too late or too large.",
        "Let proxies and middleware pass Content-Type and the body unchanged, and leave max_body_size at its default.",
    ),
    (
        "MARKETPLACE_ERROR BAD_REQUEST UNAVAILABLE AGREEMENT_NOT_FOUND",
        Status.PROBLEM,
        "your app refuses it for a reason of its own.",
        _OWN,
    ),
    ("BAD_TOKEN", Status.WARNING, "your app refuses it for a reason of its own.", _OWN),
)
CODES: dict[str, tuple[Status, str, str]] = {
    code: (status, meaning, advice) for codes, status, meaning, advice in _MEANINGS for code in codes.split()
}
"""What each code of our JSON errors says of the app that was sent a made-up token, and what to do."""

_ROUTE = "Another route answers at this address: install MarketplaceMiddleware, or the mount before that route."
_STATUSES = {
    200: _ROUTE,
    401: "Authentication stands before this package: let the fulfillment URL through without it.",
    403: "A firewall (WAF), a CDN or authentication stands before your app: let the fulfillment URL through.",
    404: "Correct the path (registration_path, or the mount's prefix and /register), or install MarketplaceMiddleware.",
    405: _ROUTE,
    413: "Something before your app allows a smaller body than 16 KiB: raise its limit.",
    415: "Something before this package accepts no forms: let them through unchanged.",
    421: "What stands before your app does not know this host name: add it there.",
    429: "A rate limit stands before your app: run doctor again in a minute.",
    500: "Your app fails: its log has the traceback. Look into your hooks first.",
    502: "The proxy before your app does not reach it: check that your app is running, on the port that the proxy has.",
    503: "Something before this package says that it is not available: check that your app is running and healthy.",
    504: "Your app answered the proxy too late: give the proxy more time than deadline, 12 seconds by default.",
}
LOGIN = re.compile(r"(log|sign)[-_]?in(?![a-z])|\b(o?auth2?|authorize|sso|saml2?)\b", re.IGNORECASE)
"""What the address of a login page has in it."""
_CSRF = re.compile("csrf|cross[- ]site|origin check", re.IGNORECASE)
_TAGS = re.compile("<script.*?</script>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def explain(answer: Answer) -> tuple[str, str]:
    """What an answer that the package does not give means, and what to do."""
    status, message = answer.status, f"{answer.method} is answered with {answer.status}"
    if 300 <= status < 400:
        return _explain_redirect(answer, message)
    if is_wrong_host(answer):
        return f"{message}: the host name is not allowed.", "Add it to allowed_hosts of TrustedHostMiddleware."
    if is_csrf(answer):
        return (
            f"{message} by a CSRF protection.",
            "The form comes from AWS Marketplace and cannot have your CSRF token: put MarketplaceMiddleware outside of "
            "that middleware, or exempt the fulfillment URL.",
        )
    return f"{message}.", _STATUSES.get(status, "See the log of your app, and of what stands before it.")


def _explain_redirect(answer: Answer, message: str) -> tuple[str, str]:
    here, there = urlsplit(answer.url), urlsplit(answer.location)
    is_plain = there.scheme == "http" and (there.hostname, there.path) == (here.hostname, here.path)
    leads_back = here.scheme == "https" and (here == there or is_plain)
    message += f", a redirect to {without_secrets(answer.location) or 'what is not a URL'}."
    if leads_back:
        return (
            message,
            "Your app takes https for http: let its server trust X-Forwarded-Proto of the proxy (uvicorn: "
            "--forwarded-allow-ips), and the proxy send it.",
        )
    return (
        message,
        "If it is a login page, authentication stands before this package: let the fulfillment URL through without it. "
        "If not, put the URL at its end into the listing, and run doctor with that one.",
    )


def is_wrong_host(answer: Answer) -> bool:
    """Whether it is the answer of `TrustedHostMiddleware`."""
    return answer.status == 400 and "invalid host header" in answer.text.lower()


def is_csrf(answer: Answer) -> bool:
    """Whether it is the refusal of a CSRF protection."""
    # The page of a hook may have a CSRF token of its own, in a tag or a script.
    return answer.status in (400, 403) and bool(_CSRF.search(_TAGS.sub(" ", answer.text)))
