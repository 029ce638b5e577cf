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

    A page of another site can post a form here, load our pages for the tokens that each view costs, and by DNS
    rebinding read them under its own name. Browsers tell by Sec-Fetch-Site or Origin where a request comes from, and by
    Host under which name they came. SDKs send neither of the first two, and may come by any name, as they do out of
    containers.

    Args:
        app: The ASGI app.
        serves_sdks: Whether it is meant for others than browsers.
    """

    def __init__(self, app: ASGIApp, *, serves_sdks: bool = False) -> None:
        self._app = app
        self._serves_sdks = serves_sdks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it; a WebSocket is the app's affair, which has none."""
        refusal = self._refuse(scope["method"], Headers(scope=scope)) if scope["type"] == "http" else None
        app = PlainTextResponse(f"{refusal}\n", 403, {"X-Content-Type-Options": "nosniff"}) if refusal else self._app
        await app(scope, receive, send)

    def _refuse(self, method: str, headers: Headers) -> str | None:
        is_browser = "origin" in headers or "sec-fetch-site" in headers
        return None if self._serves_sdks and not is_browser else _refuse_browser(method, headers)


def _refuse_browser(method: str, headers: Headers) -> str | None:
    host, origin, site = headers.get("host", ""), headers.get("origin"), headers.get("sec-fetch-site")
    if not _LOOPBACK.fullmatch(host):
        return (
            "The local marketplace shows its pages under the names localhost, 127.0.0.1 and [::1] only, so that no web "
            "site can read them under its own."
        )
    if method == "POST":
        # None is what people do by the browser itself, such as a reload.
        is_ours = site in ("same-origin", "none") if site else origin in (None, f"http://{host}", f"https://{host}")
        return None if is_ours else "The local marketplace takes this from its own pages only."
    is_opened = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
    if site == "cross-site" and not is_opened:
        return "Another web site can lead to the pages of the local marketplace, and not load them by itself."
    return None
