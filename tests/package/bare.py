"""What works without extras and test tools: run by the Python of an environment that has the wheel alone."""

import asyncio
import importlib
import importlib.metadata
import subprocess
import sys
import sysconfig
from pathlib import Path

PUBLIC = ("hooks", "registration.resolver", "registration.shared_cache", "testing", "doctor", "cli")
# Of OpenTelemetry a host imports nothing from us: it is used when it is there.
NEED_AN_EXTRA = {"local": "local", "registration.redis": "redis"}


def main() -> None:
    package = importlib.import_module("starlette_marketplace")
    purelib, scripts = Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("scripts"))
    assert Path(str(package.__file__)).is_relative_to(purelib), package.__file__
    for name in package.__all__:
        getattr(package, name)
    for name in PUBLIC:
        importlib.import_module(f"starlette_marketplace.{name}")
    for name, extra in NEED_AN_EXTRA.items():
        try:
            importlib.import_module(f"starlette_marketplace.{name}")
        except ImportError as exc:
            reason = str(exc)
        else:
            reason = "imported without it"
        assert f"starlette-marketplace[{extra}]" in reason, f"starlette_marketplace.{name}: {reason}"
    command = scripts / "starlette-marketplace"
    shown = subprocess.run([command, "--help"], capture_output=True, text=True, check=True).stdout
    assert {"local", "doctor"} <= set(shown.replace(",", " ").replace("{", " ").replace("}", " ").split()), shown
    refused = subprocess.run([command, "local"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1, refused
    assert 'pip install "starlette-marketplace[local]"' in refused.stderr, refused
    status, body = asyncio.run(landing_page())
    assert status == 200, status
    assert b"AWS Marketplace" in body, body
    installed = sorted(each.name for each in importlib.metadata.distributions())
    sys.stdout.write(f"GET /marketplace/register answers {status}; installed are {', '.join(installed)}\n")


async def landing_page() -> tuple[int, bytes]:
    """What a tiny app answers to a GET of the landing URL, asked as a server does."""
    from starlette.applications import Starlette
    from starlette.types import Message

    from starlette_marketplace import MarketplaceMiddleware, MarketplaceSettings

    app = Starlette()
    app.add_middleware(
        MarketplaceMiddleware, settings=MarketplaceSettings(secret_key="k" * 32, product_codes=("acmeanalytics",))
    )
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    path = "/marketplace/register"
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": [], "query_string": b""}
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


if __name__ == "__main__":
    main()
