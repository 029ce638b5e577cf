"""The form that *Set up your account* posts to the seller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tokens import shorten

if TYPE_CHECKING:
    from .agreements import Agreement
    from .conditions import Conditions
    from .ledger import Ledger
    from .tokens import TokenStore


class RegistrationForms:
    """Fills in the form, each time with a fresh registration token.

    Args:
        conditions: Where the form is posted to.
        ledger: The agreements.
        tokens: Issues the tokens.
    """

    def __init__(self, conditions: Conditions, ledger: Ledger, tokens: TokenStore) -> None:
        self._conditions = conditions
        self._ledger = ledger
        self._tokens = tokens

    @property
    def url(self) -> str:
        """Where the form is posted to."""
        return self._conditions.registration_url

    def fields(self, agreement: Agreement) -> dict[str, str]:
        """Give the fields of the form by their names."""
        token = self._tokens.issue(agreement.scenario, self._ledger.chain_of(agreement))
        trial = {"x-amzn-marketplace-offer-type": "free-trial"} if agreement.free_trial_ends_at else {}
        return {"x-amzn-marketplace-token": token, **trial}

    def show(self, name: str, value: str) -> str:
        """Show a field's value, a token shortened."""
        return shorten(value) if name.endswith("-token") else value
