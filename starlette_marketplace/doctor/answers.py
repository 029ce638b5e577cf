"""What the answers of a landing URL mean, and the lack of one."""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
from dataclasses import dataclass

from .findings import Status


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: The HTTP status.
        text: The beginning of the body.
        location: Where a redirect leads, without the query; empty when that is no URL.
        leads_back: Whether a redirect leads from https to the same URL, or to it by plain http.
        has_registration: Whether it sets the cookie of a registration.
    """

    status: int
    text: str
    location: str
    leads_back: bool
    has_registration: bool

    @property
    def code(self) -> str | None:
        """The code of our own JSON error, None when it is not one."""
        try:
            code = json.loads(self.text)["error"]["code"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return code if isinstance(code, str) else None


_MEND = "Run doctor where the host runs, with its environment: its credentials are not those that were checked here."
_REACH = "If it stays, let the host reach metering.marketplace.<region>.amazonaws.com; its log says more."
_CHANGED = "A proxy or middleware changes Content-Type or compresses the body: let it through as it is."
_ACCEPTED = "Look for endpoint_url and for a resolver of its own in the settings of the host: see endpoint."
_OWN = "No error of this package has this code by itself: look into your hooks and your resolver."
CODES: dict[str | None, tuple[Status, str, str]] = {
    "INVALID_TOKEN": (Status.OK, "the host refuses it, as it should.", ""),
    "EXPIRED_TOKEN": (
        Status.WARNING,
        "the host was told that the token has expired, and not that nobody knows it.",
        "If something stands in for AWS there, it may say so; if not, look into the log of the host.",
    ),
    "PRODUCT_MISMATCH": (
        Status.PROBLEM,
        "it was taken for the token of a customer of another product, so it is not AWS that the host asks.",
        _ACCEPTED,
    ),
    "INCOMPLETE_ANSWER": (
        Status.PROBLEM,
        "it was accepted, without saying whose it is, so it is not AWS that the host asks.",
        _ACCEPTED,
    ),
    "CREDENTIALS": (Status.PROBLEM, "the host has no AWS credentials, or AWS refuses them.", _MEND),
    "ACCESS_DENIED": (Status.PROBLEM, "the host may not call ResolveCustomer, or not assume its role.", _MEND),
    "REGION": (Status.PROBLEM, "the host has a region that is none.", _MEND),
    "DISABLED_API": (Status.PROBLEM, "ResolveCustomer is disabled in the host's region.", _MEND),
    "SETTINGS": (Status.PROBLEM, "a setting of the host makes no sense; its log says which.", _MEND),
    "CONFIGURATION": (Status.PROBLEM, "the AWS configuration of the host cannot be used; its log says more.", _MEND),
    "AWS_UNAVAILABLE": (Status.PROBLEM, "the host does not reach AWS, or AWS failed.", _REACH),
    "DEADLINE_EXCEEDED": (Status.PROBLEM, "AWS did not answer the host in time.", _REACH),
    "OVERLOADED": (Status.WARNING, "too many buyers are waiting.", "Run doctor again in a minute."),
    "THROTTLED": (Status.WARNING, "AWS limits the rate of the host's calls.", "Run doctor again in a minute."),
    "MISSING_TOKEN": (
        Status.PROBLEM,
        "the form came in without its fields.",
        "Something before this package has read the form: put MarketplaceMiddleware outside of it. Or a proxy drops "
        "the body.",
    ),
    "MALFORMED_REQUEST": (Status.PROBLEM, "the form came in changed, cut off or too late.", _CHANGED),
    "UNSUPPORTED_MEDIA_TYPE": (Status.PROBLEM, "the form came in as something else.", _CHANGED),
    "REQUEST_TOO_LARGE": (
        Status.PROBLEM,
        "the form is larger than max_body_size.",
        "Leave max_body_size at its default; or a proxy or middleware adds to the body.",
    ),
    "MARKETPLACE_ERROR": (Status.PROBLEM, "the host refuses it for a reason of its own.", _OWN),
    "BAD_REQUEST": (Status.PROBLEM, "the host refuses the form for a reason of its own.", _OWN),
    "BAD_TOKEN": (Status.WARNING, "the host refuses the token for a reason of its own.", _OWN),
    "UNAVAILABLE": (Status.PROBLEM, "the host cannot tell, for a reason of its own.", _OWN),
}
"""What each code of our JSON errors says of the host that was sent a made-up token, and what to do."""


def explain(answer: Answer, method: str) -> tuple[str, str]:
    """What any other answer means."""
    status = answer.status
    message = f"{method} is answered with {status}"
    if 300 <= status < 400:
        is_itself = answer.leads_back and answer.location.startswith("https:")
        message += f", a redirect to {'itself' if is_itself else answer.location or 'what is no URL'}"
        if answer.leads_back:
            return (
                f"{message}.",
                "The host takes https for http: let its server trust X-Forwarded-Proto of the proxy (uvicorn: "
                "--forwarded-allow-ips), and the proxy send it.",
            )
        if status in (307, 308):
            return f"{message}.", "Put the URL at its end into the listing, and run doctor with that one."
        return (
            f"{message}, where the form is lost.",
            "If it is a login page, authentication stands before this package: let the landing URL through without "
            "it. If not, put the URL at its end into the listing, and run doctor with that one.",
        )
    if is_wrong_host(answer):
        return f"{message}: the host name is not allowed.", "Add it to allowed_hosts of TrustedHostMiddleware."
    if is_csrf(answer):
        return (
            f"{message} by a CSRF protection.",
            "The form comes from AWS Marketplace and cannot have your CSRF token: put MarketplaceMiddleware outside of "
            "that middleware, or exempt the landing URL.",
        )
    return f"{message}.", _STATUSES.get(status, "Look into the log of the host, and of what stands before it.")


_STATUSES = {
    401: "Authentication stands before this package: let the landing URL through without it.",
    403: "A firewall (WAF), a CDN or authentication stands before the host: let the landing URL through for everybody.",
    404: "The path of the URL is not registration_path (or the mount's prefix and /register), or the host runs without "
    "MarketplaceMiddleware: compare the two, and look into the startup of the host.",
    405: "Another route answers at this address, and not this package: install MarketplaceMiddleware, or the mount "
    "before that route.",
    413: "Something before the host allows a smaller body than 16 KiB: raise its limit.",
    415: "Something before this package takes no forms: let them through as they are.",
    421: "What stands before the host does not know its name: add the host name there.",
    429: "A rate limit stands before the host: run doctor again in a minute.",
    500: "The host fails by itself: its log has the traceback. Hooks of yours are a place to look at.",
    502: "The proxy before the host does not reach it: is it running, and on the port that the proxy has?",
    503: "Something before this package says that it is not available: is the host running and healthy?",
    504: "The host answered the proxy too late: give the proxy longer than deadline, 12 seconds by default.",
}


def is_wrong_host(answer: Answer) -> bool:
    """Whether it is the answer of `TrustedHostMiddleware`."""
    return answer.status == 400 and "invalid host header" in answer.text.lower()


def is_csrf(answer: Answer) -> bool:
    """Whether it is the refusal of a CSRF protection."""
    # The page of a hook may have a CSRF token of its own, in a tag or a script.
    return answer.status in (400, 403) and bool(_CSRF.search(_TAGS.sub(" ", answer.text)))


_CSRF = re.compile("csrf|cross[- ]site|origin check", re.IGNORECASE)
_TAGS = re.compile("<script.*?</script>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def explain_failure(exc: Exception, method: str, limit: float, proxy: str | None) -> tuple[str, str]:
    """What it means that there was no answer, where `proxy` is the variable that names one on the way."""
    reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"{method} gets no answer: its certificate is not trusted ({reason.verify_message}).",
            "Install a certificate for this host name of a public authority, with its intermediate certificates.",
        )
    if isinstance(reason, ssl.SSLError):
        return (
            f"{method} gets no answer: there is no TLS ({reason.reason}).",
            "Serve HTTPS on this port, by TLS 1.2 or newer.",
        )
    if isinstance(reason, TimeoutError):
        return (
            f"{method} gets no answer: no answer within {limit:g} seconds.",
            "Is the host running? Does a firewall drop what comes from here?",
        )
    # Name resolution, a refused connection, a proxy, an answer that is no HTTP. The text of other errors may quote the
    # address of a proxy, with its password.
    on_the_way = f", and the proxy in {proxy}" if proxy else ""
    text = getattr(reason, "strerror", None) or (str(reason) if isinstance(reason, OSError) else type(exc).__name__)
    return (
        f"{method} gets no answer: {text}.",
        f"Check the name in the DNS, the port, and whether the host is running{on_the_way}.",
    )
