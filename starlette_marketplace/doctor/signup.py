"""The signup page that buyers come to, and the whole way there for a buyer of a local marketplace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from ..errors import MarketplaceError
from ..keys import is_aws
from .answers import LOGIN
from .case import Case
from .connection import host_of
from .fetch import Answer, fetch, without_secrets
from .findings import Verdict, ok, problem, skipped, warning
from .landing import TOKEN_FIELD

_OFFER = re.compile(f'class="tile ([^"]+)".*?name="{TOKEN_FIELD}" value="([^"]+)"', re.DOTALL)
_SAME = "Start your app with the settings that doctor has, endpoint_url and product_codes first; its log says more."


def check_page(case: Case) -> Iterator[Verdict]:
    """Whether the signup page is there, for a visitor without a registration."""
    url = _signup_url(case)
    if not url:
        yield skipped("The root path of your app is not known: --url does not end in registration_path.")
        return
    yield _judge(fetch(url, case.limit, accept="text/html"), is_buyer=False)


def _signup_url(case: Case) -> str:
    here, signup = urlsplit(case.url), case.settings.signup_url
    if urlsplit(signup).netloc:
        return signup
    path, registration_path = here.path.removesuffix("/"), case.settings.registration_path
    root = f"{here.scheme}://{here.netloc}{path.removesuffix(registration_path)}"
    return f"{root}{signup}" if path.endswith(registration_path) else ""


def _judge(answer: Answer, *, is_buyer: bool) -> Verdict:
    status, leads_to = answer.status, without_secrets(answer.location)
    who = "A buyer of the local marketplace gets a registration, and with it" if is_buyer else "A visitor gets"
    message = f"{who} {status} from the signup page {without_secrets(answer.url)}"
    if 300 <= status < 400 and leads_to:
        message += f", a redirect to {leads_to}"
        if not LOGIN.search(leads_to):
            return ok(f"{message}.")
    elif status in (401, 403):
        message += ", which requires a login"
    elif 200 <= status < 300:
        return ok(f"{message}.")
    else:
        return problem(f"{message}.", "Serve a page at signup_url, or correct it; the log of your app says more.")
    advice = "Let the signup page through without a login: a buyer who has no account yet cannot sign up there."
    return warning(f"{message}.", advice)


def check_registration(case: Case) -> Iterator[Verdict]:
    """Whether a buyer of a local marketplace gets through to the signup page. AWS gives no tokens to try."""
    if is_aws(case.endpoint):
        yield skipped("Only a local marketplace gives tokens to try, and your app asks AWS.")
        return
    offers = _offers(case)
    codes = case.settings.product_codes
    token = next((token for code, token in offers if code in codes or "*" in codes), "")
    if not token:
        sells = "sells nothing that product_codes lists" if offers else "shows no storefront of a local marketplace"
        yield skipped(f"What answers at {host_of(case.endpoint)} {sells}.")
        return
    answer = fetch(case.url, case.limit, form={TOKEN_FIELD: token}, accept="text/html")
    message = f"A buyer of the local marketplace is answered with {answer.status}"
    if not answer.registration:
        again = fetch(case.url, case.limit, form={TOKEN_FIELD: token}, accept="application/json")
        yield problem(f"{message} {again.code}".rstrip() + ", without a registration.", _SAME)
    elif answer.status != 303 or not _may_have_cookie(case, answer.location):
        place = f", a redirect to {without_secrets(answer.location)}" if answer.location else ""
        yield warning(
            f"{message} and a registration{place}, not with a redirect to signup_url.",
            "If a hook on_resolved answers so, all is well; if not, look for what changes the answer.",
        )
    else:
        page = fetch(answer.location, case.limit, cookie=answer.registration, accept="text/html")
        yield _judge(page, is_buyer=True)


def _offers(case: Case) -> list[tuple[str, str]]:
    """The product codes and fresh tokens of the storefront, if that is what answers."""
    try:
        return _OFFER.findall(fetch(case.endpoint, case.limit, accept="text/html").text)
    except MarketplaceError:
        return []


def _may_have_cookie(case: Case, location: str) -> bool:
    """Whether it leads to where the settings say; the cookie goes to no other host."""
    hosts = [urlsplit(url)[:2] for url in (case.url, case.settings.signup_url)]
    return bool(location) and urlsplit(location)[:2] in hosts
