"""The landing URL in public: what AWS's review and the buyers' browsers meet there."""

from __future__ import annotations

import http.client
import re
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlencode, urljoin, urlsplit

from .._version import __version__
from .answers import CODES, Answer, explain, explain_failure, is_csrf, is_wrong_host
from .configuration import LOOPBACK, without_secrets
from .findings import Finding, ok, problem, skipped, warning
from .patience import within

_LIMIT = 15.0
_TOKEN_FIELD = "x-amzn-marketplace-token"  # noqa: S105 - the name of the field, not a token.
_MAX_BODY = 65_536
_LOGIN = re.compile(r"(log|sign)[-_]?in(?![a-z])|\b(o?auth2?|authorize|sso|saml2?)\b", re.IGNORECASE)
_REGISTRATION_COOKIE = re.compile(r"[\w-]+-[0-9a-f]{24}=")
_TITLE = "<title>Set up your account from AWS Marketplace</title>"
_HEADERS = {"User-Agent": f"starlette-marketplace-doctor/{__version__}"}
# As the browser of a buyer sends it, who comes from another site. `Origin` may be null there.
_FORM_HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/x-www-form-urlencoded",
    "Origin": "null",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "cross-site",
}


def check_landing(
    url: str | None, *, token: str, signup_url: str | None = None, limit: float = _LIMIT
) -> Iterator[Finding]:
    """What answers at the landing URL.

    Args:
        url: The URL; None skips it all.
        token: A registration token that AWS cannot know.
        signup_url: Where buyers go next, if it is known.
        limit: Seconds for each request.
    """
    requests = ("landing_get", "landing_head", "landing_post")
    if url is None:
        yield from (skipped(check, "Name the landing URL with --url.") for check in ("landing_url", *requests))
        return
    yield _check_url(url)
    got = _fetch(url, "GET", limit)
    yield _judge_get(got) if isinstance(got, Answer) else problem("landing_get", *got)
    if not isinstance(got, Answer):
        yield from (skipped(check, "See landing_get.") for check in requests[1:])
        return
    head = _fetch(url, "HEAD", limit)
    yield _judge_head(head, got) if isinstance(head, Answer) else problem("landing_head", *head)
    posted = _fetch(url, "POST", limit, urlencode({_TOKEN_FIELD: token}).encode())
    yield _judge_post(posted, got, signup_url) if isinstance(posted, Answer) else problem("landing_post", *posted)


def _check_url(url: str) -> Finding:
    parts, url = urlsplit(url), without_secrets(url)
    if parts.scheme == "https":
        return ok("landing_url", f"{url} is HTTPS.")
    if parts.hostname in LOOPBACK:
        return warning(
            "landing_url",
            f"{url} is on this machine and not HTTPS.",
            "Run doctor with the URL of your listing as well; AWS Marketplace asks for HTTPS.",
        )
    return problem(
        "landing_url",
        f"{url} is not HTTPS: the registration token travels in the open, and AWS Marketplace asks for HTTPS.",
        "Serve the host by HTTPS, and put the https URL into your listing.",
    )


def _fetch(url: str, method: str, limit: float, body: bytes | None = None) -> Answer | tuple[str, str]:
    """The answer, or why there is none and what to do."""
    headers = _HEADERS | (_FORM_HEADERS if body else {})
    request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 - http or https, as checked.
    try:
        return within(limit, lambda: _send(request, limit))
    except (OSError, http.client.HTTPException, ValueError) as exc:
        return explain_failure(exc, method, limit, _proxy_variable(url))


def _send(request: urllib.request.Request, limit: float) -> Answer:
    # Without the handlers of errors and redirects: each answer is to be looked at, and none followed. The form would go
    # to a place that nobody named.
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler()):
        opener.add_handler(handler)
    with opener.open(request, timeout=limit) as response:
        text = response.read(_MAX_BODY).decode("utf-8", "replace")
        location = _absolute(request.full_url, response.headers.get("Location", ""))
        cookies = response.headers.get_all("Set-Cookie", [])
    return Answer(
        response.status,
        text,
        without_secrets(location),
        leads_back=_leads_back(request.full_url, location),
        has_registration=any(map(_REGISTRATION_COOKIE.match, cookies)),
    )


def _absolute(base: str, location: str) -> str:
    try:
        url = urljoin(base, location) if location else ""
        urlsplit(url)
    except ValueError:
        return ""
    return url


def _leads_back(url: str, location: str) -> bool:
    here, there = urlsplit(url), urlsplit(location)
    is_plain = there.scheme == "http" and (there.hostname, there.path) == (here.hostname, here.path)
    return here.scheme == "https" and (here == there or is_plain)


def _proxy_variable(url: str) -> str | None:
    parts = urlsplit(url)
    is_proxied = parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.netloc)
    return f"{parts.scheme.upper()}_PROXY" if is_proxied else None


def _judge_get(answer: Answer) -> Finding:
    if answer.status != 200:
        return problem("landing_get", *explain(answer, "GET"))
    if _is_ours(answer):
        return ok("landing_get", "GET is answered with 200 and the page of this package.")
    return warning(
        "landing_get",
        "GET is answered with 200, but not with the page of this package.",
        "Something else answers there, such as a route that catches all, a CDN or a login page: see landing_post.",
    )


def _is_ours(got: Answer) -> bool:
    return got.status == 200 and _TITLE in got.text


def _judge_head(answer: Answer, got: Answer) -> Finding:
    check = "landing_head"
    if answer.status == 200:
        return ok(check, "HEAD is answered with 200.")
    if got.status == 200 and answer.status in (404, 405, 501):
        return warning(
            check,
            f"HEAD is answered with {answer.status}, and GET with 200.",
            "Whether AWS tries the address by HEAD is not known: let it through to this package, like GET.",
        )
    message, advice = explain(answer, "HEAD")
    return problem(check, message, "See landing_get." if answer.status == got.status else advice)


def _judge_post(answer: Answer, got: Answer, signup_url: str | None) -> Finding:
    check, message = "landing_post", f"A form with a made-up token is answered with {answer.status}"
    if answer.code in CODES:
        status, meaning, advice = CODES[answer.code]
        return Finding(check, status, f"{message} {answer.code}: {meaning}", advice)
    if answer.has_registration:
        return problem(
            check,
            f"{message} and a registration, as if it were a customer's.",
            "The host asks something else than AWS: see endpoint.",
        )
    if is_csrf(answer) or is_wrong_host(answer):
        return problem(check, *explain(answer, "POST"))
    is_redirect = answer.status in (302, 303) and bool(answer.location)
    # Only with a registration does this package let a buyer in, so what answers without one is a hook, or not the host.
    if answer.status == 400 or (_is_ours(got) and answer.status in (200, 422)):
        return warning(
            check,
            f"{message}, but not by the JSON of this package.",
            "If a hook on_error answers so, all is well; if not, look for what else answers at this address.",
        )
    if is_redirect and _is_ours(got):
        return warning(
            check,
            f"{message}, a redirect to {answer.location}.",
            "If a hook on_error sends buyers there whose token is refused, all is well. If not, something else answers "
            "at this address, such as a login page: let the landing URL through without it.",
        )
    if answer.status == 200 or (is_redirect and _is_signup(answer.location, signup_url)):
        return problem(
            check,
            f"{message}, as if it were a customer's.",
            "If it is not a login page that answers, the host asks something else than AWS (see endpoint), or not "
            "this package answers.",
        )
    if is_redirect and got.status == 200 and not _LOGIN.search(answer.location):
        return warning(
            check,
            f"{message}, a redirect to {answer.location}.",
            "If a hook on_error sends buyers there whose token is refused, all is well. If buyers sign up there, the "
            "host takes any token for a customer's; if neither, something else answers at this address.",
        )
    return problem(check, *explain(answer, "POST"))


def _is_signup(location: str, signup_url: str | None) -> bool:
    """Whether a redirect leads to the signup, below whatever root path the host has."""
    if signup_url is None:
        return False
    here, signup = (urlsplit(url).path.rstrip("/") or "/" for url in (location, signup_url))
    return here.endswith(signup)
