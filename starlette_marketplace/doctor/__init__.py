"""`starlette-marketplace doctor`: what is wrong between a host and AWS Marketplace, and how to put it right.

It asks AWS twice, for the caller's identity and for the customer of a token that it has made up, and uses the shared
cache with a key of its own that is gone in a moment; it changes nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping

from .aws import Clock, utc_now
from .cache import check_cache
from .client import check_aws
from .configuration import check_configuration
from .findings import TOPICS, Finding, Status, as_json, as_text, is_fine, ok, skipped
from .host import settings_from, settings_from_env, unknown_variables
from .landing import check_landing

__all__ = ["Finding", "Status", "as_json", "as_text", "examine", "is_fine"]


def examine(
    environ: Mapping[str, str],
    *,
    target: str | None = None,
    url: str | None = None,
    token: str | None = None,
    clock: Clock = utc_now,
    limit: float | None = None,
) -> Iterator[Finding]:
    """Make every check, one after the other.

    Args:
        environ: The environment variables.
        target: What has the settings, as `module:attribute`; None takes them from the environment.
        url: The landing URL in public; None leaves it out.
        token: A registration token that AWS cannot know; made up when None.
        clock: The local time, aware.
        limit: Seconds for each check; None takes 10 for the shared cache, 30 for AWS and 15 for the landing URL.
    """
    # AWS's alphabet, with what a form has to escape; new each time, as hosts keep what AWS said of a token.
    token = token or f"starlette-marketplace-doctor+/{secrets.token_urlsafe(16)}=="
    limits = {} if limit is None else {"limit": limit}
    settings = settings_from_env(environ) if target is None else settings_from(target)
    if isinstance(settings, list):
        yield from settings
    else:
        yield ok("settings", f"The settings {f'of {target}' if target else 'in the environment'} are valid.")
    unknown = list(unknown_variables(environ, all_are_ours=target is None))
    yield from unknown or [ok("variables", "No variable in the environment is misspelt.")]
    signup_url = None
    if isinstance(settings, list):
        for check in (*TOPICS["Settings"][2:], *TOPICS["Shared cache"], *TOPICS["AWS"]):
            yield skipped(check, "The settings have to be valid first.")
    else:
        signup_url = settings.signup_url
        yield from check_configuration(settings, url)
        yield from check_cache(settings, **limits)
        yield from check_aws(settings, clock=clock, token=token, **limits)
    yield from check_landing(url, token=token, signup_url=signup_url, **limits)
