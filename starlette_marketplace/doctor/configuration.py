"""What can be told of the settings by themselves."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from ..settings import MarketplaceSettings
from .findings import Finding, ok, problem, warning

# Nothing shorter: in a random key of 43 characters, four given letters turn up once in some ten thousand keys.
_PLACEHOLDERS = re.compile(
    "change.?me|secret|example|password|passwort|placeholder|replace|insecure|default|sample|your[-_ ]|"
    "never[-_ ]use|demo[-_ ]|test[-_ ]|dummy[-_ ]|qwerty|letmein|foobar",
    re.IGNORECASE,
)
_MIN_VARIETY = 8
_NEW_KEY = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'


def check_configuration(settings: MarketplaceSettings, url: str | None) -> Iterator[Finding]:
    """What the settings say.

    Args:
        settings: The settings, which are valid.
        url: The landing URL in public, if it is known.
    """
    yield _check_secret_key(settings)
    yield _check_product_codes(settings.product_codes)
    yield _check_https_only(settings.https_only)
    yield _check_session_domain(settings.session_domain, url)
    # AWS asks for support contacts on the signup page, which is the host's own: so this is no more than a remark.
    if settings.support_url:
        yield ok("support_url", f"Buyers who get stuck are sent to {settings.support_url}.")
    else:
        yield ok("support_url", "support_url is not set: error pages tell buyers nobody to ask.")


def _check_secret_key(settings: MarketplaceSettings) -> Finding:
    check = "secret_key"
    keys = {"secret_key": settings.secret_key}
    keys |= {f"secret_key_fallbacks, number {n}": key for n, key in enumerate(settings.secret_key_fallbacks, 1)}
    for name, key in keys.items():
        weakness = _weakness(key)
        if weakness:
            return problem(
                check,
                f"{name} can be guessed: {weakness}. Who guesses it can forge a registration of any AWS account.",
                f"Make a random one with {_NEW_KEY}, and do not keep the old one in secret_key_fallbacks.",
            )
    if len(set(keys.values())) < len(keys):
        return warning(
            check,
            "The same key is more than once in secret_key and secret_key_fallbacks.",
            "Put the new key into secret_key and the one before it into secret_key_fallbacks, or leave the latter out.",
        )
    return ok(check, f"secret_key has {len(settings.secret_key)} characters and looks random.")


def _weakness(key: str) -> str | None:
    """Why a key is not random; never a part of it."""
    steps = [abs(ord(one) - ord(other)) for one, other in itertools.pairwise(key)]
    if len(set(key)) < _MIN_VARIETY:
        return f"it has only {len(set(key))} different characters"
    if key in (key + key)[1:-1]:
        return "it repeats itself"
    # Of half the steps, one random key in fifty thousand is made: 32 hexadecimal digits have few characters.
    if sum(step <= 1 for step in steps) > len(steps) * 2 / 3:
        return "its characters follow one another"
    if _PLACEHOLDERS.search(key):
        return "it has the words of a placeholder"
    return None


def _check_product_codes(product_codes: tuple[str, ...] | str) -> Finding:
    check = "product_codes"
    ids = [code for code in product_codes if re.match("prod-", code, re.IGNORECASE)]
    if ids:
        return problem(
            check,
            f"{', '.join(ids)} is a product id and no product code: buyers of the product will be refused.",
            "Take the product code from the product's page in the AWS Marketplace Management Portal.",
        )
    if "*" in product_codes:
        return warning(
            check,
            "product_codes is *: a buyer of any product of the seller account is let in as a buyer of this one.",
            "List the product codes of this product, unless that is what you want.",
        )
    return ok(check, f"Accepted product codes: {', '.join(product_codes)}.")


def _check_https_only(https_only: bool) -> Finding:
    if https_only:
        return ok("https_only", "Registration cookies travel over HTTPS only.")
    return warning(
        "https_only",
        "https_only is false: registration cookies also travel over plain http, and a subdomain can plant one.",
        "Leave it out wherever buyers come; it is for plain http on a laptop.",
    )


def _check_session_domain(session_domain: str | None, url: str | None) -> Finding:
    check = "session_domain"
    if session_domain is None:
        return ok(check, "Registration cookies stay with the one host that sets them.")
    domain = session_domain.removeprefix(".").lower()
    host = urlsplit(url).hostname if url else None
    if host and not f".{host}".endswith(f".{domain}"):
        return problem(
            check,
            f"session_domain {session_domain} does not cover {host}: browsers refuse the cookie, and no registration "
            "is there on the signup page.",
            f"Leave session_domain out, or set it to {host} or a domain above it.",
        )
    return ok(check, f"Registration cookies are shared with all of {domain}: each host there can set one.")
