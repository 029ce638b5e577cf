"""`starlette-marketplace doctor`: what is wrong between an app and AWS Marketplace, and how to put it right.

It asks AWS for the caller's identity, and for the customer of a token, entitlements of a license and an agreement that
it has made up, and uses the shared cache with a key of its own that is gone in a moment. It changes nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping

from .case import Case, Clock, utc_now
from .checks import walk
from .findings import Finding, Status, is_fine
from .report import as_json, as_text

__all__ = ["Finding", "Status", "as_json", "as_text", "examine", "is_fine"]


def examine(
    environ: Mapping[str, str],
    *,
    target: str | None = None,
    url: str | None = None,
    token: str | None = None,
    clock: Clock = utc_now,
    limit: float = 30.0,
) -> Iterator[Finding]:
    """Make every check, one after the other.

    Args:
        environ: The environment variables.
        target: What has the settings, as `module:attribute`; None takes them from the environment.
        url: The fulfillment URL in public; None leaves it out.
        token: A registration token that AWS cannot know; made up when None.
        clock: The local time, aware.
        limit: Seconds for each thing that is waited for.
    """
    # AWS's alphabet, with what a form has to escape; new each time, as apps keep what AWS said of a token.
    token = token or f"starlette-marketplace-doctor+/{secrets.token_urlsafe(16)}=="
    case = Case(environ=environ, target=target, url=url or "", token=token, clock=clock, limit=limit)
    yield from walk(case)
