"""What buyers see: self-contained pages without scripts, and the JSON envelope for hosts that post by themselves."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from starlette.responses import HTMLResponse, JSONResponse, Response

from .form import header, media_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import Message, Send

    from ..errors import MarketplaceError

_STYLE = """
:root { color-scheme: light dark; --text: #1b2533; --muted: #566275; --page: #f3f5f9; --card: #fff; --line: #dde3ec;
  --accent: #1f5fd0; --on-accent: #fff; }
@media (prefers-color-scheme: dark) { :root { --text: #e8edf5; --muted: #a4b0c2; --page: #0f1520; --card: #182130;
  --line: #2b384c; --accent: #82aeff; --on-accent: #0f1520; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--page);
  color: var(--text); font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { width: 100%; max-width: 34rem; padding: 2.25rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 1rem; box-shadow: 0 1.25rem 3rem -1.75rem rgb(15 25 45 / .45); }
.logo { display: block; max-width: 100%; max-height: 4rem; margin: 0 0 1.25rem; }
@media (prefers-color-scheme: dark) { .logo { padding: .5rem; border-radius: .5rem; background: #fff; } }
.eyebrow { margin: 0 0 .5rem; color: var(--muted); font-size: .8rem; font-weight: 600; letter-spacing: .05em;
  text-transform: uppercase; }
h1 { margin: 0 0 .75rem; font-size: 1.6rem; line-height: 1.25; letter-spacing: -.01em; text-wrap: balance; }
h2 { margin: 1.75rem 0 .5rem; font-size: 1rem; }
p { margin: 0 0 1rem; }
ol { margin: 0; padding-left: 1.35rem; }
li { margin: .3rem 0; padding-left: .25rem; }
form { margin: 1.5rem 0 0; }
button { padding: .7rem 1.5rem; border: 0; border-radius: .6rem; background: var(--accent); color: var(--on-accent);
  font: inherit; font-weight: 600; cursor: pointer; }
a { color: var(--accent); }
a:focus-visible, button:focus-visible { outline: 3px solid var(--accent); outline-offset: 3px; }
footer { margin-top: 1.75rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--muted);
  font-size: .875rem; }
footer p { margin: 0; }
code { font-size: 1em; letter-spacing: .03em; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_NO_STORE = {"Cache-Control": "no-store"}
_PAGE_HEADERS = _NO_STORE | {"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}

_BODY_MESSAGES = ("http.response.body", "http.response.pathsend", "http.response.zerocopysend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seller:
    """What the pages say of who sells the product.

    Attributes:
        product_name: As the setting says.
        logo_url: As the browser has to ask for it: a path has the root path before it.
        support_url: As the setting says.
    """

    product_name: str | None
    logo_url: str | None
    support_url: str | None


def landing_page(seller: Seller) -> Response:
    """The page for whoever opens the address without coming from AWS Marketplace."""
    product = f" to {escape(seller.product_name)}" if seller.product_name else ""
    body = f"<p>This address completes subscriptions{product} that were bought on AWS Marketplace.</p>"
    return _page("Set up your account from AWS Marketplace", body + _fresh_link(seller), seller=seller)


def error_page(error: MarketplaceError, seller: Seller, *, reference: str, retry_fields: Mapping[str, str]) -> Response:
    """The page of `error`, with a button that sends `retry_fields` if there are any."""
    body = f"<p>{escape(error.message)}</p>"
    if retry_fields:
        inputs = "".join(
            f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
            for name, value in retry_fields.items()
        )
        body += f'<form method="post">{inputs}<button type="submit">Try again</button></form>'
    else:
        body += _fresh_link(seller)
    return _page(error.title, body, seller=seller, error=error, reference=reference)


def json_error(error: MarketplaceError) -> Response:
    """`error` in the JSON envelope."""
    content = {"success": False, "error": {"code": error.code, "message": error.message}}
    return JSONResponse(content, error.status, _NO_STORE | _retry_after(error))


def json_success(data: dict[str, object]) -> Response:
    """`data` in the JSON envelope."""
    return JSONResponse({"success": True, "data": data})


def prefers_json(request: Request) -> bool:
    """Whether the client sent JSON, or takes it and no HTML. Browsers that post a form take HTML."""
    if media_type(request) == "application/json":
        return True
    accept = header(request, b"accept").lower()
    return "application/json" in accept and "text/html" not in accept


def _fresh_link(seller: Seller) -> str:
    product = f"<strong>{escape(seller.product_name)}</strong>" if seller.product_name else "this product"
    return f"""<h2>How to get a fresh link</h2>
<ol>
<li>Sign in to the AWS account that subscribed.</li>
<li>In the AWS Marketplace console, open <strong>Manage subscriptions</strong>.</li>
<li>Choose {product}, then <strong>Set up your account</strong>.</li>
</ol>"""


def without_body(send: Send) -> Send:
    """`send` for the answer to a HEAD request: the headers that a GET would get, and no body.

    Servers drop the body themselves. Middleware in between may count or compress it.
    """

    async def send_head(message: Message) -> None:
        if message["type"] in _BODY_MESSAGES:
            message = {"type": "http.response.body", "body": b"", "more_body": message.get("more_body", False)}
        await send(message)

    return send_head


def _page(
    title: str,
    body: str,
    *,
    seller: Seller,
    error: MarketplaceError | None = None,
    reference: str | None = None,
) -> Response:
    footer = [f"Reference <code>{escape(reference)}</code>"] if reference else []
    if seller.support_url:
        footer.append(_support(seller.support_url))
    head, eyebrow = title, "AWS Marketplace"
    if seller.product_name:
        head, eyebrow = f"{title} - {seller.product_name}", f"{seller.product_name} on AWS Marketplace"
    logo = ""
    if seller.logo_url:
        logo = f'<img class="logo" src="{escape(seller.logo_url)}" alt="">\n'
    html = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{escape(head)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{logo}<p class="eyebrow">{escape(eyebrow)}</p>
<h1>{escape(title)}</h1>
{body}
{f"<footer><p>{' &middot; '.join(footer)}</p></footer>" if footer else ""}
</main>
</body>
</html>
"""
    # Browsers apply form-action to where the answer to the form redirects, which may be a signup on another host.
    form_action = "http: https:" if "<form" in body else "'none'"
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src {_image_source(seller.logo_url)}; "
        f"form-action {form_action}; base-uri 'none'; frame-ancestors 'none'"
    )
    headers = _PAGE_HEADERS | {"Content-Security-Policy": policy} | (_retry_after(error) if error else {})
    return HTMLResponse(html, error.status if error else 200, headers)


def _support(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "mailto":
        # The address itself, for those whose browser opens no mail program.
        return f'Support: <a href="{escape(url)}">{escape(unquote(parts.path))}</a>'
    return f'<a href="{escape(url)}">Contact support</a>'


def _image_source(url: str | None) -> str:
    if url is None:
        return "'none'"
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else "'self'"


def _retry_after(error: MarketplaceError) -> dict[str, str]:
    return {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
