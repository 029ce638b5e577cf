"""What hosts test with: a resolver without AWS, made-up buyers, and the local marketplace on a socket.

With pytest, the fixtures of `pytest_starlette_marketplace` are there by themselves.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Protocol, TypedDict, Unpack
from urllib.parse import urlsplit

from starlette.responses import Response

from .customer import MarketplaceCustomer, Registration
from .errors import InvalidTokenError, MarketplaceError
from .form import RegistrationForm
from .session import RegistrationSession
from .settings import MarketplaceSettings

if TYPE_CHECKING:
    from .local import LocalMarketplace, ResolveCall


class FakeResolver:
    """A `Resolver` without AWS, for `Marketplace(settings, resolver=FakeResolver({...}))`.

    Args:
        answers: What each token stands for: a customer, or the error that is raised. Other tokens are invalid.

    Attributes:
        calls: The tokens that were asked about, in order.
    """

    def __init__(self, answers: Mapping[str, MarketplaceCustomer | MarketplaceError]) -> None:
        self.answers = dict(answers)
        self.calls: list[str] = []

    def resolve(self, token: str) -> MarketplaceCustomer:
        """The customer of `token`.

        Raises:
            MarketplaceError: The error that `answers` has for it; `InvalidTokenError` when there is nothing.
        """
        self.calls.append(token)
        answer = self.answers.get(token)
        if answer is None:
            raise InvalidTokenError("the fake resolver does not know this token")
        if isinstance(answer, MarketplaceError):
            raise answer
        return answer


class CustomerFields(TypedDict, total=False):
    """The fields of `MarketplaceCustomer`."""

    aws_account_id: str
    product_code: str
    license_arn: str | None
    customer_identifier: str | None
    agreement_id: str | None


def make_customer(**fields: Unpack[CustomerFields]) -> MarketplaceCustomer:
    """A made-up customer of a new SaaS product: another buyer with another agreement at each call.

    Args:
        **fields: What not to make up. `product_code` is `acmeanalytics`, as in the local marketplace, unless given.

    Raises:
        ValueError: A field is malformed.
    """
    customer = MarketplaceCustomer(
        aws_account_id=f"{secrets.randbelow(10**12):012}",
        product_code="acmeanalytics",
        license_arn=f"arn:aws:license-manager::111122223333:license:l-{secrets.token_hex(16)}",
        agreement_id=f"agmt-{secrets.token_hex(12)}",
    )
    return replace(customer, **fields)


def registration_form(
    token: str, *, free_trial: bool = False, hints: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The form that AWS Marketplace makes the buyer's browser post to the landing URL.

    Args:
        token: The registration token.
        free_trial: Whether the form says that the offer is a free trial.
        hints: Further `x-amzn-marketplace-*` fields.
    """
    return RegistrationForm(token=token, free_trial=free_trial, hints=_hints(free_trial, hints)).fields


class _Cookies(Protocol):
    def set(self, name: str, value: str, *, domain: str) -> object: ...


class Client(Protocol):
    """A test client with a cookie jar, such as Starlette's `TestClient`, those of httpx, and a `requests.Session`."""

    @property
    def cookies(self) -> _Cookies:
        """The jar."""
        ...


def add_registration(
    client: Client,
    settings: MarketplaceSettings | None = None,
    *,
    customer: MarketplaceCustomer | None = None,
    free_trial: bool = False,
    hints: Mapping[str, str] | None = None,
) -> Registration:
    """Give a test client the cookie of a buyer who has just arrived from AWS Marketplace.

    It works whatever `https_only` and `session_domain` say and whether the client speaks http or https. When the host
    completes the registration, the client loses the cookie, provided that it has a `base_url`.

    Args:
        client: The test client.
        settings: Those of the host; None reads them from the environment, as the middleware does.
        customer: Who has arrived. Made up when None, for the first of the settings' product codes.
        free_trial: Whether the form said that the offer is a free trial.
        hints: The further `x-amzn-marketplace-*` fields that the form had.

    Returns:
        What the host will read from the request.

    Raises:
        SettingsError: A setting is missing or makes no sense.
    """
    settings = MarketplaceSettings.from_env() if settings is None else settings
    if customer is None:
        code = settings.product_codes[0]
        customer = make_customer() if code == "*" else make_customer(product_code=code)
    registration = Registration(
        customer=customer,
        resolved_at=datetime.now(UTC),
        free_trial=free_trial,
        hints=_hints(free_trial, hints),
    )
    response = Response()
    RegistrationSession(settings).set(response, registration)
    [(name, cookie)] = SimpleCookie(response.headers["set-cookie"]).items()
    client.cookies.set(name, cookie.value, domain=_domain_in_jar(client, cookie["domain"]))
    return registration


class RunningMarketplace:
    """The local marketplace on a real socket of this machine.

    Attributes:
        url: Where it is, such as http://127.0.0.1:43567: the API for boto3, and the storefront for a browser.
        marketplace: The ASGI app behind it, with everything that can be asked of it and set.
    """

    _SETTABLE = ("delay", "error_rate", "registration_url", "token_life")

    def __init__(self, marketplace: LocalMarketplace, url: str) -> None:
        self.url = url
        self.marketplace = marketplace
        self._at_first = {name: getattr(marketplace, name) for name in self._SETTABLE}

    @property
    def account_id(self) -> str:
        """The AWS account of the buyer who is shopping, and whom the tokens stand for."""
        return self.marketplace.buyer.account_id

    @property
    def resolve_calls(self) -> list[ResolveCall]:
        """The ResolveCustomer calls so far, oldest first."""
        return self.marketplace.resolve_calls

    def issue_token(self, scenario: str = "new-product") -> str:
        """Give a fresh registration token of the buyer who is shopping.

        Raises:
            ValueError: No scenario has this name.
        """
        return self.marketplace.issue_token(scenario)

    def form(self, scenario: str = "new-product") -> dict[str, str]:
        """Give the whole form that the buyer's browser posts to the landing URL, with a fresh registration token.

        Raises:
            ValueError: No scenario has this name.
        """
        from .local import SCENARIOS

        return registration_form(self.issue_token(scenario), free_trial=SCENARIOS[scenario].free_trial)

    def environment(self, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a host that asks this marketplace, and never AWS.

        The `MARKETPLACE_*` variables that are there stay, and `MARKETPLACE_PRODUCT_CODES` gets the local marketplace's
        added. What could lead boto3 to AWS or to somebody's credentials goes; a role is assumed here, too.

        Args:
            environ: The variables to begin with, `os.environ` when None.
        """
        from .local import PRODUCT_CODES

        environ = os.environ if environ is None else environ
        kept = {name: value for name, value in environ.items() if name not in _LEADS_TO_AWS}
        defaults = {name: value for name, value in _DEFAULTS.items() if not environ.get(name)}
        not_by_proxy = _joined(environ.get("no_proxy") or environ.get("NO_PROXY"), "127.0.0.1")
        own = {
            "AWS_ENDPOINT_URL_MARKETPLACE_METERING": self.url,
            "AWS_ENDPOINT_URL_STS": self.url,
            "MARKETPLACE_PRODUCT_CODES": _joined(environ.get("MARKETPLACE_PRODUCT_CODES"), *PRODUCT_CODES),
            "NO_PROXY": not_by_proxy,
            "no_proxy": not_by_proxy,
        }
        return kept | defaults | _NOBODY | own

    def reset(self) -> None:
        """Make it as if it had just started, with another buyer."""
        self.marketplace.reset()
        for name, value in self._at_first.items():
            setattr(self.marketplace, name, value)


@contextmanager
def run_local_marketplace() -> Iterator[RunningMarketplace]:
    """Run the local marketplace on a free port of the loopback interface, in a thread of its own.

    Raises:
        ImportError: The extra `local` is not installed.
    """
    from .local import LocalMarketplace  # First, as its error names the extra.

    import uvicorn  # isort: skip

    settled = threading.Event()

    class Server(uvicorn.Server):
        def run_in_thread(self, listener: socket.socket) -> None:
            try:
                # Not by uvicorn's run(), older versions of which change the event loops of the whole process.
                asyncio.run(self.serve(sockets=[listener]))
            finally:
                settled.set()

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            settled.set()

    marketplace = LocalMarketplace()
    config = uvicorn.Config(
        marketplace, lifespan="off", ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(
            target=server.run_in_thread, args=[listener], name="starlette-marketplace-local", daemon=True
        )
        thread.start()
        try:
            settled.wait()
            yield RunningMarketplace(marketplace, url)
        finally:
            server.should_exit = True
            thread.join()


# The same for a whole test run: an app that is made once keeps the settings of its first request.
_DEFAULTS = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "MARKETPLACE_SECRET_KEY": "not a secret: only tests sign by it",
    "MARKETPLACE_HTTPS_ONLY": "false",
    # The failures of the scenarios do not pass, so trying again would only take time.
    "MARKETPLACE_MAX_ATTEMPTS": "1",
}
_NOBODY = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_LEADS_TO_AWS = {
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_DEFAULT_PROFILE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PROFILE",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "MARKETPLACE_ENDPOINT_URL",
    "MARKETPLACE_PROFILE_NAME",
}


def _joined(first: str | None, *others: str) -> str:
    parts = [part.strip() for part in (first or "").split(",")]
    return ",".join(dict.fromkeys([*filter(None, parts), *others]))


def _hints(free_trial: bool, hints: Mapping[str, str] | None) -> dict[str, str]:
    offer_type = {"x-amzn-marketplace-offer-type": "free-trial"} if free_trial else {}
    return {**offer_type, **(hints or {})}


def _domain_in_jar(client: Client, session_domain: str) -> str:
    """The domain under which a cookie of the host itself gets into the client's jar, so that it is the same cookie."""
    host = urlsplit(str(getattr(client, "base_url", ""))).hostname or ""
    parent = "." + session_domain.lstrip(".")
    if session_domain and f".{host}".endswith(parent):
        return parent
    # What http.cookiejar makes of a name without a dot. Without a base_url, the cookie goes to every host.
    return host + ".local" if host and "." not in host else host
