"""HTTP by hand, for what no client would send."""

import socket
from urllib.parse import urlsplit

from tests.support.hosts import LANDING

URLENCODED = "Content-Type: application/x-www-form-urlencoded"


def connect(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((str(address.hostname), address.port or 0), timeout=60)


def head_of(*headers: str) -> bytes:
    """The head of a POST to the landing URL."""
    lines = [f"POST {LANDING} HTTP/1.1", "Host: app.example", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post_of(body: bytes) -> bytes:
    return head_of(URLENCODED, f"Content-Length: {len(body)}") + body


def answer_on(connection: socket.socket) -> str:
    """All that comes until the server hangs up."""
    received = b""
    while piece := connection.recv(65_536):
        received += piece
    return received.decode()
