"""What can be told of the settings by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from ..settings import MarketplaceSettings
from .findings import Finding, ok, problem, skipped, warning
from .keys import check_secret_key

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_configuration(settings: MarketplaceSettings, url: str | None) -> Iterator[Finding]:
    """What the settings say.

    Args:
        settings: The settings, which are valid.
        url: The landing URL in public, if it is known.
    """
    yield check_secret_key(settings)
    yield _check_product_codes(settings.product_codes)
    yield _check_https_only(settings.https_only)
    host = urlsplit(url).hostname if url else None
    domain = None if settings.session_domain is None else settings.session_domain.removeprefix(".").lower()
    yield _check_session_domain(domain, host)
    yield _check_signup_url(settings, domain, host)
    # AWS asks for support contacts on the signup page, which is the host's own: so this is no more than a remark.
    if settings.support_url:
        yield ok("support_url", f"Buyers who get stuck are sent to {_shown(settings.support_url)}.")
    else:
        yield ok("support_url", "support_url is not set: error pages tell buyers nobody to ask.")


def without_secrets(url: str) -> str:
    """The URL as it may be shown: without what may hold a secret, the user name and password, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _shown(support_url: str) -> str:
    return support_url if urlsplit(support_url).scheme == "mailto" else without_secrets(support_url)


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


def _check_session_domain(domain: str | None, host: str | None) -> Finding:
    check = "session_domain"
    if domain is None:
        return ok(check, "Registration cookies stay with the one host that sets them.")
    if "." not in domain.strip("."):
        return problem(
            check,
            f"session_domain {domain} has no dot inside, and browsers share no cookie among all hosts of a top-level "
            "domain.",
            "Leave session_domain out, or set it to a domain of your own, such as example.com.",
        )
    if host and not _covers(domain, host):
        return problem(
            check,
            f"session_domain {domain} does not cover {host}: browsers refuse the cookie, and no registration is there "
            "on the signup page.",
            f"Leave session_domain out, or set it to {host} or a domain above it.",
        )
    # Which domains are public suffixes is a long list that changes, and browsers have it.
    return ok(
        check,
        f"Registration cookies are shared with all of {domain}, and each host there can set one; not so if it is a "
        "public suffix, such as co.uk.",
    )


def _check_signup_url(settings: MarketplaceSettings, domain: str | None, host: str | None) -> Finding:
    """Whether the cookie that the landing URL sets gets to where buyers go next."""
    check, parts = "signup_url", urlsplit(settings.signup_url)
    if not parts.netloc:
        return ok(check, f"Buyers go on to {parts.path} of the same host.")
    signup = parts.hostname or ""
    if settings.https_only and parts.scheme == "http" and signup not in LOOPBACK:
        return problem(
            check,
            f"signup_url is plain http on {signup}, where browsers send no cookie that is for HTTPS only: buyers "
            "arrive without their registration.",
            "Set signup_url to the https URL.",
        )
    reaches = _covers(domain, signup) if domain else host == signup
    if reaches:
        return ok(check, f"Buyers go on to {signup}, and so do registration cookies.")
    if domain is None and host is None:
        return skipped(check, f"Buyers go on to {signup}. With --url it can be told whether cookies do.")
    return problem(
        check,
        f"signup_url is on {signup}, and registration cookies stay with {domain or host}: buyers arrive without "
        "their registration.",
        "Set signup_url to a path of the host that AWS Marketplace sends buyers to, or session_domain to a domain of "
        "yours that is above both hosts.",
    )


def _covers(domain: str, host: str) -> bool:
    return f".{host}".endswith(f".{domain}")
