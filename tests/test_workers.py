"""Several workers for real: `uvicorn --workers 4`, with and without Redis."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx2
import pytest

from starlette_marketplace.testing import RunningMarketplace
from tests.support.hosts import LANDING, form
from tests.support.redis_server import RedisServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
    pytest.mark.slow,
    pytest.mark.service,
]

WORKERS = 4


@contextmanager
def workers(environment: dict[str, str]) -> Iterator[str]:
    """The URL of a host with several workers."""
    host = "tests.support.worker_host:app"
    command = [sys.executable, "-m", "uvicorn", host, "--workers", str(WORKERS), "--port", "0"]
    root = Path(__file__).parent.parent
    with subprocess.Popen(
        [*command, "--no-access-log"], cwd=root, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield _url_when_ready(process)
        finally:
            process.terminate()
            process.communicate()


def _url_when_ready(process: subprocess.Popen[str]) -> str:
    log, url, ready = "", "", 0
    for line in process.stderr or ():
        log += line
        if running := re.search(r"running on (http://[\d.:]+)", line):
            url = running[1]
        ready += "Application startup complete" in line
        if ready == WORKERS:
            return url
    raise RuntimeError(log)


async def answers(requests: list[httpx2.Request]) -> list[httpx2.Response]:
    """Send the requests, 100 at once, each on a connection of its own, so that all workers get some."""
    received = []
    limit = anyio.CapacityLimiter(100)

    async def send(request: httpx2.Request) -> None:
        async with limit:
            received.append(await client.send(request))

    async with httpx2.AsyncClient(timeout=60) as client, anyio.create_task_group() as tasks:
        for request in requests:
            request.headers["Connection"] = "close"
            tasks.start_soon(send, request)
    return received


def posts(url: str, tokens: list[str]) -> list[httpx2.Request]:
    return [httpx2.Request("POST", url + LANDING, data=form(token)) for token in tokens]


async def test_with_redis_a_thousand_posts_of_fifty_tokens_are_fifty_calls_to_aws(
    served_marketplace: RunningMarketplace, server: RedisServer
) -> None:
    served_marketplace.reset()
    served_marketplace.marketplace.delay = 0.1
    tokens = [served_marketplace.issue_token() for _ in range(50)]
    # Time enough for a machine that is busy with other things.
    settings = {"MARKETPLACE_CACHE_URL": server.url + "?socket_timeout=30", "MARKETPLACE_DEADLINE": "60"}
    with workers(served_marketplace.environment() | settings) as url:
        landed = await answers(posts(url, tokens * 20))
    assert [answer.status_code for answer in landed] == [303] * 1000
    assert len({answer.headers["x-worker"] for answer in landed}) > 1, "the posts were spread over workers"
    assert len(served_marketplace.resolve_calls) == 50


async def test_without_redis_each_worker_asks_at_most_once_a_token_and_reads_what_the_others_have_signed(
    served_marketplace: RunningMarketplace,
) -> None:
    served_marketplace.reset()
    tokens = [served_marketplace.issue_token() for _ in range(5)]
    with workers(served_marketplace.environment() | {"MARKETPLACE_DEADLINE": "60"}) as url:
        landed = await answers(posts(url, tokens * 40))
        signed_by = {answer.headers["x-worker"]: answer.headers["set-cookie"].partition(";")[0] for answer in landed}
        read = [
            (signer, answer)
            for signer, cookie in signed_by.items()
            for answer in await answers(
                [httpx2.Request("GET", url + "/signup", headers={"Cookie": cookie}) for _ in range(50)]
            )
        ]
    assert {answer.status_code for answer in landed} == {303}
    assert 5 < len(served_marketplace.resolve_calls) <= 5 * WORKERS
    assert len(signed_by) > 1
    assert all(answer.json() for _, answer in read), "a registration is read whichever worker has signed it"
    assert any(signer != answer.headers["x-worker"] for signer, answer in read)
