"""The page of one subscription, on which everything can be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from .actions import ACTIONS, Choice, find_action
from .ledger import PREPARATION
from .pages import text_field
from .summaries import end_behavior

if TYPE_CHECKING:
    from starlette.requests import Request

    from .buyers import Buyers
    from .chains import Chain
    from .forms import RegistrationForms
    from .ledger import Ledger
    from .pages import Pages

_NEW = "new"


class Manage:
    """The pages that show an agreement as AWS has it, and change it.

    Args:
        buyers: Whose agreements they may be.
        ledger: The agreements.
        forms: Fills in *Set up your account*.
        pages: Shows the pages.
    """

    def __init__(self, buyers: Buyers, ledger: Ledger, forms: RegistrationForms, pages: Pages) -> None:
        self._buyers = buyers
        self._ledger = ledger
        self._forms = forms
        self._pages = pages
        self.routes: list[Route] = [Route("/manage", self._show), Route("/manage", self._act, methods=["POST"])]

    async def _show(self, request: Request) -> Response:
        done = request.query_params.get("done")
        note = next((action.done for action in ACTIONS if action.name == done), "")
        try:
            chain, agreement_id = self._find(request.query_params.get("agreement", ""))
        except ValueError as exc:
            return self._show_unknown(exc)
        return self._show_agreement(chain, agreement_id, note=note)

    async def _act(self, request: Request) -> Response:
        async with request.form() as form:
            name, action_name = text_field(form, "agreement"), text_field(form, "action")
            choice = Choice(plan=text_field(form, "plan"), new_license=text_field(form, "license") == _NEW)
        try:
            chain, agreement_id = self._find(name)
        except ValueError as exc:
            return self._show_unknown(exc)
        try:
            action = find_action(action_name)
            self._ledger.change(agreement_id, action.action, action.change(choice))
        except ValueError as exc:
            return self._show_agreement(chain, agreement_id, error=str(exc), tried=action_name, choice=choice)
        return RedirectResponse(f"manage?agreement={chain.newest.id}&done={action.name}", status_code=303)

    def _find(self, name: str) -> tuple[Chain, str]:
        agreement = self._ledger.find(name)
        return self._ledger.chain_of(agreement), agreement.id

    def _show_agreement(
        self,
        chain: Chain,
        agreement_id: str,
        *,
        note: str = "",
        error: str = "",
        tried: str = "",
        choice: Choice | None = None,
    ) -> Response:
        newest = self._ledger.newest_of(chain)
        agreement = next(each for each in chain.agreements if each.id == agreement_id)
        values = {
            "agreement": agreement,
            "newest": newest,
            "chain": chain,
            "buyer": self._buyers.find(agreement.account_id),
            "end_behavior": end_behavior(agreement),
            "preparation": PREPARATION,
            "actions": [action for action in ACTIONS if agreement == newest and action.is_possible(agreement)],
            "forms": self._forms,
            "note": note,
            "error": error,
            "tried": tried,
            "choice": choice or Choice(),
        }
        return self._pages.show("manage.html", values, status=400 if error else 200)

    def _show_unknown(self, exc: ValueError) -> Response:
        return self._pages.show("unknown.html", {"error": str(exc)}, status=404)
