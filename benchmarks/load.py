"""Buyers who all come at once, and another user of the host meanwhile."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.requests import form

LANDING = "/marketplace/register"


@dataclass(frozen=True)
class Run:
    """What a run has shown.

    Attributes:
        statuses: How often each status was the answer.
        seconds: From the first buyer to the last answer.
        cpu: Seconds of CPU that the host used meanwhile.
        latencies: Seconds that each request of the other user took.
    """

    statuses: dict[int, int]
    seconds: float
    cpu: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        """Registrations a second."""
        return self.statuses.get(303, 0) / self.seconds

    @property
    def cpu_of_each(self) -> float:
        """Seconds of CPU of the host for each registration."""
        return self.cpu / self.statuses.get(303, 1)

    @property
    def p99(self) -> float:
        return sorted(self.latencies)[int(len(self.latencies) * 0.99)]


class Connection:
    """HTTP by hand: a client library would cost more than the server."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)

    async def __aenter__(self) -> "Connection":
        self._reader, self._writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """The status and the body of the answer."""
        self._writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: app.example\r\nAccept: text/html\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        [length] = [
            line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        ]
        return int(head[9:12]), await self._reader.readexactly(int(length))


async def run(url: str, tokens: list[str], *, at_once: int, pause: float = 0.01) -> Run:
    """Let a buyer come with each token, so many at once, and somebody to another route every `pause` seconds."""
    statuses: dict[int, int] = {}
    latencies: list[float] = []
    waiting: Iterator[str] = iter(tokens)
    is_over = asyncio.Event()

    async def buy() -> None:
        async with Connection(url) as connection:
            for token in waiting:
                status, _ = await connection.send("POST", LANDING, form(token))
                statuses[status] = statuses.get(status, 0) + 1

    async def look() -> None:
        # By a timetable: who only asks again after an answer would not notice how long the host stands still.
        due = time.perf_counter()
        async with Connection(url) as connection:
            while not is_over.is_set():
                due += pause
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await connection.send("GET", "/ping")
                latencies.append(time.perf_counter() - due)

    async with Connection(url) as connection:
        await connection.send("POST", LANDING, form(tokens[0] + "-to-warm-up"))
    cpu_before = await cpu_of(url)
    began = time.perf_counter()
    looking = asyncio.create_task(look())
    async with asyncio.TaskGroup() as buyers:
        for _ in range(at_once):
            buyers.create_task(buy())
    seconds = time.perf_counter() - began
    is_over.set()
    await looking
    return Run(statuses, seconds, await cpu_of(url) - cpu_before, latencies)


async def cpu_of(url: str) -> float:
    """Seconds of CPU that a host has used."""
    async with Connection(url) as connection:
        _, seconds = await connection.send("GET", "/cpu")
    return float(seconds)
