"""A site of somebody else, whose pages a buyer happens to open."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class ThirdSite:
    """Serves the pages that it is given.

    Attributes:
        url: Where it is, without a slash at the end.
    """

    def __init__(self, url: str, pages: dict[str, str]) -> None:
        self.url = url
        self._pages = pages

    def publish(self, body: str) -> str:
        """Put a page up, and give its address."""
        path = f"/{len(self._pages)}"
        self._pages[path] = f'<!doctype html><meta charset="utf-8"><title>Cute kittens</title>{body}'
        return self.url + path


@contextmanager
def serve_third_site(host: str) -> Iterator[ThirdSite]:
    pages: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write((page or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((host, 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield ThirdSite(f"http://{host}:{server.server_port}", pages)
        finally:
            server.shutdown()
            thread.join()


def self_submitting_form(action: str, fields: Mapping[str, str], *, in_frame: bool = False) -> str:
    """A form that sends itself as soon as the page is open, in place of the page or into a frame on it."""
    inputs = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in fields.items()
    )
    frame, target = ('<iframe name="inside"></iframe>', ' target="inside"') if in_frame else ("", "")
    form = f'<form method="post" action="{escape(action)}"{target}>{inputs}</form>'
    return f"{frame}{form}<script>document.forms[0].submit()</script>"
