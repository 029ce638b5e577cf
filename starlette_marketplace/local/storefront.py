"""The marketplace as a buyer sees it, and what a seller has to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from .environment import ENDPOINTS
from .pages import SCRIPTED, address_of, refuse, text_field
from .products import PRODUCT_CODES
from .reading_troubles import READING_TROUBLES
from .scenarios import RARE_TROUBLES, SUBSCRIPTIONS, TROUBLES, find_scenario
from .tokens import shorten

if TYPE_CHECKING:
    from starlette.requests import Request

    from .agreements import Agreement
    from .buyers import Buyers
    from .conditions import Conditions
    from .ledger import Ledger
    from .pages import Pages
    from .scenario import Scenario
    from .tokens import TokenStore


class Storefront:
    """The pages that are clicked.

    Args:
        conditions: What is shown of AWS, and where buyers are sent.
        buyers: Who can shop.
        ledger: What they have agreed to.
        tokens: Issues the tokens.
        pages: Shows the pages.
    """

    def __init__(
        self, conditions: Conditions, buyers: Buyers, ledger: Ledger, tokens: TokenStore, pages: Pages
    ) -> None:
        self._conditions = conditions
        self._buyers = buyers
        self._ledger = ledger
        self._tokens = tokens
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
            "registration_url": self._conditions.registration_url,
            "fields_for": self._fields_for,
            "shorten": shorten,
            "conditions": self._conditions.show(),
        }
        return self._pages.show("storefront.html", values)

    def _fields_for(self, scenario: Scenario, agreement: Agreement) -> dict[str, str]:
        """Give the fields of the form that the marketplace posts to the seller, with a fresh token."""
        token = self._tokens.issue(scenario, self._ledger.chain_of(agreement))
        trial = {"x-amzn-marketplace-offer-type": "free-trial"} if scenario.free_trial else {}
        return {"x-amzn-marketplace-token": token, **trial}

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
        values = {
            "address": address_of(request),
            "endpoints": ENDPOINTS,
            "port": request.url.port or 80,
            "registration_url": self._conditions.registration_url,
            "product_codes": PRODUCT_CODES,
        }
        return self._pages.show("connect.html", values, allows=SCRIPTED)
