"""The registration session: one signed cookie for each registration.

It is not the host's `request.session`. Browsers do not send the host's SameSite=Lax cookie along with the cross-site
POST of AWS Marketplace, so writing that session there would replace the one of a buyer who is logged in.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from itsdangerous import BadSignature, Signer
from starlette.responses import Response

from ..clocks import wall_clock
from ..customer import ID_LENGTH, Registration
from ..keys import Keys
from ..settings import accepts_product, is_identified

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from ..settings import MarketplaceSettings

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
        # Made anew only when the keys change, and not for each cookie.
        self._known_signer: tuple[list[bytes], Signer] = ([], Signer(b""))
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
            for name, value in _cookies(connection)
            if name.startswith(self._prefix) and (registration := self._verify(name, value))
        ]
        if len(found) < 2:
            return found
        newest: dict[str, Registration] = {}
        for registration in sorted(found, key=lambda registration: registration.resolved_at, reverse=True):
            # A name comes twice when another path or domain has a cookie of that name.
            newest.setdefault(registration.id, registration)
        return list(newest.values())

    def registration(self, connection: HTTPConnection, registration_id: str) -> Registration | None:
        """The registration of that id, None when its cookie did not come or does not hold."""
        found = self.registrations(connection)
        return next((registration for registration in found if registration.id == registration_id), None)

    def _signer(self) -> Signer:
        known, signer = self._known_signer
        keys = self._keys.all()
        if keys is not known:
            signer = Signer(keys, key_derivation="none", digest_method=hashlib.sha256)
            self._known_signer = (keys, signer)
        return signer

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
        # One key and one cookie name may be those of several apps, and the lists of product codes change.
        customer = registration.customer
        if not accepts_product(self._settings, customer.product_code) or not is_identified(self._settings, customer):
            return None
        age = self._clock() - registration.resolved_at.timestamp()
        return registration if -self._CLOCK_SKEW <= age <= self._max_age else None


def _cookies(connection: HTTPConnection) -> Iterator[tuple[str, str]]:
    """The cookies of `connection`, as the browser sent them.

    Not `connection.cookies`: Starlette strips more than the space and the tab that separate cookies, among it U+00A0.
    So a cookie that a subdomain has set under a name that begins with it would pass for one with the prefix `__Host-`.
    """
    for header, text in connection.scope["headers"]:
        if header == b"cookie":
            for pair in text.decode("latin-1").split(";"):
                name, _, value = pair.partition("=")
                yield name.strip(" \t"), value.strip(" \t")
