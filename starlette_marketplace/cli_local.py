"""The command `starlette-marketplace local`."""

from __future__ import annotations

import argparse
import errno
import functools
import os
import secrets
import shutil
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import socket

    from .local import LocalMarketplace

REGISTRATION_PATH = "/marketplace/register"
"""The path of the fulfillment URL, where a URL has no other."""

# What a shell answers for a command that it cannot execute, and for one that it does not find.
_NOT_EXECUTABLE = 126
_NOT_FOUND = 127

_OPEN = """\
The local marketplace is open: {address}
Watch every call as it happens: {address}/activity

It sends buyers to {registration_url} (--app changes that), and listens on this machine only.
"""

_HOW_TO_START = """\
For your app to ask this marketplace instead of AWS, let this command start it:

  starlette-marketplace local -- COMMAND   # such as uvicorn acme:app

Or set these variables before you start it:

{exports}

In code, the first of these is the setting endpoint_url; {address}/connect has more, for every language.
Ctrl-C closes the marketplace.
"""

_NO_ANSWER = """\
Your app does not answer at {registration_url} yet. If it listens at another address, end it with Ctrl-C
and give the address with --app, such as: starlette-marketplace local --app http://127.0.0.1:5000 -- ...

"""


def add_local(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "a stand-in for AWS Marketplace on this machine"
    parser = commands.add_parser(
        "local",
        usage="%(prog)s [OPTION ...] [-- COMMAND [ARGUMENT ...]]",
        help=f"run {summary}",
        description=f"Run {summary}, on loopback only. With a command after --, such as -- uvicorn acme:app, it starts "
        "your app with the environment to ask this marketplace instead of AWS, and ends with it, by its exit code.",
    )
    parser.add_argument(
        "--app",
        metavar="URL",
        type=registration_url,
        default="http://127.0.0.1:8000",
        help=f"your app; without a path, {REGISTRATION_PATH} is added (default: %(default)s, which to a browser is "
        "another site than localhost, as your app is to AWS Marketplace)",
    )
    parser.add_argument(
        "--port", type=_port, default=8001, help="port of the marketplace; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--host",
        default="localhost",
        help="127.0.0.1, ::1 or localhost, which is both; no other, because whoever reaches the marketplace can take "
        "on the identity of any buyer (default: %(default)s)",
    )
    parser.add_argument(
        "--latency", metavar="MS", default="0", help="milliseconds that every answer of AWS is late (default: 0)"
    )
    parser.add_argument(
        "--error-rate", metavar="PERCENT", default="0", help="percentage of calls that fail by chance (default: 0)"
    )
    parser.add_argument(
        "--token-life", metavar="SECONDS", default="", help="seconds until a token expires (default: it never does)"
    )
    parser.set_defaults(command=functools.partial(_local, parser))


def _local(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    try:
        from .local import LocalMarketplace, bind_loopback, run
        from .local.environment import export_lines
    except ImportError as exc:
        return _fail(str(exc))
    if arguments.app_command is not None and not "".join(arguments.app_command[:1]).strip():
        parser.error("after -- comes the command that starts your app, such as: -- uvicorn acme:app")
    marketplace = LocalMarketplace(arguments.app)
    texts = {"latency": arguments.latency, "error-rate": arguments.error_rate, "token-life": arguments.token_life}
    for name, error in marketplace.conditions.read(texts).items():
        parser.error(f"argument --{name}: {error}")
    try:
        listeners = bind_loopback(arguments.port, host=arguments.host)
    except ValueError as exc:
        parser.error(f"argument --host: {exc}")
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            return _fail(f"Port {arguments.port} is already in use: choose another one with --port.")
        return _fail(f"Port {arguments.port} cannot be used: {exc.strerror}.")
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    address = f"http://{host}:{listeners[0].getsockname()[1]}"
    if arguments.app_command:
        return _run_app(arguments, marketplace, listeners, address)
    text = _OPEN + _HOW_TO_START
    exports = "\n".join(f"  {line}" for line in export_lines(address, secret_key=secrets.token_urlsafe(32)))
    values = {"address": address, "registration_url": arguments.app, "exports": exports}
    run(marketplace, listeners, on_ready=lambda: print(text.format(**values), flush=True))
    return 0


def _run_app(
    arguments: argparse.Namespace, marketplace: LocalMarketplace, listeners: list[socket.socket], address: str
) -> int:
    from .local import AppCommand, app_environment, run_beside

    command = AppCommand(
        arguments.app_command,
        environ=app_environment(address, os.environ),
        app_url=arguments.app,
        on_answer=lambda answers: print(open_beside_app(address, arguments.app, answers=answers), flush=True),
    )
    try:
        return run_beside(marketplace, listeners, command)
    except OSError as exc:
        return _fail_to_start(arguments.app_command[0], exc)


def _fail_to_start(name: str, exc: OSError) -> int:
    reason = exc.strerror
    if isinstance(exc, FileNotFoundError):
        if shutil.which(name) is None:
            return _fail(
                f"The command {name} was not found. Check its spelling, and that its virtual environment is active.",
                _NOT_FOUND,
            )
        reason = "the program that its first line names was not found"
    return _fail(
        f"The command {name} cannot be executed: {reason}. Name the program that runs it first, such as: "
        f"-- python {name}",
        _NOT_EXECUTABLE,
    )


def open_beside_app(address: str, app_url: str, *, answers: bool) -> str:
    """Say where the marketplace is, between the lines of the app that it has started."""
    text = f"\n{'' if answers else _NO_ANSWER}{_OPEN}Ctrl-C ends your app and the marketplace.\n"
    return text.format(address=address, registration_url=app_url)


def registration_url(text: str) -> str:
    """Read the URL of an app; without a path, it gets that of the fulfillment URL."""
    try:
        url = urlsplit(text)
        is_usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise argparse.ArgumentTypeError(f"{text!r} is not an http or https URL such as http://127.0.0.1:8000")
    return url._replace(path=REGISTRATION_PATH).geturl() if url.path in ("", "/") else text


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _fail(message: str, code: int = 1) -> int:
    print(message, file=sys.stderr)
    return code
