from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from fastapi.templating import Jinja2Templates
from markupsafe import Markup

from example_app.products import find_product

HEADERS = {
    # The pages show whose AWS account it is, and /link must not be framed and clicked through (clickjacking).
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def masked(aws_account_id: str) -> str:
    """Show enough of an AWS account id to recognise one's own."""
    return f"•••• •••• {aws_account_id[-4:]}"


def on_day(moment: datetime) -> Markup:
    """Show the day, in UTC: AWS gives its times in it."""
    day = f"{moment:%b} {moment.day}, {moment.year}"
    return Markup('<time datetime="{}">{}</time>').format(moment.date(), day)


templates = Jinja2Templates(directory=Path(__file__).parent / "templates")
templates.env.filters.update(product=find_product, masked=masked, on_day=on_day)
templates.env.globals.update(support="support@acme.example")


def page(request: Request, name: str, status_code: int = 200, **context: Any) -> Response:
    return templates.TemplateResponse(request, name, context, status_code, HEADERS)


def redirect(url: str) -> Response:
    # 303: whatever the method was, go on with a GET.
    return RedirectResponse(url, status_code=303, headers={"Cache-Control": "no-store"})
