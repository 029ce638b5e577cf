"""The local marketplace on a socket, in the place of AWS."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from anyio.from_thread import start_blocking_portal

from .environment import environment_of
from .stand_ins import registration_form

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from ..local import Agreement, Call, LocalMarketplace, ResolveCall
    from .scenarios import ScenarioName


# The clock that libraries which freeze or move time for a test leave alone; Windows does not have it.
_real_time: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_MONOTONIC) if hasattr(time, "clock_gettime") else time.monotonic
)


class _LoopInRealTime(asyncio.SelectorEventLoop):
    """An event loop whose timers go off while time is frozen: without them, the server would never stop."""

    def time(self) -> float:
        return _real_time()


class RunningMarketplace:
    """The local marketplace on a real socket of this machine.

    Attributes:
        url: Where it is, such as http://127.0.0.1:43567: the API for boto3, and the storefront for a browser.
        marketplace: The ASGI app behind it, with everything that can be asked of it and set.
    """

    def __init__(self, marketplace: LocalMarketplace, url: str) -> None:
        self.url = url
        self.marketplace = marketplace

    @property
    def account_id(self) -> str:
        """The AWS account of the buyer who is shopping, and whom the tokens stand for."""
        return self.marketplace.buyer.account_id

    @property
    def resolve_calls(self) -> list[ResolveCall]:
        """The ResolveCustomer calls so far, oldest first."""
        return self.marketplace.resolve_calls

    @property
    def calls(self) -> list[Call]:
        """All calls so far, those for entitlements and agreements included, oldest first."""
        return self.marketplace.calls

    def issue_token(self, scenario: ScenarioName = "new-product") -> str:
        """Give a fresh registration token of the buyer who is shopping.

        Raises:
            ValueError: No scenario has this name.
        """
        return self.marketplace.issue_token(scenario)

    def form(self, scenario: ScenarioName = "new-product") -> dict[str, str]:
        """Give the whole form that the buyer's browser posts to the landing URL, with a fresh registration token.

        Raises:
            ValueError: No scenario has this name.
        """
        from ..local import SCENARIOS

        return registration_form(self.issue_token(scenario), free_trial=SCENARIOS[scenario].free_trial)

    def environment(self, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a host that asks this marketplace, and never AWS Marketplace.

        The `MARKETPLACE_*` variables that are there stay, and `MARKETPLACE_PRODUCT_CODES` gets the local marketplace's
        added. What could lead boto3 to AWS Marketplace or to somebody's credentials goes; a role is assumed here, too.
        Clients of other AWS services go where they went, with credentials that AWS refuses.

        Args:
            environ: The variables to begin with, `os.environ` when None.
        """
        return environment_of(self.url, os.environ if environ is None else environ)

    # What becomes of a subscription. `key` is `customer.key`, an agreement id, or None for the subscription whose
    # registration token was issued last.

    def change_plan(self, key: str | None, plan: str) -> Agreement:
        """Let the buyer change to another plan of the product.

        Raises:
            ValueError: There is no such subscription or plan, or the subscription is over.
        """
        return self.marketplace.change_plan(key, plan)

    def cancel(self, key: str | None = None) -> Agreement:
        """Let the buyer cancel: the entitlements are gone.

        Raises:
            ValueError: There is no such subscription, or it is over.
        """
        return self.marketplace.cancel(key)

    def expire(self, key: str | None = None) -> Agreement:
        """Let the end date come: the entitlements stay, and they have expired.

        Raises:
            ValueError: There is no such subscription, it is over, or it has no end date.
        """
        return self.marketplace.expire(key)

    def renew(self, key: str | None = None, *, new_license: bool = False) -> Agreement:
        """Let the end date come and the agreement renew: another agreement follows it.

        Args:
            key: Which subscription.
            new_license: Whether the agreement that follows has another license. AWS does not say what is usual.

        Raises:
            ValueError: There is no such subscription, it is over, or it does not renew.
        """
        return self.marketplace.renew(key, new_license=new_license)

    def replace(self, key: str | None, plan: str, *, new_license: bool = False) -> Agreement:
        """Let the buyer accept another offer: another agreement follows this one.

        Args:
            key: Which subscription.
            plan: The name of the plan that is bought instead.
            new_license: Whether the agreement that follows has another license. AWS does not say what is usual.

        Raises:
            ValueError: There is no such subscription or plan, or the subscription is over.
        """
        return self.marketplace.replace(key, plan, new_license=new_license)

    def suspend(self, key: str | None = None) -> Agreement:
        """Let AWS issue an advisory about the buyer, which changes no answer.

        Raises:
            ValueError: There is no such subscription, it is over, or it is suspended already.
        """
        return self.marketplace.suspend(key)

    def resume(self, key: str | None = None) -> Agreement:
        """Let AWS resolve its advisory.

        Raises:
            ValueError: There is no such subscription, or it is not suspended.
        """
        return self.marketplace.resume(key)

    def prepare(self, key: str | None = None) -> Agreement:
        """Let a license that is not active yet, as in `not-yet-entitled`, become active now.

        Raises:
            ValueError: There is no such subscription, it is over, or its license is active already.
        """
        return self.marketplace.prepare(key)

    def reset(self) -> None:
        """Make it as if it had just started, with another buyer."""
        self.marketplace.reset()
        self.marketplace.conditions.reset()


@contextmanager
def run_local_marketplace() -> Iterator[RunningMarketplace]:
    """Run the local marketplace on a free port of the loopback interface, in a thread of its own.

    Raises:
        ImportError: The extra `local` is not installed.
        Exception: Whatever kept the server from starting, as it is.
    """
    from ..local import LocalMarketplace  # First, as its error names the extra.

    import uvicorn  # isort: skip

    class Server(uvicorn.Server):
        async def run_on(self, listener: socket.socket, *, task_status: TaskStatus[None]) -> None:
            self._task_status = task_status
            await self.serve(sockets=[listener])

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self._task_status.started()

    marketplace = LocalMarketplace()
    config = uvicorn.Config(
        marketplace, lifespan="off", ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = Server(config)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        start_blocking_portal(
            "asyncio", {"loop_factory": _LoopInRealTime}, name="starlette-marketplace-local"
        ) as portal,
    ):
        ended, _ = portal.start_task(server.run_on, listener)
        try:
            yield RunningMarketplace(marketplace, f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            ended.result()
