import re

from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE_NAME = re.compile(rb"[\x21-\x7e]*")


class PlainCookieNames:
    """Drop cookies whose names contain anything but visible ASCII characters.

    A subdomain cannot set a cookie named `__Host-session`, but it can set one whose name has a U+00A0 before that.
    Starlette's cookie parser strips this character, and SessionMiddleware would take the cookie for its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            headers = [(name, plain(value) if name == b"cookie" else value) for name, value in scope["headers"]]
            scope = {**scope, "headers": headers}
        await self.app(scope, receive, send)


def plain(header: bytes) -> bytes:
    cookies = header.split(b";")
    return b";".join(each for each in cookies if COOKIE_NAME.fullmatch(each.partition(b"=")[0].strip(b" \t")))
