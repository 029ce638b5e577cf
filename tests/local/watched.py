import threading

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Watched:
    """An ASGI app, and how far the request to it has come.

    Attributes:
        begun: Whether the app has begun to read the body.
        read: Whether the app has read the body and waits for what comes next.
        ended: Whether the app is done with it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.begun = threading.Event()
        self.read = threading.Event()
        self.ended = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_read = False

        async def look() -> Message:
            nonlocal is_read
            (self.read if is_read else self.begun).set()
            message = await receive()
            is_read = not message.get("more_body")
            return message

        try:
            await self._app(scope, look, send)
        finally:
            self.ended.set()
