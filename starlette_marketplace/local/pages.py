"""What all pages have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import FormData
    from starlette.requests import Request

_HERE = Path(__file__).parent

_POLICY = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"

SCRIPTED = "; script-src 'self'; connect-src 'self'"
"""What a page with a script allows in addition."""


class Pages:
    """The templates, and the files that pages load."""

    def __init__(self) -> None:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment = environment
        self.static: Mount = Mount("/static", StaticFiles(directory=_HERE / "static"), name="static")

    def show(
        self,
        template: str,
        values: Mapping[str, object],
        *,
        status: int = 200,
        allows: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> HTMLResponse:
        """Show a page.

        Args:
            template: The file in `templates`.
            values: What it shows.
            status: The HTTP status.
            allows: What the page's Content-Security-Policy allows beyond a style sheet.
            headers: Further headers.
        """
        # No `form-action`: browsers apply it to redirects too, and where the app sends its buyers is its own affair.
        fixed = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": _POLICY + allows,
            "X-Content-Type-Options": "nosniff",
        }
        page = self._environment.get_template(template).render(values)
        return HTMLResponse(page, status, headers={**fixed, **(headers or {})})


def refuse(message: str, status: int) -> PlainTextResponse:
    """Say in a sentence why a form is refused that no page of ours has, or has no longer."""
    return PlainTextResponse(f"{message}\n", status, {"X-Content-Type-Options": "nosniff"})


def text_field(form: FormData, name: str) -> str:
    """Read a field of a form; empty when it is not there or is a file."""
    value = form.get(name)
    return value if isinstance(value, str) else ""


def address_of(request: Request) -> str:
    """Give the address of the marketplace as this browser has found it, without a slash at the end."""
    return str(request.base_url).rstrip("/")
