"""Who leaves in the middle: a buyer, a hook, the server. Nothing leaks, nobody waits for ever, no answer is lost."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import anyio
import anyio.to_thread
import httpx2
import pytest

from starlette_marketplace import MarketplaceSettings
from starlette_marketplace.local import LocalMarketplace
from tests.fakes import FakeResolver
from tests.hosts import HOSTS, LANDING, Host, browser, form
from tests.memory import living
from tests.network import Fault, network
from tests.sockets import answer_on, connect, post_of

A_HOST = """
from starlette.applications import Starlette
from starlette_marketplace import MarketplaceMiddleware

app = Starlette()
app.add_middleware(MarketplaceMiddleware)
"""


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest) -> Host:
    made: Host = request.param
    return made


@pytest.mark.anyio
@pytest.mark.parametrize("hook", ["on_request", "on_resolved"])
async def test_a_cancelled_hook_loses_nothing(host: Host, settings: MarketplaceSettings, hook: str) -> None:
    resolver = FakeResolver()
    begun = anyio.Event()

    async def hang_once(_: object) -> None:
        if not begun.is_set():
            begun.set()
            await anyio.sleep_forever()

    async with browser(host(settings=settings, resolver=resolver, **{hook: hang_once})) as buyer:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: buyer.post(LANDING, data=form("good")))
            await begun.wait()
            tasks.cancel_scope.cancel()
        assert resolver.calls == ({"good": 1} if hook == "on_resolved" else {})
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 303
    assert resolver.calls == {"good": 1}


@pytest.mark.anyio
async def test_those_who_left_leave_nothing_behind(host: Host, settings: MarketplaceSettings) -> None:
    resolver = FakeResolver()
    async with browser(host(settings=settings, resolver=resolver)) as buyer:
        with resolver.held():
            async with anyio.create_task_group() as tasks:
                for token in ("good", "bad") * 20:
                    tasks.start_soon(lambda token: buyer.post(LANDING, data=form(token)), token)
                await anyio.to_thread.run_sync(resolver.called.acquire)
                await anyio.wait_all_tasks_blocked()
                before = living("anyio")["Event"]
                tasks.cancel_scope.cancel()
            assert before - living("anyio")["Event"] >= 40, "while AWS is still asked"
        assert (await buyer.post(LANDING, data=form("bad"))).status_code == 400
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 303
    assert resolver.calls == {"good": 1, "bad": 1}


def test_a_server_that_is_told_to_stop_answers_those_who_wait_and_ends(
    running_marketplace: tuple[LocalMarketplace, str], marketplace: LocalMarketplace, tmp_path: Path
) -> None:
    _, aws_url = running_marketplace
    (tmp_path / "a_host.py").write_text(A_HOST)
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "MARKETPLACE_SECRET_KEY": "k" * 32,
        "MARKETPLACE_PRODUCT_CODES": "acmeanalytics",
        "MARKETPLACE_MAX_CONCURRENCY": "1",
        "MARKETPLACE_MAX_ATTEMPTS": "1",
        "MARKETPLACE_READ_TIMEOUT": "0.5",
    }
    first, second = [marketplace.issue_token("new-product") for _ in range(2)]
    with socket.create_server(("127.0.0.1", 0)) as listener, network(aws_url) as to_aws:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        to_aws.suffer(Fault.SILENCE)
        command = [sys.executable, "-m", "uvicorn", "a_host:app", "--fd", str(listener.fileno()), "--no-use-colors"]
        server = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment | {"MARKETPLACE_ENDPOINT_URL": to_aws.url},
            pass_fds=[listener.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            with connect(url) as under_way, connect(url) as waiting:
                under_way.sendall(post_of(urlencode(form(first)).encode()))
                to_aws.held.acquire()
                waiting.sendall(post_of(urlencode(form(second)).encode()))
                assert httpx2.get(url).status_code == 404, "so the server has read all that came before"
                server.send_signal(signal.SIGTERM)
                for connection in (under_way, waiting):
                    answer = answer_on(connection)
                    assert answer.startswith("HTTP/1.1 503 ")
                    assert "Try again" in answer
            _, log = server.communicate(timeout=60)
        finally:
            server.kill()
    assert "Finished server process" in log
    assert "Traceback" not in log
    assert "Application shutdown complete" in log
