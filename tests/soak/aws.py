"""AWS in the soak: the local marketplace, stopped and started again now and then, and a witness of what it answers."""

import asyncio
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import uvicorn
from starlette.types import Message, Receive, Scope, Send

from starlette_marketplace.local import PRODUCT_CODES, LocalMarketplace

# Below the ports that systems give to outgoing connections: while nobody listens there, no such connection may take it.
_PORTS = range(20_000, 32_000)


@dataclass(slots=True)
class Ticket:
    """A registration token, and what AWS has said about it so far.

    Attributes:
        calls: How often AWS was asked.
        customer: Whom AWS has named last, in the words of `MarketplaceCustomer`.
    """

    token: str = field(repr=False)
    account_id: str
    calls: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    customer: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def is_confirmed(self) -> bool:
        """AWS said who the buyer of one of our products is, and of which agreement."""
        agreement = self.customer.get("license_arn") or self.customer.get("customer_identifier")
        is_ours = self.customer.get("product_code") in PRODUCT_CODES
        return bool(self.customer.get("aws_account_id") and agreement and is_ours)


class Aws:
    """The local marketplace on a port of its own. `marketplace` is the same after a restart.

    Attributes:
        epoch: How many times the server was stopped or started again: odd while nobody listens.
        faults: What the local marketplace raised, which it never should.
    """

    def __init__(self, *, limit: int) -> None:
        self.marketplace = LocalMarketplace(limit=limit)
        # Long enough for buyers to meet, and to leave in the meantime.
        self.marketplace.delay = 0.02
        self.tickets: dict[str, Ticket] = {}
        self.epoch = 0
        self.faults: list[str] = []
        self._listener = _free_listener()
        self.port: int = self._listener.getsockname()[1]
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def issue(self, scenario: str, *, to_another: bool) -> Ticket:
        if to_another:
            self.marketplace.shop_as_another_buyer()
        ticket = Ticket(self.marketplace.issue_token(scenario), self.marketplace.buyer.account_id)
        self.tickets[ticket.token] = ticket
        return ticket

    def start(self) -> None:
        self._server = _Server(
            uvicorn.Config(self, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=0)
        )
        self._serving = asyncio.create_task(self._server.serve([self._listener]))

    async def stop(self) -> None:
        """Cut off the calls that are under way and refuse new ones."""
        if self._server is None or self._serving is None:
            return
        await self._server.is_up.wait()
        self.epoch += 1
        self._server.should_exit = True
        for server in self._server.servers:
            server.close()
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        await self._serving
        self._server = self._serving = None

    async def restart(self, outage: float) -> None:
        await self.stop()
        await asyncio.sleep(outage)
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.epoch += 1
        self.start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, message = b"", await receive()
        while message["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
            message = await receive()
        else:
            return
        ticket = self.tickets[json.loads(body)["RegistrationToken"]]
        received = iter([{"type": "http.request", "body": body}])
        answer, status = bytearray(), 0

        async def replay() -> Message:
            return next(received, None) or await receive()

        async def witness(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            answer.extend(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body") and status == 200:
                ticket.customer = _customer(bytes(answer))
            await send(message)

        ticket.calls += 1
        ticket.asked.set()
        try:
            await self.marketplace(scope, replay, witness)
        except Exception as exc:
            self.faults.append(repr(exc))
            raise


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    # Signals are for the soak.
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _free_listener() -> socket.socket:
    for port in _PORTS:
        with suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
    raise OSError("no port is free for the local marketplace")


def _customer(answer: bytes) -> dict[str, str | None]:
    try:
        members = json.loads(answer)
    except ValueError:
        return {}
    return {
        "aws_account_id": members.get("CustomerAWSAccountId"),
        "product_code": members.get("ProductCode"),
        "license_arn": members.get("LicenseArn"),
        "customer_identifier": members.get("CustomerIdentifier"),
        "agreement_id": (members.get("Metadata") or {}).get("AgreementId"),
    }
