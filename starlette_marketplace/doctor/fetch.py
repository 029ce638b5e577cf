"""Asking a URL of the app, as a buyer's browser does."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin, urlsplit

from .._version import __version__
from ..errors import MarketplaceError
from .case import within

_MAX_BODY = 262_144
_REGISTRATION_COOKIE = re.compile(r"[\w-]+-[0-9a-f]{24}=[^;]*")
# As the browser of a buyer sends it, who comes from another site. `Origin` may be null there.
_FORM_HEADERS = {
    "Content-Type": "application/x-www-form-urlencoded",
    "Origin": "null",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "cross-site",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        method: How it was asked.
        url: What was asked.
        status: The HTTP status.
        text: The beginning of the body.
        location: Where a redirect leads; empty when that is not a URL.
        registration: The cookie of a registration that it sets, as a browser sends it; empty when it sets none.
    """

    method: str
    url: str
    status: int
    text: str
    location: str
    registration: str

    @property
    def code(self) -> str:
        """The code of the package's JSON error, empty when it is not one."""
        try:
            code = json.loads(self.text)["error"]["code"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return ""
        return code if isinstance(code, str) else ""


def without_secrets(url: str) -> str:
    """The URL as it may be shown: without what may hold a secret, the user name and password, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def fetch(
    url: str, limit: float, *, form: dict[str, str] | None = None, cookie: str = "", accept: str = "*/*"
) -> Answer:
    """The answer to a GET, or to a POST of `form`. No redirect is followed.

    Raises:
        MarketplaceError: There is none.
    """
    method, body = ("GET", None) if form is None else ("POST", urlencode(form).encode())
    headers = {"User-Agent": f"starlette-marketplace-doctor/{__version__}", "Accept": accept}
    headers |= (_FORM_HEADERS if form else {}) | ({"Cookie": cookie} if cookie else {})
    try:
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - http or https, as checked.
        return within(limit, lambda: _send(request, limit))
    except (OSError, http.client.HTTPException, ValueError) as exc:
        reason, advice = _explain(exc, url, limit)
        failure = MarketplaceError(f"{method} gets no answer: {reason}.", advice)
    raise failure


def _send(request: urllib.request.Request, limit: float) -> Answer:
    # Without the handlers of errors and redirects: each answer is to be looked at, and none followed. The form would go
    # to a place that nobody named.
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler()):
        opener.add_handler(handler)
    with opener.open(request, timeout=limit) as response:
        text = response.read(_MAX_BODY).decode("utf-8", "replace")
        cookies = map(_REGISTRATION_COOKIE.match, response.headers.get_all("Set-Cookie", []))
        location = _absolute(request.full_url, response.headers.get("Location", ""))
    registration = next((cookie[0] for cookie in cookies if cookie), "")
    return Answer(request.get_method(), request.full_url, response.status, text, location, registration)


def _absolute(base: str, location: str) -> str:
    try:
        url = urljoin(base, location) if location else ""
        urlsplit(url)
    except ValueError:
        return ""
    return url


def _explain(exc: Exception, url: str, limit: float) -> tuple[str, str]:
    """What it means that there was no answer, and what to do."""
    reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({reason.verify_message})",
            "Install a certificate of a public authority for this host name, with its intermediate certificates.",
        )
    if isinstance(reason, ssl.SSLError):
        return f"there is no TLS ({reason.reason})", "Serve HTTPS on this port, by TLS 1.2 or newer."
    if isinstance(reason, TimeoutError):
        return f"no answer within {limit:g} seconds", "Check that your app is running, and firewalls on the way."
    parts = urlsplit(url)
    is_proxied = parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.netloc)
    proxy = f", and the proxy in {parts.scheme.upper()}_PROXY" if is_proxied else ""
    # Name resolution, a refused connection, a proxy, an answer that is no HTTP. The text of other errors may quote the
    # address of a proxy, with its password.
    text = getattr(reason, "strerror", None) or (str(reason) if isinstance(reason, OSError) else type(exc).__name__)
    return text, f"Check the name in the DNS, the port, that your app is running{proxy}."
