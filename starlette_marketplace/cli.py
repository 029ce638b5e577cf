from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import io
import logging
import os
import re
import secrets
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .doctor import Finding

_REGISTRATION_PATH = "/marketplace/register"

# What a shell makes of a process that SIGPIPE has ended.
_BROKEN_PIPE = 128 + 13

_READY = """\
The local marketplace is open: {address}
Watch every call as it happens: {address}/activity

It sends buyers to {registration_url} (--app changes that), and listens on this machine only.
For your app to ask this marketplace instead of AWS, start it with:

  export AWS_ENDPOINT_URL_MARKETPLACE_METERING={address}
  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local
  export MARKETPLACE_PRODUCT_CODES={product_codes}
  export MARKETPLACE_SECRET_KEY={secret_key}
  export MARKETPLACE_HTTPS_ONLY=false

A role and the command doctor need AWS_ENDPOINT_URL_STS={address} as well.
In code, the first of these is the setting endpoint_url; {address}/connect has more, for every language.
Ctrl-C closes the marketplace.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `starlette-marketplace`.

    Args:
        argv: The arguments after the command's name; None takes those of the process.

    Returns:
        The exit code.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal cannot show is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(
        prog="starlette-marketplace", description="Tools for AWS Marketplace registration in FastAPI and Starlette."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_local(commands)
    _add_doctor(commands)
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
        from .local import PRODUCT_CODES, LocalMarketplace, bind_loopback, run
    except ImportError as exc:
        return _fail(str(exc))
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
    ready = _READY.format(
        address=f"http://{host}:{listeners[0].getsockname()[1]}",
        registration_url=arguments.app,
        product_codes=",".join(PRODUCT_CODES),
        secret_key=secrets.token_urlsafe(32),
    )
    run(marketplace, listeners, on_ready=lambda: print(ready, flush=True))
    return 0


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "doctor",
        help="say what is wrong between your app and AWS Marketplace, and how to fix it",
        description="Look at the settings that your app has, at the shared cache, at AWS with its credentials, and at "
        "its fulfillment URL and signup page; say what is wrong and how to fix it. Prints no secret, and changes "
        "nothing, except that it begins a registration where your app asks a local marketplace. Exit code 1 with a "
        "problem, 0 without, warnings or not.",
    )
    parser.add_argument(
        "--settings",
        metavar="MODULE:NAME",
        type=_target,
        help="settings, a Marketplace, or a function without arguments that gives one of them (default: the "
        "environment, as MarketplaceMiddleware does)",
    )
    parser.add_argument(
        "--url",
        type=_public_url,
        help=f"the fulfillment URL that AWS Marketplace has, to try it; without a path, {_REGISTRATION_PATH} is added",
    )
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(command=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from .doctor import as_json, as_text, examine, is_fine

    findings = []

    def found() -> Iterator[Finding]:
        for finding in examine(os.environ, target=arguments.settings, url=arguments.url):
            findings.append(finding)
            yield finding

    out = sys.stdout
    # Neither what the app prints when it is imported nor what anybody logs belongs into the output.
    with contextlib.redirect_stdout(sys.stderr), _without_logs():
        try:
            for text in [as_json(list(found()))] if arguments.json else as_text(found()):
                print(text, file=out, flush=True)
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:
            # Whoever read the output has left, as head does. What is still in the buffer may not fail again at exit.
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), out.fileno())
            return _BROKEN_PIPE
    return 0 if is_fine(findings) else 1


@contextlib.contextmanager
def _without_logs() -> Iterator[None]:
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(disabled)


def _target(text: str) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\.\w+)*:\w+(\.\w+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form module:name, such as app.main:settings")
    return text


def _public_url(text: str) -> str:
    if "@" in text:  # A password would come out again, in an error or in a finding.
        raise argparse.ArgumentTypeError("the URL of a listing has no user name and no password")
    if not text.isascii():
        raise argparse.ArgumentTypeError(
            f"{text!r} has letters that a URL has not: write its host as xn--..., and its path percent-encoded"
        )
    return _registration_url(text)


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
