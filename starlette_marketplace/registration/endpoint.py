"""The endpoint: what happens when a buyer arrives from AWS Marketplace."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from ..clocks import wall_clock
from ..customer import Registration
from ..errors import ConfigurationError, MarketplaceError, ProductMismatchError
from ..hooks import LandingVisited, RegistrationFailed, RegistrationRequested, RegistrationResolved
from ..settings import accepts_product
from .form import RegistrationForm, read_form
from .responses import Seller, error_page, json_error, json_success, landing_page, prefers_json, without_body

if TYPE_CHECKING:
    from typing import Self

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ..hooks import Hooks
    from ..settings import MarketplaceSettings
    from ..telemetry import Outcome, Telemetry
    from .resolution import Resolutions
    from .session import RegistrationSession

logger: logging.Logger = logging.getLogger("starlette_marketplace")

_ALLOW = {"Allow": "GET, HEAD, OPTIONS, POST"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationEndpoint:
    """The ASGI app behind the landing URL, whatever its path.

    Attributes:
        is_mounted: Whether `root_path` may be that of a Mount, with the app's own one or more Mounts further out.
    """

    settings: MarketplaceSettings
    resolutions: Resolutions
    session: RegistrationSession
    telemetry: Telemetry
    hooks: Hooks
    is_mounted: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to the fulfillment URL."""
        response = await self.respond(Request(scope, receive))
        await response(scope, receive, without_body(send) if scope["method"] == "HEAD" else send)

    def __deepcopy__(self, _: object) -> Self:
        """Itself, as `Marketplace` is: the router in a scope holds it."""
        return self

    async def respond(self, request: Request) -> ASGIApp:
        """The response to `request`, of which nothing is sent yet.

        Raises:
            Exception: What a hook has raised, but for a MarketplaceError.
        """
        try:
            return await self._respond(request)
        except ClientDisconnect:
            # Nobody reads it, but Starlette's BaseHTTPMiddleware takes a missing response for a bug.
            return Response(status_code=400, headers={"Cache-Control": "no-store"})

    async def _respond(self, request: Request) -> ASGIApp:
        match request.method:
            case "POST":
                try:
                    with self.telemetry.registration() as outcome:
                        return await self._register(request, outcome)
                except HTTPException as exc:
                    # A hook has raised it, and the host makes a response of it.
                    exc.status_code = _see_other(exc.status_code)
                    raise
            case "GET" | "HEAD":
                # Never 405: AWS checks that it can reach the address.
                response = landing_page(self._seller(request))
                return await self.hooks.on_visit(LandingVisited(request, response)) or response
            case "OPTIONS":
                return Response(status_code=204, headers=_ALLOW)
            case _:
                return Response(status_code=405, headers=_ALLOW)

    async def _register(self, request: Request, outcome: Outcome) -> ASGIApp:
        form = None
        deadline = anyio.current_time() + self.settings.deadline
        try:
            form = await read_form(request, max_body_size=self.settings.max_body_size, deadline=deadline)
            refusal = await self.hooks.on_request(RegistrationRequested(request))
            if refusal is not None:
                outcome.code = "REFUSED"
                return _answer(refusal)
            customer = await self.resolutions.resolve(form.token, deadline=deadline)
            if not accepts_product(self.settings, customer.product_code):
                raise ProductMismatchError(
                    f"The token is for product code {customer.product_code}, which product_codes does not list.",
                    "If you sell this product, add its code.",
                )
            registration = Registration(
                customer=customer,
                resolved_at=datetime.fromtimestamp(wall_clock(), UTC),
                free_trial=form.free_trial,
                hints=form.hints,
            )
            answer = await self.hooks.on_resolved(RegistrationResolved(request, registration))
        except MarketplaceError as error:
            outcome.code, outcome.is_failure = error.code, error.status >= 500
            return await self._fail(request, error, form)
        is_refused = isinstance(answer, Response) and answer.status_code >= 400
        outcome.code = "REFUSED" if is_refused else "REGISTERED"
        if logger.isEnabledFor(logging.INFO):
            _log(registration, is_refused=is_refused)
        if not isinstance(answer, Response):
            answer = self._send_on(request, registration, answer)
        return _answer(answer, None if is_refused else self.session.cookie(registration))

    def _send_on(self, request: Request, registration: Registration, url: str | None) -> Response:
        location = self._below_root(request, self.settings.signup_url if url is None else url)
        if prefers_json(request):
            return json_success({"id": registration.id, "redirect_url": location, **registration.to_dict()})
        return RedirectResponse(location, 303)

    def _below_root(self, request: Request, url: str) -> str:
        if not url.startswith("/"):
            return url
        root_path: str = request.scope.get("root_path", "")
        if self.is_mounted:
            # A Mount adds its prefix to root_path, and keeps the root path of the outermost app here.
            root_path = request.scope.get("app_root_path", root_path)
        return "".join(f"/{part}" for part in root_path.split("/") if part) + url

    def _seller(self, request: Request) -> Seller:
        settings = self.settings
        logo_url = settings.logo_url and self._below_root(request, settings.logo_url)
        return Seller(product_name=settings.product_name, logo_url=logo_url, support_url=settings.support_url)

    async def _fail(self, request: Request, error: MarketplaceError, form: RegistrationForm | None) -> ASGIApp:
        _drop_secrets(error)
        reference = secrets.token_hex(4).upper()
        logger.log(
            logging.ERROR if isinstance(error, ConfigurationError) else logging.WARNING,
            "AWS Marketplace registration failed: %s (%s, reference %s)",
            error,
            error.code,
            reference,
            extra={"code": error.code, "reference": reference, "reason": str(error)},
        )
        if prefers_json(request):
            response = json_error(error)
        else:
            response = error_page(
                error, self._seller(request), reference=reference, retry_fields=_retry_fields(error, form)
            )
        failed = RegistrationFailed(request, error, reference, response, _retry_fields(error, form))
        return _answer(await self.hooks.on_error(failed) or response)


def _log(registration: Registration, *, is_refused: bool) -> None:
    account, product_code = registration.customer.masked_account_id, registration.customer.product_code
    logger.info(
        "AWS Marketplace registration refused by on_resolved: account %s, product %s"
        if is_refused
        else "AWS Marketplace registration begun: account %s, product %s",
        account,
        product_code,
        extra={"registration_id": registration.id, "account": account, "product_code": product_code},
    )


def _retry_fields(error: MarketplaceError, form: RegistrationForm | None) -> dict[str, str]:
    # No caller keeps it in a local variable, which error trackers would send along: the token is in it.
    return form.fields if form is not None and error.status == 503 else {}


def _answer(response: Response, cookie: str | None = None) -> ASGIApp:
    """The `response` to a registration POST, with `cookie` if there is one.

    The response itself is left as it is: a hook may answer every buyer with the same one, and none may get the cookie
    of another.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_changed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                if cookie is not None:
                    kept = (header for header in headers if header[0].lower() != b"cache-control")
                    headers = [*kept, (b"cache-control", b"no-store"), (b"set-cookie", cookie.encode())]
                message = {**message, "status": _see_other(message["status"]), "headers": headers}
            await send(message)

        await response(scope, receive, send_changed)

    return app


def _see_other(status: int) -> int:
    # These make the browser post the token to the next page. They are what RedirectResponse sends by default.
    return 303 if status in (307, 308) else status


def _drop_secrets(error: BaseException) -> None:
    """Take off what an error tracker would follow from `error` to the token.

    It is among the local variables of the frames in tracebacks, and in what a parser's or a client's error holds, which
    stays in `__context__` when another error is raised in its place.
    """
    found: list[BaseException] = [error]
    for exc in found:
        exc.__traceback__ = exc.__context__ = None
        found += [exc.__cause__] if exc.__cause__ is not None and exc.__cause__ not in found else []
