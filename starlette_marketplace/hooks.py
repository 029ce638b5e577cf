"""The hooks by which a host takes part in a registration.

Each takes one frozen event, and may be a plain function or an async one. Plain ones run in a thread of the host's pool.
`on_request` and `on_resolved` may raise a `MarketplaceError` to refuse the buyer with the page of that error. Any other
exception, and all of `on_error` and `on_visit`, go on to the host's own error handling; the resolution stays cached, so
that trying again works.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypedDict, TypeVar, Unpack, cast

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.requests import Request

    from .customer import Registration
    from .errors import MarketplaceError

E = TypeVar("E")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RegistrationRequested:
    """A registration POST has come and its token has not been resolved yet.

    Attributes:
        request: The POST. Its body, which holds the token, has been read already.
    """

    request: Request


@dataclass(frozen=True, slots=True)
class RegistrationResolved:
    """AWS has confirmed the customer, and the product is one of ours.

    Attributes:
        request: The POST. It is cross-site: the host's own SameSite=Lax cookies did not come along.
        registration: Who came.
    """

    request: Request
    registration: Registration


@dataclass(frozen=True, slots=True)
class RegistrationFailed:
    """A registration could not be carried out.

    Attributes:
        request: The POST.
        error: Why. Without tracebacks, whose local variables would give the token to an error tracker.
        reference: The reference number that is on the buyer's page and in the log.
        response: What the buyer gets unless the hook answers. The page of an error that passes by itself holds the
            token in a *Try again* form.
        retry_fields: What a *Try again* form of the host has to post to the same URL, by name; the token is among them.
            Empty when trying again would not help.
    """

    request: Request
    error: MarketplaceError
    reference: str
    response: Response
    retry_fields: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LandingVisited:
    """Somebody opened the landing URL without a registration POST: AWS does, to see that it can be reached.

    Attributes:
        request: The GET or HEAD.
        response: The page that tells what this address is, unless the hook answers.
    """

    request: Request
    response: Response


class OnRequest(Protocol):
    """Called before AWS is asked; a response refuses the buyer, as a rate limit does."""

    def __call__(self, event: RegistrationRequested, /) -> Response | Awaitable[Response | None] | None:
        """Answer the event."""
        ...


class OnResolved(Protocol):
    """Called before the buyer is sent on.

    None goes to `signup_url`, a string is where to go instead, a response is the answer. The registration cookie is set
    on it, unless its status is 400 or more: that refuses the buyer.
    """

    def __call__(self, event: RegistrationResolved, /) -> Response | str | Awaitable[Response | str | None] | None:
        """Answer the event."""
        ...


class OnError(Protocol):
    """Called when a registration fails; a response replaces the page that the buyer would get."""

    def __call__(self, event: RegistrationFailed, /) -> Response | Awaitable[Response | None] | None:
        """Answer the event."""
        ...


class OnVisit(Protocol):
    """Called when the landing URL is opened with GET or HEAD; a response replaces the page that is shown."""

    def __call__(self, event: LandingVisited, /) -> Response | Awaitable[Response | None] | None:
        """Answer the event."""
        ...


class HookOptions(TypedDict, total=False):
    """The hooks of a host, as `Marketplace` and `MarketplaceMiddleware` take them. None is the same as no hook.

    Attributes:
        on_request: Called before AWS is asked.
        on_resolved: Called before the buyer is sent on.
        on_error: Called when a registration fails.
        on_visit: Called when the fulfillment URL is opened with GET or HEAD.
    """

    on_request: OnRequest | None
    on_resolved: OnResolved | None
    on_error: OnError | None
    on_visit: OnVisit | None


class Hooks:
    """The hooks of a host, each as an async function, which answers None where there is none.

    Args:
        **hooks: The hooks by name.

    Attributes:
        on_request: Called before AWS is asked.
        on_resolved: Called before the buyer is sent on.
        on_error: Called when a registration fails.
        on_visit: Called when the fulfillment URL is opened with GET or HEAD.

    Raises:
        TypeError: A hook cannot be called with an event, or there is none of that name.
    """

    def __init__(self, **hooks: Unpack[HookOptions]) -> None:
        unknown = sorted(hooks.keys() - HookOptions.__annotations__.keys())
        if unknown:
            raise TypeError(f"There is no hook {unknown[0]}. The hooks are {', '.join(HookOptions.__annotations__)}.")
        self.on_request: Callable[[RegistrationRequested], Awaitable[Response | None]]
        self.on_request = _as_async(hooks.get("on_request"))
        self.on_resolved: Callable[[RegistrationResolved], Awaitable[Response | str | None]]
        self.on_resolved = _as_async(hooks.get("on_resolved"))
        self.on_error: Callable[[RegistrationFailed], Awaitable[Response | None]] = _as_async(hooks.get("on_error"))
        self.on_visit: Callable[[LandingVisited], Awaitable[Response | None]] = _as_async(hooks.get("on_visit"))


def _as_async(hook: Callable[[E], R | Awaitable[R]] | None) -> Callable[[E], Awaitable[R | None]]:
    """`hook` as an async function; without a hook, one that answers None."""
    if hook is None:
        return _no_hook
    _check(hook)
    if is_async(hook):
        return cast("Callable[[E], Awaitable[R]]", hook)

    def call(event: E) -> list[R | Awaitable[R]]:
        # In a list, as trio takes a coroutine that comes out of a thread for a mistake.
        return [hook(event)]

    async def in_thread(event: E) -> R:
        [answer] = await run_in_threadpool(call, event)
        return cast("R", await answer if inspect.isawaitable(answer) else answer)

    return in_thread


def is_async(function: Callable[..., object]) -> bool:
    """Whether calling `function` gives a coroutine, as far as that can be told without calling it."""
    while isinstance(function, functools.partial):
        function = function.func
    # An object is asked for its own method: the question is not whether it can be called.
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _check(hook: object) -> None:
    # Calling a class makes an object of it, and only a response would be an answer.
    is_other_class = isinstance(hook, type) and not issubclass(hook, Response)
    if is_other_class or not callable(hook):
        kind = "a class" if is_other_class else type(hook).__name__
        raise TypeError(f"a hook must be a function, not {kind}")


async def _no_hook(_: object) -> None:
    return None
