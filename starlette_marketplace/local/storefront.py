"""The pages that a buyer sees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from starlette.responses import HTMLResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from .scenarios import RARE_TROUBLES, SUBSCRIPTIONS, TROUBLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from .buyers import Buyer

_HERE = Path(__file__).parent

_HEADERS = {
    "Cache-Control": "no-store",
    # No `form-action`: browsers apply it to redirects too, and where the app sends its buyers is its own affair.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}


class Storefront:
    """The marketplace as a buyer sees it."""

    def __init__(self) -> None:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._template = environment.get_template("storefront.html")
        self.static = Mount("/static", StaticFiles(directory=_HERE / "static"), name="static")

    def show(self, buyer: Buyer, *, registration_url: str, issue_token: Callable[[str], str]) -> HTMLResponse:
        """Show what the buyer has subscribed to, with a fresh token behind every button."""
        page = self._template.render(
            buyer=buyer,
            subscriptions=SUBSCRIPTIONS,
            troubles=TROUBLES,
            rare_troubles=RARE_TROUBLES,
            registration_url=registration_url,
            issue_token=issue_token,
        )
        return HTMLResponse(page, headers=_HEADERS)
