from __future__ import annotations

import argparse
import errno
import secrets
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_REGISTRATION_PATH = "/marketplace/register"

_READY = """\
The local marketplace is open: http://localhost:{port}

It sends buyers to {registration_url} (--app changes that).
For your app to ask this marketplace instead of AWS, start it with:

  export AWS_ENDPOINT_URL_MARKETPLACE_METERING=http://localhost:{port}
  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local
  export MARKETPLACE_PRODUCT_CODES={product_codes}
  export MARKETPLACE_SECRET_KEY={secret_key}
  export MARKETPLACE_HTTPS_ONLY=false

In code, the first of these is the setting endpoint_url. Ctrl-C closes the marketplace.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `starlette-marketplace`.

    Args:
        argv: The arguments after the command's name; None takes those of the process.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="starlette-marketplace", description="Tools for AWS Marketplace registration in FastAPI and Starlette."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_local(commands)
    arguments = parser.parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    return command(arguments)


def _add_local(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "a stand-in for AWS Marketplace on this machine"
    parser = commands.add_parser("local", help=f"run {summary}", description=f"Run {summary}, on loopback only.")
    parser.add_argument(
        "--app",
        metavar="URL",
        type=_registration_url,
        default="http://127.0.0.1:8000",
        help=f"your app; without a path, {_REGISTRATION_PATH} is added (default: %(default)s, which to a browser is "
        "another site than localhost, as your app is to AWS Marketplace)",
    )
    parser.add_argument(
        "--port", type=_port, default=8001, help="port of the marketplace; 0 takes a free one (default: %(default)s)"
    )
    parser.set_defaults(command=_local)


def _local(arguments: argparse.Namespace) -> int:
    try:
        from .local import PRODUCT_CODES, LocalMarketplace, bind_loopback, run
    except ImportError as exc:
        return _fail(str(exc))
    try:
        listeners = bind_loopback(arguments.port)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            return _fail(f"Port {arguments.port} is already in use: choose another one with --port.")
        return _fail(f"Port {arguments.port} cannot be used: {exc.strerror}.")
    ready = _READY.format(
        port=listeners[0].getsockname()[1],
        registration_url=arguments.app,
        product_codes=",".join(PRODUCT_CODES),
        secret_key=secrets.token_urlsafe(32),
    )
    run(LocalMarketplace(arguments.app), listeners, on_ready=lambda: print(ready, flush=True))
    return 0


def _registration_url(text: str) -> str:
    try:
        url = urlsplit(text)
        is_usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise argparse.ArgumentTypeError(f"{text!r} is not an http or https URL such as http://127.0.0.1:8000")
    return url._replace(path=_REGISTRATION_PATH).geturl() if url.path in ("", "/") else text


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1
