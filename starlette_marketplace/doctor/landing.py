"""The landing URL in public: what AWS's review and the buyers' browsers meet there."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from typing import IO
from urllib.parse import urlencode, urljoin, urlsplit

from .._version import __version__
from .answers import CODES, Answer, explain, explain_failure, is_wrong_host
from .findings import Finding, ok, problem, skipped, warning
from .patience import within

_LIMIT = 15.0
_TOKEN_FIELD = "x-amzn-marketplace-token"  # noqa: S105 - the name of the field, not a token.
_MAX_BODY = 65_536
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def check_landing(url: str | None, *, token: str, limit: float = _LIMIT) -> Iterator[Finding]:
    """What answers at the landing URL.

    Args:
        url: The URL; None skips it all.
        token: A registration token that AWS cannot know.
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
    yield _judge_head(head) if isinstance(head, Answer) else problem("landing_head", *head)
    posted = _fetch(url, "POST", limit, urlencode({_TOKEN_FIELD: token}).encode())
    yield _judge_post(posted) if isinstance(posted, Answer) else problem("landing_post", *posted)


def _check_url(url: str) -> Finding:
    parts, url = urlsplit(url), without_secrets(url)
    if parts.scheme == "https":
        return ok("landing_url", f"{url} is HTTPS.")
    if parts.hostname in _LOOPBACK:
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
        return explain_failure(exc, method, limit)


def _send(request: urllib.request.Request, limit: float) -> Answer:
    # A redirect is an answer to look at, not to follow: the form would go to a place that nobody named.
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        response = opener.open(request, timeout=limit)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        text = response.read(_MAX_BODY).decode("utf-8", "replace")
        location = urljoin(request.full_url, response.headers.get("Location", ""))
    return Answer(response.status, text, without_secrets(location))


def without_secrets(url: str) -> str:
    """The URL as it may be shown: without what may hold a secret, the user name and password, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _judge_get(answer: Answer) -> Finding:
    if answer.status != 200:
        return problem("landing_get", *explain(answer, "GET"))
    if _TITLE in answer.text:
        return ok("landing_get", "GET is answered with 200 and the page of this package.")
    return warning(
        "landing_get",
        "GET is answered with 200, but not with the page of this package.",
        "Something else answers there, such as a route that catches all, a CDN or a login page: see landing_post.",
    )


def _judge_head(answer: Answer) -> Finding:
    if answer.status == 200:
        return ok("landing_head", "HEAD is answered with 200.")
    return problem("landing_head", *explain(answer, "HEAD"))


def _judge_post(answer: Answer) -> Finding:
    check = "landing_post"
    if answer.code in CODES:
        judge, message, advice = CODES[answer.code]
        return judge(
            check, f"A form with a made-up token is answered with {answer.status} {answer.code}: {message}", advice
        )
    if answer.code == "INVALID_TOKEN" and answer.status == 400:
        return ok(check, "A form with a made-up token is answered with 400: the host asked AWS, and AWS refused it.")
    if answer.status == 400 and not is_wrong_host(answer):
        return warning(
            check,
            "A form with a made-up token is answered with 400, but not by the JSON of this package.",
            "If a hook on_error answers so, all is well; if not, look for what else answers at this address.",
        )
    if answer.status in (200, 303):
        return problem(
            check,
            f"A form with a made-up token is answered with {answer.status}, as if it were a customer's.",
            "If it is not a login page that answers, the host asks something else than AWS (see endpoint), or not "
            "this package answers.",
        )
    return problem(check, *explain(answer, "POST"))
