"""Registration tokens and what they stand for."""

from __future__ import annotations

import base64
import secrets
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from .answers import Members
    from .chains import Chain
    from .scenario import Scenario

# Three bytes that read `+/+/` in base64: a token without them would not show a mistake in the form's encoding.
_AWKWARD = base64.b64decode("+/+/")

# A text shorter than this has too little left when its ends are shown.
_SHORTEST_TO_SHOW = 40


def shorten(secret: str) -> str:
    """Give the first six and the last four characters of a token, and none of one that is short."""
    return f"{secret[:6]}…{secret[-4:]}" if len(secret) >= _SHORTEST_TO_SHOW else "…"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a registration token stands for: how calls go, and whom it identifies.

    Attributes:
        chain: The agreement, and those that follow it.
        issued_at: When the token was issued, by the store's timer.
        used: Whether AWS was asked before.
    """

    scenario: Scenario
    chain: Chain
    issued_at: float
    used: bool = False

    def answer(self, identity: Members) -> Response:
        """Make AWS's answer to a call.

        Args:
            identity: What it is on a good day.
        """
        first_answer = None if self.used else self.scenario.first_answer
        return (first_answer or self.scenario.answer)(identity)


class TokenStore:
    """The tokens that were issued, oldest out first. Tests issue them in another thread than the server's."""

    def __init__(self, limit: int, timer: Callable[[], float]) -> None:
        self._limit = limit
        self._timer = timer
        self._grants: dict[str, Grant] = {}
        self._lock = threading.Lock()

    @property
    def latest(self) -> Chain | None:
        """The agreement whose token was issued last; None when no token is remembered."""
        with self._lock:
            return next((grant.chain for grant in reversed(self._grants.values())), None)

    def issue(self, scenario: Scenario, chain: Chain) -> str:
        """Make a fresh token."""
        # 184 characters of standard base64 ending in `==`, as the tokens of AWS.
        token = base64.b64encode(secrets.token_bytes(66) + _AWKWARD + secrets.token_bytes(67)).decode()
        with self._lock:
            self._grants[token] = Grant(scenario, chain, self._timer())
            if len(self._grants) > self._limit:
                del self._grants[next(iter(self._grants))]
        return token

    def find(self, token: str) -> Grant | None:
        """Look a token up; None when it was never issued or is forgotten."""
        return self._grants.get(token)

    def use(self, token: str) -> Grant | None:
        """Look a token up for a call that is answered by it."""
        with self._lock:
            grant = self._grants.get(token)
            if grant:
                self._grants[token] = replace(grant, used=True)
        return grant

    def clear(self) -> None:
        """Forget every token."""
        with self._lock:
            self._grants.clear()
