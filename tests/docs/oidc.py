"""Login providers on a socket: OpenID Connect with a login page of its own, and GitHub's OAuth 2 with its API."""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.support.servers import serve

CLIENT_ID = "acme"
CLIENT_SECRET = "s" * 32
KEY = RSAKey.generate_key(2048, {"kid": "one"})  # what providers publish, and sign by unless a test says otherwise


@dataclass
class Person:
    """Somebody who has an account with the provider; names are their keys in `Provider.people`."""

    subject: str
    email: str
    email_verified: bool = True


class Provider:
    """A provider of logins. Whoever says so on its page is who they are; it remembers that in a cookie.

    It refuses what providers refuse: an unknown client or address to come back to, a code that is used again or comes
    with another verifier.

    Attributes:
        url: Where it is; also its issuer.
        people: Who has an account, by name.
        answers_by_post: Whether it sends people back by response_mode=form_post, whatever the client asked for.
        claims: What it puts into the next ID tokens instead of the truth.
        signing_key: What it signs them by; another one than `KEY` is a forger's.
        redirect_uris: Where it sends people back to.
        asked: The parameters of the authorization requests that it has seen.
    """

    def __init__(self) -> None:
        self.url = ""
        self.people: dict[str, Person] = {}
        self.answers_by_post = False
        self.claims: dict[str, Any] = {}
        self.redirect_uris: set[str] = set()
        self.asked: list[dict[str, str]] = []
        self.signing_key = KEY
        self._codes: dict[str, tuple[str, dict[str, str]]] = {}
        self._access_tokens: dict[str, str] = {}
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata),
                Route("/jwks", self._jwks),
                Route("/authorize", self._authorize, methods=["GET", "POST"]),
                Route("/token", self._token, methods=["POST"]),
                Route("/logout", self._logout),
                Route("/api/user", self._github_user),
                Route("/api/user/emails", self._github_emails),
            ]
        )

    def _metadata(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
                "end_session_endpoint": f"{self.url}/logout",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    def _jwks(self, request: Request) -> Response:
        return JSONResponse({"keys": [KEY.as_dict(private=False)]})

    async def _authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        if query["client_id"] != CLIENT_ID or query["redirect_uri"] not in self.redirect_uris:
            return HTMLResponse("unknown client, or an address that it has not registered", 400)
        if request.method == "GET":
            self.asked.append(query)
            name = request.cookies.get("sso")
            if name is None:
                return HTMLResponse(
                    '<!doctype html><title>Provider</title><form method="post"><label>Name <input name="name"></label>'
                    '<button>Continue</button><button name="refused" value="1">Cancel</button></form>'
                )
        else:
            form = dict(parse_qsl((await request.body()).decode()))
            if "refused" in form:
                return self._answer(query, error="access_denied")
            name = form["name"]
        code = secrets.token_urlsafe()
        self._codes[code] = name, query
        response = self._answer(query, code=code)
        response.set_cookie("sso", name, httponly=True, samesite="lax")
        return response

    def _answer(self, query: dict[str, str], **answer: str) -> Response:
        answer["state"] = query["state"]
        if not self.answers_by_post:
            return RedirectResponse(f"{query['redirect_uri']}?{urlencode(answer)}", 303)
        fields = "".join(f'<input type="hidden" name="{name}" value="{escape(text)}">' for name, text in answer.items())
        return HTMLResponse(
            f'<!doctype html><title>Provider</title><form method="post" action="{escape(query["redirect_uri"])}">'
            f"{fields}<button>Back</button></form>"
        )

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        name, query = self._codes.pop(form["code"], ("", {}))
        credentials = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        verifier = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).decode().rstrip("=")
        if not (
            hmac.compare_digest(credentials, f"{CLIENT_ID}:{CLIENT_SECRET}")
            and query.get("code_challenge_method") == "S256"
            and query.get("code_challenge") == challenge
            and query.get("redirect_uri") == form["redirect_uri"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        token = secrets.token_urlsafe()
        self._access_tokens[token] = name
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": 3600}
        if "openid" in query["scope"].split():
            answer["id_token"] = self._id_token(self.people[name], query)
        return JSONResponse(answer)

    def _id_token(self, person: Person, query: dict[str, str]) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": person.subject,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 3600,
            "nonce": query["nonce"],
            "email": person.email,
            "email_verified": person.email_verified,
        }
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims | self.claims, self.signing_key)

    def _logout(self, request: Request) -> Response:
        query = request.query_params
        if query["client_id"] != CLIENT_ID or query["post_logout_redirect_uri"] not in self.redirect_uris:
            return HTMLResponse("unknown client, or an address that it has not registered", 400)
        response = RedirectResponse(f"{query['post_logout_redirect_uri']}?{urlencode({'state': query['state']})}", 303)
        response.delete_cookie("sso")
        return response

    # What is different with GitHub: numbers for subjects, and e-mail addresses in an answer of their own.

    def _github_user(self, request: Request) -> Response:
        return JSONResponse({"id": int(self._whose(request).subject), "login": "octocat", "email": None})

    def _github_emails(self, request: Request) -> Response:
        person = self._whose(request)
        other = {"email": "noreply@github.example", "verified": True, "primary": False}
        return JSONResponse([other, {"email": person.email, "verified": person.email_verified, "primary": True}])

    def _whose(self, request: Request) -> Person:
        return self.people[self._access_tokens[request.headers["Authorization"].removeprefix("Bearer ")]]


@contextmanager
def serve_provider() -> Iterator[Provider]:
    """Run a provider on localhost, which is another site than 127.0.0.1."""
    provider = Provider()
    with serve(provider.app) as url:
        provider.url = url.replace("127.0.0.1", "localhost")
        yield provider
