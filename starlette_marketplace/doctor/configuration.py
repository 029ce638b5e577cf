"""What the settings say by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from .case import LOOPBACK, Case
from .findings import Verdict, ok, problem, skipped, warning


def check_secret_key(case: Case) -> Iterator[Verdict]:
    """Whether `secret_key` and the older ones repeat themselves or each other; the settings look at the rest."""
    settings = case.settings
    keys = {"secret_key": settings.secret_key}
    keys |= {f"Number {n} of secret_key_fallbacks": key for n, key in enumerate(settings.secret_key_fallbacks, 1)}
    repeated = [name for name, key in keys.items() if _repeats_itself(key)]
    for name in repeated:
        yield problem(
            f"{name} repeats a short part: anyone who guesses it can forge a registration of any AWS account.",
            'Make a new one with python -c "import secrets; print(secrets.token_urlsafe(32))", and drop this one.',
        )
    if len(set(keys.values())) < len(keys):
        yield warning(
            "The same key is more than once in secret_key and secret_key_fallbacks.",
            "Put the new key into secret_key and the one before it into secret_key_fallbacks, or leave the latter out.",
        )
    elif not repeated:
        yield ok(f"secret_key has {len(settings.secret_key)} characters and does not repeat itself.")


def _repeats_itself(key: str) -> bool:
    """Whether it is one part over and over, the last time perhaps cut off."""
    return any(key[period:] == key[:-period] for period in range(1, len(key) // 2 + 1))


def check_product_codes(case: Case) -> Iterator[Verdict]:
    """Whether `product_codes` has product codes."""
    product_codes = case.settings.product_codes
    ids = [code for code in product_codes if is_product_id(code)]
    if ids:
        yield problem(
            f"{', '.join(ids)} is a product id, not a product code: buyers of the product will be refused.",
            "Take the product code from the product's page in the AWS Marketplace Management Portal.",
        )
    elif "*" in product_codes:
        yield warning(
            "product_codes is *: a buyer of any product of the seller account is let in as a buyer of this one.",
            "List the product codes of this product, unless that is what you want.",
        )
    else:
        yield ok(f"Accepted product codes: {', '.join(product_codes)}.")


def is_product_id(code: str) -> bool:
    """Whether it is a product id in the place of a product code."""
    return re.match("prod-", code, re.IGNORECASE) is not None


def check_https_only(case: Case) -> Iterator[Verdict]:
    """Whether cookies are for HTTPS only."""
    if case.settings.https_only:
        yield ok("Registration cookies travel over HTTPS only.")
    else:
        yield warning(
            "https_only is false: registration cookies also travel over plain http, and a subdomain can plant one.",
            "Leave it out in production; it is for plain http on a laptop.",
        )


def check_session_domain(case: Case) -> Iterator[Verdict]:
    """Whether browsers take a cookie for `session_domain`."""
    domain, host = _domain_of(case), urlsplit(case.url).hostname
    if domain is None:
        yield ok("Registration cookies stay with the one host that sets them.")
    elif "." not in domain.strip("."):
        yield problem(
            f"session_domain {domain} has no dot inside: browsers share no cookie with all of a top-level domain.",
            "Leave session_domain out, or set it to a domain that you own, such as example.com.",
        )
    elif host and not _covers(domain, host):
        yield problem(
            f"session_domain {domain} does not cover {host}: browsers refuse the cookie of every registration.",
            f"Leave session_domain out, or set it to {host} or a domain above it.",
        )
    else:
        # Which domains are public suffixes is a long list that changes, and browsers have it.
        yield ok(f"Every host of {domain} gets registration cookies, unless it is a public suffix, such as co.uk.")


def check_signup_url(case: Case) -> Iterator[Verdict]:
    """Whether the cookie that the fulfillment URL sets gets to where buyers go next."""
    domain, host = _domain_of(case), urlsplit(case.url).hostname
    parts = urlsplit(case.settings.signup_url)
    signup = parts.hostname or ""
    if not parts.netloc:
        yield ok(f"Buyers go on to {parts.path} of the same host.")
    elif case.settings.https_only and parts.scheme == "http" and signup not in LOOPBACK:
        yield problem(
            f"signup_url is plain http on {signup}, where browsers send no registration cookie.",
            "Set signup_url to the https URL.",
        )
    elif _covers(domain, signup) if domain else host == signup:
        yield ok(f"Buyers go on to {signup}, and so do registration cookies.")
    elif domain is None and host is None:
        yield skipped(f"Buyers go on to {signup}. Whether cookies do depends on --url.")
    else:
        yield problem(
            f"signup_url is on {signup}, and registration cookies stay with {domain or host}.",
            "Set signup_url to a path, or session_domain to a domain that you own above both hosts.",
        )


def _domain_of(case: Case) -> str | None:
    domain = case.settings.session_domain
    return None if domain is None else domain.removeprefix(".").lower()


def _covers(domain: str, host: str) -> bool:
    return f".{host}".endswith(f".{domain}")
