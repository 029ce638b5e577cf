"""Who may use the pages: a browser on this machine, sent by no other site."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_LOOPBACK = re.compile(r"(localhost|[a-z0-9.-]+\.localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE | re.ASCII)


class Guard:
    """Refuses what a web page from elsewhere can make a browser send.

    A page of another site can post a form here, and by DNS rebinding read our pages under its own name. Browsers tell
    by Sec-Fetch-Site or Origin where a POST comes from, and by Host under which name they came. SDKs need no such
    guard: what they ask cannot be asked by a form, and they may come by any name, as they do out of containers.

    Args:
        app: The ASGI app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        refusal = _refuse(scope["method"], Headers(scope=scope))
        app = PlainTextResponse(f"{refusal}\n", 403, {"X-Content-Type-Options": "nosniff"}) if refusal else self._app
        await app(scope, receive, send)


def _refuse(method: str, headers: Headers) -> str | None:
    host, origin, site = headers.get("host", ""), headers.get("origin"), headers.get("sec-fetch-site")
    if not _LOOPBACK.fullmatch(host):
        return (
            "The local marketplace shows its pages under the names localhost, 127.0.0.1 and [::1] only, so that no web "
            "site can read them under its own."
        )
    is_from_us = site == "same-origin" if site is not None else origin in (None, f"http://{host}", f"https://{host}")
    if method == "POST" and not is_from_us:
        return "The local marketplace takes this from its own pages only."
    return None
