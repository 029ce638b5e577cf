"""`MarketplaceMiddleware`, and what a host that uses it asks of a request."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Unpack

from starlette.applications import Starlette
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request

from .errors import SettingsError, copy_of
from .hooks import HookOptions
from .marketplace import SCOPE_KEY, Marketplace
from .registration.responses import without_body
from .routing import route_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .registration.resolver import Resolver
    from .registration.shared_cache import SharedCache
    from .settings import MarketplaceSettings
    from .subscriptions.reader import SubscriptionReader


class MarketplaceOptions(HookOptions, total=False):
    """The arguments of `Marketplace`."""

    settings: MarketplaceSettings | None
    resolver: Resolver | None
    reader: SubscriptionReader | None
    shared_cache: SharedCache | None


class MarketplaceMiddleware:
    """Answers the landing URL of AWS Marketplace, and passes everything else on.

    Settings that are missing or invalid, and parts of the wrong kind, keep the server from starting. They are reported
    when the server starts the host and not by the constructor, which Starlette calls only then: servers take an
    exception there for a host that has no lifespan.

    Args:
        app: The host.
        marketplace: One that is wired already, to use it elsewhere too.
        **options: The arguments of `Marketplace`, instead. Without either, settings come from the environment.

    Raises:
        TypeError: Both `marketplace` and options are given.
    """

    def __init__(
        self, app: ASGIApp, marketplace: Marketplace | None = None, **options: Unpack[MarketplaceOptions]
    ) -> None:
        if marketplace is not None and options:
            raise TypeError("MarketplaceMiddleware takes a marketplace or the arguments of one, not both")
        self._app = app
        self._marketplace: Marketplace | None = None
        self._path = ""
        self._paths: tuple[str, ...] = ()
        # One exception that is raised for each request would gather all their tracebacks.
        self._refusal: Callable[[], Exception] = RuntimeError
        try:
            if not isinstance(marketplace, Marketplace | None):
                raise TypeError(f"marketplace must be a Marketplace, not {type(marketplace).__name__}")
            self._marketplace = marketplace or Marketplace(**options)
        except (SettingsError, TypeError) as error:
            self._refusal = partial(copy_of, error)
            self._app = self._refuse
        else:
            self._path = self._marketplace.settings.registration_path
            self._paths = (self._path, self._path + "/")
        # Servers and test clients take an app for ASGI 3 when this is a coroutine function, which `__call__` is not.
        self.__call__ = self._call  # type: ignore[method-assign]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer what is ours, pass on what is not.

        It runs on every request of the host: a coroutine of its own would cost each as much as all that it does.
        """
        kind = scope["type"]
        if kind == "http":
            scope[SCOPE_KEY] = self._marketplace
            if self._path in scope.get("path", "") and route_path(scope) in self._paths:
                return self._answer(scope, receive, send)
        elif kind == "websocket":
            scope[SCOPE_KEY] = self._marketplace
        elif kind == "lifespan":
            return self._lifespan(scope, receive, send)
        return self._app(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise self._refusal()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        marketplace: Marketplace = scope[SCOPE_KEY]
        try:
            response = await marketplace.endpoint.respond(Request(scope, receive))
        except Exception as exc:  # noqa: BLE001 - raised again where the host handles it.
            response = _handled(exc, scope)
        await response(scope, receive, without_body(send) if scope["method"] == "HEAD" else send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        lifespan = _Lifespan(self._startup, receive, send)
        try:
            await self._app(scope, lifespan.receive, lifespan.send)
        except Exception:
            await lifespan.settle()
            raise
        else:
            await lifespan.settle()
        finally:
            # A host that has no lifespan, or leaves it early, is served all the same.
            if lifespan.is_over and self._marketplace is not None:
                self._marketplace.shutdown()

    async def _startup(self) -> None:
        if self._marketplace is None:
            raise self._refusal()
        await self._marketplace.startup()


def _handled(exc: Exception, scope: Scope) -> ASGIApp:
    """What the host's exception handlers answer to what a hook has raised; they stand inside of its middleware.

    Those for the server's own errors stand further out, and see the exception there.
    """
    failed = [exc]

    async def fail(*_: object) -> None:
        # Not kept by this function, which the traceback leads to: they would keep each other alive, and the token.
        raise failed.pop()

    app = scope.get("app")
    handlers = app.exception_handlers if isinstance(app, Starlette) else {}
    return ExceptionMiddleware(fail, {kind: each for kind, each in handlers.items() if kind not in (500, Exception)})


class _Lifespan:
    """The lifespan of the host. It sees its scope first; `startup` is called when it asks for the first message.

    Attributes:
        is_over: Whether the host has been told to shut down.
    """

    def __init__(self, startup: Callable[[], Awaitable[None]], receive: Receive, send: Send) -> None:
        self._startup = startup
        self._receive = receive
        self._send = send
        self._has_begun = False
        self._failure: Exception | None = None
        self.is_over = False

    async def receive(self) -> Message:
        """What the host calls; raises what `startup` has raised, each time."""
        if self._failure is None:
            message = await self._receive()
            self.is_over = message["type"] == "lifespan.shutdown"
            await self._begin()
        if self._failure is not None:
            raise self._failure
        return message

    async def send(self, message: Message) -> None:
        """What the host calls; what it says of a failure that is not its own is dropped."""
        if self._failure is None:
            await self._send(message)

    async def settle(self) -> None:
        """Raise what `startup` has raised, now that the host has ended, and tell the server of it.

        A host that has no lifespan has asked for no message, and `startup` is called only here.
        """
        if not self._has_begun:
            await self._begin()
            if self._failure is not None:
                await self._receive()  # Servers expect no answer before.
        if self._failure is not None:
            # Without this message servers take the exception for a host that has no lifespan, and skip the host's own.
            await self._send({"type": "lifespan.startup.failed", "message": str(self._failure)})
            raise self._failure

    async def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            try:
                await self._startup()
            except Exception as exc:  # noqa: BLE001 - raised where the host, and then the server, find it.
                self._failure = exc
