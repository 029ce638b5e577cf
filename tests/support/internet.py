"""The internet as one host sees it: names, TLS, and who answers at them."""

import socket
import ssl
import threading
from contextlib import AbstractContextManager, ExitStack, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import trustme

from tests.support.network import QuietServer


class Internet(QuietServer):
    """An HTTPS proxy. It ends TLS with a certificate of its own authority, and passes on to who answers at a name.

    Attributes:
        environment: The variables by which boto3 and urllib go through it, and trust its authority.
        upstreams: The base URL that answers, by the end of the name.
        certificates: Names that do not have the certificate that they should have.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(_Handler)
        self._authority = trustme.CA()
        bundle = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(bundle))
        self.environment = {
            "HTTPS_PROXY": self.url,
            "AWS_CA_BUNDLE": str(bundle),
            "SSL_CERT_FILE": str(bundle),
        }
        self.upstreams: dict[str, str] = {}
        self.certificates: dict[str, trustme.LeafCert] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}

    def upstream(self, name: str) -> tuple[str, int]:
        url = next(urlsplit(url) for end, url in self.upstreams.items() if name.endswith(end))
        assert url.hostname
        assert url.port
        return url.hostname, url.port

    def context(self, name: str) -> ssl.SSLContext:
        if name not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate = self.certificates.get(name) or self._authority.issue_cert(name)
            certificate.configure_cert(context)
            self._contexts[name] = context
        return self._contexts[name]


def internet(folder: Path) -> AbstractContextManager[Internet]:
    return Internet(folder).running()


class _Handler(BaseHTTPRequestHandler):
    server: Internet

    def do_CONNECT(self) -> None:
        name = self.path.rpartition(":")[0]
        with ExitStack() as stack:
            try:
                address = self.server.upstream(name)
            except StopIteration:
                self.send_error(502)
                return
            self.send_response(200)
            self.end_headers()
            client = stack.enter_context(self.server.context(name).wrap_socket(self.connection, server_side=True))
            upstream = stack.enter_context(socket.create_connection(address))
            back = threading.Thread(target=_copy, args=(upstream, client))
            back.start()
            _copy(client, upstream)
            back.join()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
