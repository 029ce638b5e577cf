"""What a resolution is kept under, and for how long: in memory and in the shared cache alike."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import MarketplaceError, TokenError

if TYPE_CHECKING:
    from ..customer import MarketplaceCustomer
    from ..keys import Keys
    from ..settings import MarketplaceSettings

# A reload of the error page costs no call, and a mistake does not last.
_VERDICT_TTL = 60.0


@dataclass(frozen=True, slots=True)
class HiddenToken:
    """A registration token on its way to AWS.

    Error trackers send the local variables of every frame along with a log line, so a frame that calls what may log
    holds a token only like this.

    Attributes:
        value: The token.
    """

    value: str = field(repr=False)

    def is_quoted_in(self, text: str) -> bool:
        """Whether `text` has the token in it. Something very short is no token, and may be part of any word."""
        return len(self.value) >= 8 and self.value in text


def key_of(token: HiddenToken, keys: Keys) -> str:
    """The key under which the outcome of `token` is kept, which tells nothing of the token without the secret key."""
    return hmac.digest(keys.newest(), token.value.encode(), hashlib.sha256).hex()


def lifetime(outcome: MarketplaceCustomer | MarketplaceError, settings: MarketplaceSettings) -> float:
    """Seconds that `outcome` is kept: a customer for `cache_ttl`, a verdict on the token for a minute at most.

    Other errors are not kept: they are our own, and trying again may help.
    """
    if isinstance(outcome, MarketplaceError):
        return min(settings.cache_ttl, _VERDICT_TTL) if isinstance(outcome, TokenError) else 0.0
    return settings.cache_ttl
