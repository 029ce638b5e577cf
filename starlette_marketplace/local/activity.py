"""What happens between the seller's app and AWS, and how AWS behaves meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from .conditions import CONDITIONS
from .pages import SCRIPTED, address_of, text_field
from .registrations import group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from .calls import CallLog
    from .conditions import Conditions
    from .pages import Pages

MOST_SHOWN = 50
"""How many registrations, and operations whose calls are about none, the page shows."""


class Activity:
    """The page that shows every call while it happens, and its controls.

    Args:
        conditions: What is set.
        calls: The calls that are shown.
        pages: Shows the page.
    """

    def __init__(self, conditions: Conditions, calls: CallLog, pages: Pages) -> None:
        self._conditions = conditions
        self._calls = calls
        self._pages = pages
        self.routes: list[Route] = [
            Route("/activity", self._show),
            Route("/activity/registrations", self._show_registrations),
            Route("/conditions", self._set_conditions, methods=["POST"]),
        ]

    async def _show(self, request: Request) -> Response:
        return self._show_with(request, self._conditions.show())

    async def _show_registrations(self, request: Request) -> Response:
        """Give the script what has changed, if anything has."""
        values = self._values()
        if request.headers.get("if-none-match") == values["etag"]:
            return Response(status_code=304)
        return self._pages.show("registrations.html", values, headers={"ETag": str(values["etag"])})

    async def _set_conditions(self, request: Request) -> Response:
        async with request.form() as form:
            typed = {condition.name: text_field(form, condition.name) for condition in CONDITIONS}
        errors = self._conditions.read(typed)
        if errors:
            return self._show_with(request, typed, errors)
        return RedirectResponse("activity", status_code=303)

    def _show_with(
        self, request: Request, conditions: Mapping[str, str], errors: Mapping[str, str] | None = None
    ) -> Response:
        values = {
            **self._values(),
            "address": address_of(request),
            "all_conditions": CONDITIONS,
            "conditions": conditions,
            "errors": errors or {},
        }
        return self._pages.show("activity.html", values, status=400 if errors else 200, allows=SCRIPTED)

    def _values(self) -> dict[str, object]:
        version, calls = self._calls.snapshot()
        registrations = group(calls)
        return {
            "etag": f'"{version}"',
            "registrations": registrations[:MOST_SHOWN],
            "number_of_registrations": len(registrations),
            "number_of_calls": len(calls),
        }
