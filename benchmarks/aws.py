"""A stand-in for AWS that costs little: ResolveCustomer answered after a while, each token with a licence of its own.

`python -m benchmarks.aws SECONDS DESCRIPTOR` serves on a listening socket; GET answers how many calls there were.
"""

import asyncio
import hashlib
import json
import socket
import sys


class Metering(asyncio.Protocol):
    calls = 0
    delay = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        if head.startswith(b"GET"):
            self._received = b""
            self._answer(Metering.calls)
            return
        lengths = [
            line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        ]
        if len(body) < int(lengths[0]):
            return
        self._received = b""
        Metering.calls += 1
        token = json.loads(body)["RegistrationToken"]
        licence = hashlib.sha256(token.encode()).hexdigest()[:32]
        answer = {
            "CustomerAWSAccountId": "123456789012",
            "ProductCode": "acmeanalytics",
            "LicenseArn": f"arn:aws:license-manager::111122223333:license:l-{licence}",
            "Metadata": {"AgreementId": f"agmt-{licence[:24]}"},
        }
        if self.delay:
            asyncio.get_running_loop().call_later(self.delay, self._answer, answer)
        else:
            self._answer(answer)

    def _answer(self, content: object) -> None:
        body = json.dumps(content).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def main(delay: float, descriptor: int) -> None:
    Metering.delay = delay
    server = await asyncio.get_running_loop().create_server(Metering, sock=socket.socket(fileno=descriptor))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), int(sys.argv[2])))
