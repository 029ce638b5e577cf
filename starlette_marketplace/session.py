"""The registration session: one signed cookie for each registration.

It is not the host's `request.session`. Browsers do not send the host's SameSite=Lax cookie along with the cross-site
POST of AWS Marketplace, so writing that session there would replace the one of a buyer who is logged in.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from itsdangerous import BadSignature, Signer
from starlette.responses import Response

from .clocks import wall_clock
from .customer import ID_LENGTH, Registration
from .keys import Keys
from .settings import accepts_product

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from .settings import MarketplaceSettings

# RFC 6265bis, section 5.6: browsers ignore a cookie whose name and value are longer together.
_MAX_COOKIE_SIZE = 4096
_SAME_SITE: Literal["lax"] = "lax"  # Strict is not sent on the GET that follows a cross-site POST.

_to_json = json.JSONEncoder(separators=(",", ":")).encode
_from_json = json.JSONDecoder().decode


class RegistrationSession:
    """Reads and writes the registration cookies, and is the only one to know their names.

    Args:
        settings: Keys, names and lifetimes.
        clock: Seconds since the epoch.
    """

    # The clocks of several machines differ a little.
    _CLOCK_SKEW = 30.0

    def __init__(self, settings: MarketplaceSettings, *, clock: Callable[[], float] = wall_clock) -> None:
        self._keys = Keys(settings, "session")
        host = "" if not settings.https_only else "__Secure-" if settings.session_domain else "__Host-"
        self._prefix = f"{host}{settings.session_cookie}-"
        self._max_age = settings.session_max_age
        self._secure = settings.https_only
        self._domain = settings.session_domain
        self._settings = settings
        self._clock = clock
        template = Response()
        template.set_cookie(
            "name",
            max_age=self._max_age,
            domain=self._domain,
            secure=self._secure,
            httponly=True,
            samesite=_SAME_SITE,
        )
        self._attributes = template.headers["set-cookie"].partition("; ")[2]

    def cookie(self, registration: Registration) -> str:
        """The cookie of `registration`, as a Set-Cookie header says it.

        Hints that would make the cookie larger than browsers take are left out.
        """
        pair = self._sign(registration)
        if len(pair) - len("=") > _MAX_COOKIE_SIZE:
            pair = self._sign(replace(registration, hints={}))
        return f"{pair}; {self._attributes}"

    def delete(self, response: Response, registration: Registration) -> None:
        """Make `response` remove the cookie of `registration`."""
        response.delete_cookie(
            self._prefix + registration.id,
            domain=self._domain,
            secure=self._secure,
            httponly=True,
            samesite=_SAME_SITE,
        )

    def registrations(self, connection: HTTPConnection) -> list[Registration]:
        """The registrations whose cookies came with `connection` and hold, newest first."""
        found = [
            registration
            for name, value in connection.cookies.items()
            if name.startswith(self._prefix) and (registration := self._verify(name, value))
        ]
        return sorted(found, key=lambda registration: registration.resolved_at, reverse=True)

    def registration(self, connection: HTTPConnection, registration_id: str) -> Registration | None:
        """The registration of that id, None when its cookie did not come or does not hold."""
        name = self._prefix + registration_id
        value = connection.cookies.get(name)
        return None if value is None else self._verify(name, value)

    def _signer(self) -> Signer:
        return Signer(self._keys.all(), key_derivation="none", digest_method=hashlib.sha256)

    def _sign(self, registration: Registration) -> str:
        # The name is signed along, so that a cookie cannot be moved to another registration's. Nothing in name or value
        # has to be quoted.
        payload = urlsafe_b64encode(_to_json(registration.to_dict()).encode()).decode().rstrip("=")
        return self._signer().sign(f"{self._prefix}{registration.id}={payload}").decode()

    def _verify(self, name: str, value: str) -> Registration | None:
        # Another app's prefix may begin with ours.
        if len(name) != len(self._prefix) + ID_LENGTH:
            return None
        try:
            pair = self._signer().unsign(f"{name}={value}")
            payload = urlsafe_b64decode(pair[len(name) + 1 :] + b"==")  # Too much padding does no harm.
            registration = Registration.from_dict(_from_json(payload.decode()))
        except (BadSignature, ValueError, RecursionError):
            return None
        # One key and one cookie name may be those of several apps, and product_codes change.
        if not accepts_product(self._settings, registration.customer.product_code):
            return None
        age = self._clock() - registration.resolved_at.timestamp()
        return registration if -self._CLOCK_SKEW <= age <= self._max_age else None
