import os
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import pytest

from starlette_marketplace.doctor import Finding, examine
from tests.doctor.world import TOPIC_OF, Run
from tests.support.redis_server import RedisServer

PASSWORD = "hunter2"
# Time enough for a machine that is busy with other things.
PATIENT = "?socket_timeout=60&socket_connect_timeout=60"


def looked_at(environment: pytest.MonkeyPatch, url: str, **options: Any) -> list[Finding]:
    """What is found of the shared cache at `url`, without the password."""
    environment.setenv("MARKETPLACE_CACHE_URL", url)
    before_aws = takewhile(lambda finding: TOPIC_OF[finding.check] != "AWS", examine(os.environ, **options))
    findings = [finding for finding in before_aws if finding.check == "shared_cache"]
    assert PASSWORD not in str(findings)
    return findings


def place_of(server: RedisServer) -> str:
    return server.url.removeprefix("redis://").removesuffix("/0")


def with_user(server: RedisServer, user: str) -> str:
    return server.url.replace("//", f"//{user}@") + PATIENT


def test_without_a_url_the_remark_is_no_warning(environment: pytest.MonkeyPatch) -> None:
    (found,) = looked_at(environment, "")

    assert found.status == "ok"
    assert found.message.startswith("cache_url is not set: each worker asks AWS by itself")


def test_a_redis_that_can_be_used_is_right_and_keeps_nothing(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, server: RedisServer
) -> None:
    environment.setenv("MARKETPLACE_CACHE_URL", server.url + PATIENT)
    run = doctor()

    assert run.one("shared_cache", "ok")["message"] == (
        f"The shared cache at {place_of(server)} can be read and written."
    )
    assert run.statuses("warning") == run.statuses("problem") == []
    with server.client() as client:
        assert client.keys() == []


def test_what_is_in_redis_stays_as_it_is_and_is_not_waited_for(
    environment: pytest.MonkeyPatch, server: RedisServer
) -> None:
    keys = ["starlette-marketplace:doctor", "starlette-marketplace:doctor:lock"]
    with server.client() as client:
        client.mset(dict.fromkeys(keys, "of another"))
        client.config_resetstat()
        (found,) = looked_at(environment, server.url + PATIENT)
        assert client.mget(keys) == ["of another"] * 2
        assert client.info("commandstats")["cmdstat_set"]["calls"] == 1

    assert found.status == "ok"


@pytest.mark.parametrize(
    "url", ["redis://user:hunter2@127.0.0.1:hunter2", "redis://:hunter2@[::1", "redis://c?db=hunter2"]
)
def test_a_url_that_redis_py_cannot_read_is_a_problem(environment: pytest.MonkeyPatch, url: str) -> None:
    (found,) = looked_at(environment, url)

    assert found.status == "problem"
    assert found.message == "redis-py cannot read cache_url: your app does not start."
    assert "percent-encode" in found.advice


def test_without_redis_py_the_extra_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.setitem(sys.modules, "redis", None)
    (found,) = looked_at(environment, "redis://localhost")

    assert found.status == "problem"
    assert found.message == "cache_url is set, and redis-py is not installed: your app does not start."
    assert "pip install 'starlette-marketplace[redis]'" in found.advice


def test_with_the_cache_turned_off_the_url_is_not_used(environment: pytest.MonkeyPatch, server: RedisServer) -> None:
    environment.setenv("MARKETPLACE_CACHE_TTL", "0")
    with server.client() as client:
        before = client.info("stats")["total_connections_received"]
        (found,) = looked_at(environment, server.url)
        assert client.info("stats")["total_connections_received"] == before

    assert found.status == "warning"
    assert "cache_ttl is 0" in found.message


def unreachable(environment: pytest.MonkeyPatch, url: str) -> Finding:
    (found,) = looked_at(environment, url)
    assert found.status == "warning"
    assert found.message.endswith("Registrations go on without it.")
    return found


def test_a_redis_that_is_down_is_a_warning(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, own_server: RedisServer
) -> None:
    own_server.kill()
    environment.setenv("MARKETPLACE_CACHE_URL", own_server.url)
    run = doctor()

    assert run.code == 0
    assert run.statuses("warning") == ["shared_cache"]
    assert run.one("shared_cache", "warning")["message"] == (
        f"The shared cache at {place_of(own_server)} cannot be reached (Connection refused). Registrations go on "
        "without it."
    )


@pytest.mark.parametrize(
    ("url", "place", "reason"),
    [
        ("redis://cache.invalid", " at cache.invalid:6379", ""),
        ("rediss://:hunter2@cache.invalid:1234", " at cache.invalid:1234", ""),
        ("redis://[::1]:1", " at [::1]:1", ""),
        ("redis://?port=1", " at localhost:1", ""),
        (f"unix://user:{PASSWORD}@/nowhere/redis.sock", "", "No such file or directory"),
    ],
)
def test_an_address_where_nobody_answers_is_named(
    environment: pytest.MonkeyPatch, url: str, place: str, reason: str
) -> None:
    found = unreachable(environment, url)

    assert found.message.startswith(f"The shared cache{place} cannot be reached ({reason}")
    assert "Check that it is running" in found.advice


def test_a_redis_that_hangs_is_a_warning(environment: pytest.MonkeyPatch, own_server: RedisServer) -> None:
    with own_server.hanging():
        found = unreachable(environment, own_server.url)

    assert found.message.startswith(f"The shared cache at {place_of(own_server)} does not answer in time.")


def test_no_option_of_the_url_makes_the_wait_longer(environment: pytest.MonkeyPatch, own_server: RedisServer) -> None:
    with own_server.hanging():
        (found,) = looked_at(environment, f"{own_server.url}?socket_timeout=1000000", limit=0.3)
    assert "does not answer in time" in found.message


@pytest.mark.parametrize("user", [f"default:no-{PASSWORD}", f":no-{PASSWORD}", f"nobody:{PASSWORD}", "", PASSWORD])
def test_a_password_that_redis_refuses_is_a_warning(
    environment: pytest.MonkeyPatch, own_server: RedisServer, user: str
) -> None:
    with own_server.client() as client:
        client.config_set("requirepass", PASSWORD)
    found = unreachable(environment, with_user(own_server, user))

    assert "refuses the user name or the password, or needs them" in found.message
    assert "percent-encode" in found.advice


@pytest.fixture
def user(own_server: RedisServer) -> Callable[..., str]:
    """Makes a user, who may do nothing but this, and gives the URL for him."""

    def make(*rights: str) -> str:
        with own_server.client() as client:
            client.script_flush()
            client.acl_setuser(
                "shop",
                enabled=True,
                passwords=[f"+{PASSWORD}"],
                keys=[right.removeprefix("~") for right in rights if right.startswith("~")],
                commands=[right for right in rights if right.startswith("+")],
                reset=True,
            )
        return with_user(own_server, f"shop:{PASSWORD}")

    return make


def test_a_user_with_the_rights_that_are_advised_is_right(
    environment: pytest.MonkeyPatch, user: Callable[..., str]
) -> None:
    advice = unreachable(environment, user()).advice
    assert advice.startswith("Give the user in cache_url these rights: ")
    rights = advice.removesuffix(".").partition(": ")[2].split()

    assert len(rights) == 7

    # Another database has to be selected.
    (found,) = looked_at(environment, user(*rights).replace("/0", "/1"))
    assert found.status == "ok"
    for missing in rights:
        found = unreachable(environment, user(*(right for right in rights if right != missing)).replace("/0", "/1"))
        # It is a script that calls DEL, and older servers give no reason of its failure.
        assert "does not allow all that your app needs" in found.message or missing == "+del"
        assert " ".join(rights) in found.advice


def test_a_replica_is_a_warning(environment: pytest.MonkeyPatch, own_server: RedisServer) -> None:
    with own_server.client() as client:
        client.replicaof("127.0.0.1", "1")
    found = unreachable(environment, own_server.url + PATIENT)

    assert "is a read-only replica" in found.message
    assert found.advice == "Name the primary in cache_url."


def test_a_redis_without_memory_is_a_warning(environment: pytest.MonkeyPatch, own_server: RedisServer) -> None:
    with own_server.client() as client:
        client.config_set("maxmemory", "1")
    found = unreachable(environment, own_server.url + PATIENT)

    assert "has no memory left" in found.message
    assert "maxmemory-policy" in found.advice


@contextmanager
def answering(line: str) -> Iterator[str]:
    """The URL of what answers all that it is sent with this line."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(65_536):
                self.request.sendall(f"{line}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}{PATIENT}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("line", "message", "advice"),
    [
        (
            "-LOADING Redis is loading the dataset in memory",
            "cannot be reached (BusyLoadingError)",
            "Check that it is running",
        ),
        ("-ERR max number of clients reached", "cannot be reached (ConnectionError)", "Check that it is running"),
        ("-MOVED 3999 127.0.0.1:6381", "answers with an error (MovedError)", "For Sentinel or a cluster"),
        ("-MISCONF Redis cannot write to disk", "answers with an error (ResponseError)", "see the log of the server"),
        (f"-ERR {PASSWORD}", "answers with an error (ResponseError)", "needs these rights"),
        ("SSH-2.0-server", "cannot be used (InvalidResponse)", "Check cache_url and its options"),
    ],
)
def test_what_else_may_be_answered_is_a_warning(
    environment: pytest.MonkeyPatch, line: str, message: str, advice: str
) -> None:
    with answering(line) as url:
        found = unreachable(environment, url)

    assert message in found.message
    assert advice in found.advice


def test_an_option_that_does_not_exist_is_a_warning(environment: pytest.MonkeyPatch, server: RedisServer) -> None:
    found = unreachable(environment, f"{server.url}?{PASSWORD}=1")

    assert "cannot be used (TypeError)" in found.message
    assert "see redis.Redis.from_url" in found.advice


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
@pytest.mark.parametrize("password", ["user", "query"])
def test_a_password_without_tls_is_a_warning_unless_it_stays_on_this_machine(
    environment: pytest.MonkeyPatch, own_server: RedisServer, host: str, password: str
) -> None:
    with own_server.client() as client:
        client.config_set("requirepass", PASSWORD)
    if password == "user":
        url = with_user(own_server, f":{PASSWORD}")
    else:
        url = f"{own_server.url}{PATIENT}&password={PASSWORD}"
    *warnings, last = looked_at(environment, url.replace("127.0.0.1", host))

    assert last.status == "ok"
    # An address of this machine that does not say so.
    assert [found.status for found in warnings] == (["warning"] if host == "0.0.0.0" else [])
    for found in warnings:
        assert "travels unencrypted" in found.message
        assert "rediss://" in found.advice


@pytest.mark.parametrize(
    "url", ["redis://:1/hunter2@c.example", "redis://user:1#hunter2@c.example", "redis://:1?7@c.example"]
)
def test_a_password_that_is_not_encoded_is_not_taken_for_the_address(environment: pytest.MonkeyPatch, url: str) -> None:
    found = looked_at(environment, url)[-1]

    assert found.status == "warning"
    assert found.message.startswith("The shared cache cannot be reached (")
    assert found.advice.startswith("In cache_url, percent-encode ")
