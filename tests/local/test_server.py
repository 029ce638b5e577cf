import errno
import re
import signal
import socket
from typing import Any

import pytest

from starlette_marketplace.local import LocalMarketplace, bind_loopback, run


def fail_on_ipv6(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    create_server = socket.create_server

    def create(address: tuple[str, int], **options: Any) -> socket.socket:
        if address[0] == "::1":
            raise OSError(number, "no")
        return create_server(address, **options)

    monkeypatch.setattr(socket, "create_server", create)


def test_every_listener_is_on_loopback_and_on_the_same_port() -> None:
    listeners = bind_loopback(0)

    names = [listener.getsockname() for listener in listeners]
    for listener in listeners:
        listener.close()
    assert names[0][0] == "127.0.0.1"
    assert {name[0] for name in names} <= {"127.0.0.1", "::1"}
    assert len({name[1] for name in names}) == 1


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_a_machine_without_ipv6_listens_on_ipv4_alone(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    fail_on_ipv6(monkeypatch, number)

    (listener,) = bind_loopback(0)

    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_address_alone_is_listened_on_when_asked_for(host: str) -> None:
    (listener,) = bind_loopback(0, host=host)

    with listener:
        assert listener.getsockname()[0] == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.2", "127.0.0.2", "example.com", "LOCALHOST"])
def test_whatever_is_not_loopback_is_refused_and_nothing_is_opened(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(socket, "create_server", lambda *_, **__: pytest.fail("a socket was opened"))

    with pytest.raises(ValueError, match=f"^{re.escape(repr(host))} is refused: the local marketplace has no login"):
        bind_loopback(0, host=host)


def test_a_port_that_is_busy_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        bind_loopback(other.getsockname()[1])


def test_a_port_that_is_busy_on_ipv6_alone_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    fail_on_ipv6(monkeypatch, errno.EADDRINUSE)

    with pytest.raises(OSError, match="no"):
        bind_loopback(port)

    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_and_leaves_the_handlers_as_they_were(number: signal.Signals) -> None:
    handlers = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    listeners = bind_loopback(0)

    run(LocalMarketplace(), listeners, on_ready=lambda: signal.raise_signal(number))

    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == handlers
    assert [listener.fileno() for listener in listeners] == [-1] * len(listeners)
