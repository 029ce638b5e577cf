"""The checks, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ..errors import MarketplaceError
from . import configuration, connection, host, identity, landing, signup, subscriptions
from .cache import check_cache
from .case import Case
from .findings import Finding, Verdict, skipped

Names: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        topic: The heading that it stands below.
        name: Its name.
        function: Finds out. A MarketplaceError of it is a problem that leaves nothing for those that need this check.
        needs: The checks without which this one makes no sense, and `--url`.
        settings: The settings without which it makes no sense.
    """

    topic: str
    name: str
    function: Callable[[Case], Iterator[Verdict]]
    needs: Names = ()
    settings: Names = ()

    def reason_to_skip(self, case: Case, missing: dict[str, str]) -> str | None:
        """Why it makes no sense, None when it does; `missing` has the reasons of the checks before."""
        for need in self.needs:
            if need in missing:
                return missing[need]
        invalid = [name for name in self.settings if name in case.invalid]
        return f"This needs a valid {invalid[0]}: see settings." if invalid else None


_HAVE: Names = ("settings",)
_KEYS: Names = ("secret_key", "secret_key_fallbacks")
_COOKIE: Names = ("signup_url", "session_domain", "https_only")

CHECKS: tuple[Check, ...] = (
    Check("Settings", "settings", host.check_settings),
    Check("Settings", "variables", host.check_variables),
    Check("Settings", "secret_key", configuration.check_secret_key, _HAVE, _KEYS),
    Check("Settings", "product_codes", configuration.check_product_codes, _HAVE, ("product_codes",)),
    Check("Settings", "https_only", configuration.check_https_only, _HAVE, ("https_only",)),
    Check("Settings", "session_domain", configuration.check_session_domain, _HAVE, ("session_domain",)),
    Check("Settings", "signup_url", configuration.check_signup_url, _HAVE, _COOKIE),
    Check("Shared cache", "shared_cache", check_cache, _HAVE, ("cache_url", "cache_ttl")),
    Check("AWS", "aws_config", connection.check_config, _HAVE, ("profile_name", "endpoint_url")),
    Check("AWS", "region", connection.check_region, ("aws_config",), ("region_name",)),
    Check("AWS", "botocore", connection.check_botocore, ("region",)),
    Check("AWS", "endpoint", connection.check_endpoint, ("region",)),
    Check("AWS", "credentials", identity.check_credentials, ("region",)),
    Check("AWS", "role", identity.check_role, ("credentials",), ("role_arn", "role_external_id")),
    Check("AWS", "account", identity.check_account, ("role",)),
    Check("AWS", "permission", identity.check_permission, ("account",)),
    Check(
        "AWS",
        "entitlements",
        subscriptions.check_entitlements,
        ("account",),
        ("product_codes", "entitlement_endpoint_url"),
    ),
    Check("AWS", "agreements", subscriptions.check_agreements, ("account",), ("agreement_endpoint_url",)),
    Check("AWS", "clock", connection.check_clock, ("region",)),
    Check("Fulfillment URL", "landing_url", landing.check_url, ("--url",)),
    Check("Fulfillment URL", "landing_get", landing.check_get, ("--url",)),
    Check("Fulfillment URL", "landing_post", landing.check_post, ("landing_get",)),
    Check(
        "Fulfillment URL",
        "signup_page",
        signup.check_page,
        ("settings", "landing_post"),
        ("signup_url", "registration_path"),
    ),
    Check(
        "Fulfillment URL",
        "landing_registration",
        signup.check_registration,
        ("landing_post", "region"),
        ("product_codes", "signup_url"),
    ),
)


def walk(case: Case, checks: Iterable[Check] = CHECKS) -> Iterator[Finding]:
    """Make the checks, one after the other, and skip those that make no sense."""
    missing = {} if case.url else {"--url": "Name the fulfillment URL with --url."}
    for check in checks:
        if reason := check.reason_to_skip(case, missing):
            missing[check.name] = reason
            yield Finding(check.name, *skipped(reason))
            continue
        try:
            for verdict in check.function(case):
                yield Finding(check.name, *verdict)
        except MarketplaceError as error:
            missing[check.name] = f"See {check.name}."
            for verdict in host.tell(error):
                yield Finding(check.name, *verdict)
