"""The fulfillment URL in public: what AWS's review and the buyers' browsers meet there."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from ..errors import MarketplaceError
from .answers import CODES, LOGIN, explain, is_csrf, is_wrong_host
from .case import LOOPBACK, Case
from .fetch import Answer, fetch, without_secrets
from .findings import Status, Verdict, ok, problem, warning

TOKEN_FIELD = "x-amzn-marketplace-token"  # noqa: S105 - the name of the field, not a token.
_TITLE = "<title>Set up your account from AWS Marketplace"


def check_url(case: Case) -> Iterator[Verdict]:
    """Whether it is HTTPS."""
    parts, url = urlsplit(case.url), without_secrets(case.url)
    if parts.scheme == "https":
        yield ok(f"{url} is HTTPS.")
    elif parts.hostname in LOOPBACK:
        yield warning(
            f"{url} is on this machine and not HTTPS.",
            "Run doctor with the URL of your listing as well; AWS Marketplace requires HTTPS.",
        )
    else:
        yield problem(
            f"{url} is not HTTPS: the registration token travels unencrypted, and AWS Marketplace requires HTTPS.",
            "Serve your app by HTTPS, and put the https URL into your listing.",
        )


def check_get(case: Case) -> Iterator[Verdict]:
    """Whether a browser that opens it gets the page of this package."""
    answer = fetch(case.url, case.limit)
    case.page = "none" if answer.status != 200 else "ours" if _TITLE in answer.text else "other"
    if case.page == "none":
        yield problem(*explain(answer))
    elif case.page == "ours":
        yield ok("GET is answered with 200 and the page of this package.")
    else:
        yield warning(
            "GET is answered with 200, but not with the page of this package.",
            "Something else answers there, such as a route that catches all, a CDN or a login page: see landing_post.",
        )


def check_post(case: Case) -> Iterator[Verdict]:
    """Whether the form gets to this package, and a made-up token is refused."""
    answer = fetch(case.url, case.limit, form={TOKEN_FIELD: case.token}, accept="application/json")
    found = _judge_post(answer, case.page)
    if found.status is Status.PROBLEM:
        raise MarketplaceError(found.message, found.advice)
    yield found


def _judge_post(answer: Answer, page: str) -> Verdict:
    message = f"A form with a made-up token is answered with {answer.status}"
    if answer.code in CODES:
        status, meaning, advice = CODES[answer.code]
        return Verdict(status, f"{message} {answer.code}: {meaning}", advice)
    if answer.registration:
        return problem(
            f"{message} and a registration, as if it were a customer's.",
            "Your app asks something else than AWS: see endpoint.",
        )
    if is_csrf(answer) or is_wrong_host(answer) or not _may_be_hook(answer, page):
        return problem(*explain(answer))
    place = f", a redirect to {without_secrets(answer.location)}" if answer.location else ""
    return warning(
        f"{message}{place}, but not by the JSON of this package.",
        "If a hook on_error answers so, all is well. If not, something else answers at this address, such as a login "
        "page: let the fulfillment URL through without it.",
    )


def _may_be_hook(answer: Answer, page: str) -> bool:
    """Whether it may be that of an `on_error`: only with a registration does this package let a buyer in."""
    if answer.status in (302, 303) and answer.location:
        return page == "ours" or (page == "other" and not LOGIN.search(answer.location))
    return answer.status in (400, 422) or (answer.status == 200 and page == "ours")
