"""The marketplace as a buyer sees it, and what a seller has to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from .environment import KEY_COMMAND, export_lines
from .pages import SCRIPTED, address_of, refuse, text_field
from .products import PRODUCT_CODES
from .reading_troubles import READING_TROUBLES
from .scenarios import RARE_TROUBLES, SUBSCRIPTIONS, TROUBLES, find_scenario

if TYPE_CHECKING:
    from starlette.requests import Request

    from .buyers import Buyers
    from .conditions import Conditions
    from .forms import RegistrationForms
    from .pages import Pages


class Storefront:
    """The pages that are clicked.

    Args:
        conditions: What is shown of AWS, and where buyers are sent.
        buyers: Who can shop.
        forms: Fills in *Set up your account*.
        pages: Shows the pages.
    """

    def __init__(self, conditions: Conditions, buyers: Buyers, forms: RegistrationForms, pages: Pages) -> None:
        self._conditions = conditions
        self._buyers = buyers
        self._forms = forms
        self._pages = pages
        self.routes: list[Route] = [
            Route("/", self._show),
            Route("/buyer", self._change_buyer, methods=["POST"]),
            Route("/agreements", self._buy_again, methods=["POST"]),
            Route("/connect", self._show_how_to_connect),
        ]

    async def _show(self, request: Request) -> Response:
        values = {
            "buyer": self._buyers.current,
            "buyers_before": self._buyers.others,
            "subscriptions": SUBSCRIPTIONS,
            "troubles": TROUBLES,
            "rare_troubles": RARE_TROUBLES,
            "reading_troubles": READING_TROUBLES,
            "forms": self._forms,
            "conditions": self._conditions.show(),
        }
        return self._pages.show("storefront.html", values)

    async def _change_buyer(self, request: Request) -> Response:
        async with request.form() as form:
            account_id = text_field(form, "account_id")
        if not account_id:
            self._buyers.add()
            return RedirectResponse("./", status_code=303)
        try:
            self._buyers.go_back_to(account_id)
        except LookupError:
            return refuse("This buyer is no longer kept: go back and reload the page.", 404)
        return RedirectResponse("./", status_code=303)

    async def _buy_again(self, request: Request) -> Response:
        async with request.form() as form:
            scenario = text_field(form, "scenario")
        try:
            self._buyers.current.buy_again(find_scenario(scenario))
        except ValueError as exc:
            return refuse(str(exc), 400)
        return RedirectResponse(f"./#{scenario}", status_code=303)

    async def _show_how_to_connect(self, request: Request) -> Response:
        address = address_of(request)
        values = {
            "address": address,
            "exports": export_lines(address, secret_key=KEY_COMMAND),
            "port": request.url.port or 80,
            "registration_url": self._conditions.registration_url,
            "product_codes": PRODUCT_CODES,
        }
        return self._pages.show("connect.html", values, allows=SCRIPTED)
