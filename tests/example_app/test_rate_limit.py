import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import pytest
from limits.storage import MemoryStorage
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from starlette.datastructures import Address

from example_app.app import create_app
from example_app.rate_limit import RateLimit
from tests.support.servers import serve

pytestmark = pytest.mark.slow

LOGIN = {"email": "hank@globex.example", "password": "a wrong one"}
SIGNUP = {"company": "Globex", "email": "hank@globex.example", "password": "short"}

Send = Callable[..., httpx2.Response]


@pytest.fixture
def app_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NETWORK_TRIES_PER_MINUTE", "2")
    monkeypatch.setenv("TRIES_PER_MINUTE", "5")
    with serve(create_app()) as url:
        yield url


@pytest.fixture
def send(app_url: str) -> Iterator[Send]:
    """Posts a form from an address; uvicorn believes a proxy on the same machine."""
    with httpx2.Client(base_url=app_url, timeout=60) as client:

        def send(path: str, address: str, **headers: str) -> httpx2.Response:
            fields = LOGIN if path == "/login" else SIGNUP
            return client.post(path, data=fields, headers={"X-Forwarded-For": address, **headers})

        yield send


def statuses(send: Send, addresses: list[str]) -> list[int]:
    return [send("/login", address).status_code for address in addresses]


def test_a_network_that_tries_too_often_is_told_to_wait_by_a_page_of_the_app(send: Send, app_url: str) -> None:
    assert [send(path, "192.0.2.1").status_code for path in ("/login", "/signup")] == [400, 400]
    for path in ("/login", "/signup"):
        refused = send(path, "192.0.2.1")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "60"
        assert refused.headers["cache-control"] == "no-store"
        assert "There were too many tries. Please wait a minute" in refused.text
        assert "Acme Analytics" in refused.text
    assert send("/login", "192.0.2.2").status_code == 400
    assert httpx2.get(f"{app_url}/login", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 200


def test_all_addresses_of_an_ipv6_network_count_as_one(send: Send) -> None:
    same = ["2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::3"]
    assert statuses(send, [*same, "2001:db8:1:3::1"]) == [400, 400, 429, 400]


def test_an_ipv4_address_counts_as_itself_however_it_is_written(send: Send) -> None:
    assert statuses(send, ["::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"]) == [400, 400, 429]
    assert statuses(send, ["::ffff:192.0.2.2"]) == [400]


def test_visitors_without_an_address_count_as_one(send: Send) -> None:
    assert statuses(send, ["unix:", "somebody", "nobody"]) == [400, 400, 429]


def test_many_networks_have_a_limit_together_which_one_over_its_own_does_not_use_up(send: Send) -> None:
    assert statuses(send, ["192.0.2.1"] * 9) == [400] * 2 + [429] * 7
    assert statuses(send, [f"192.0.2.{number}" for number in range(2, 6)]) == [400, 400, 400, 429]


def test_forms_that_another_site_makes_a_visitor_send_do_not_count(send: Send) -> None:
    foreign = [send("/login", "192.0.2.1", **{"Sec-Fetch-Site": "cross-site"}).status_code for _ in range(3)]
    assert foreign == [403] * 3
    assert statuses(send, ["192.0.2.1"] * 3) == [400, 400, 429]


def test_networks_whose_minute_is_over_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = RateLimit(network_tries_per_minute=20, tries_per_minute=300)
    storage = limit.limiter.storage
    assert isinstance(storage, MemoryStorage)
    for number in range(100):
        limit.exceeded(Address(f"192.0.2.{number}", 1))
    storage.timer.join()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    limit.exceeded(Address("198.51.100.1", 1))
    storage.timer.join()
    assert max(len(storage.storage), len(storage.events)) == 2, "the network and all together"


class CountingHasher(Argon2Hasher):
    """Knows how many passwords were hashed or verified, and how many at the same time at most."""

    def __init__(self) -> None:
        super().__init__()
        self._changing = threading.Lock()
        self._running = 0
        self.at_once = 0
        self.calls = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._changing:
            self.calls += 1
            self._running += 1
            self.at_once = max(self.at_once, self._running)
        yield
        with self._changing:
            self._running -= 1

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        with self.counted():
            return super().hash(password, salt=salt)

    def verify(self, password: str | bytes, hash: str | bytes) -> bool:  # noqa: A002 (pwdlib's own name)
        with self.counted():
            return super().verify(password, hash)


def test_no_more_passwords_than_the_setting_allows_are_hashed_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORDS_AT_ONCE", "2")
    app, hasher = create_app(), CountingHasher()
    app.state.passwords.hasher = PasswordHash([hasher])
    with serve(app) as url, ThreadPoolExecutor(16) as threads:

        def send(number: int) -> int:
            email = f"hank{number}@globex.example"
            path = "/login" if number % 2 else "/signup"
            fields = {"company": "Globex", "email": email, "password": "correct horse"}
            return httpx2.post(f"{url}{path}", data=fields, timeout=60).status_code

        assert Counter(threads.map(send, range(16))) == {303: 8, 400: 8}
    assert hasher.calls == 16
    assert hasher.at_once <= 2
