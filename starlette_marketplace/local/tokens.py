"""Registration tokens and what they stand for."""

from __future__ import annotations

import base64
import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .scenarios import Scenario

# Three bytes that read `+/+/` in base64: a token without them would not show a mistake in the form's encoding.
_AWKWARD = base64.b64decode("+/+/")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a registration token stands for: how the call goes, and whom it identifies."""

    scenario: Scenario
    identity: Mapping[str, object]


class TokenStore:
    """The tokens that were issued, oldest out first. Tests issue them in another thread than the server's."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._grants: dict[str, Grant] = {}
        self._lock = threading.Lock()

    def issue(self, grant: Grant) -> str:
        """Make a fresh token, which resolves for as long as it is kept."""
        # 184 characters of standard base64 ending in `==`, as the tokens of AWS.
        token = base64.b64encode(secrets.token_bytes(66) + _AWKWARD + secrets.token_bytes(67)).decode()
        with self._lock:
            self._grants[token] = grant
            if len(self._grants) > self._limit:
                del self._grants[next(iter(self._grants))]
        return token

    def find(self, token: str) -> Grant | None:
        """Look a token up; None when it was never issued or is forgotten."""
        return self._grants.get(token)

    def clear(self) -> None:
        """Forget every token."""
        with self._lock:
            self._grants.clear()
