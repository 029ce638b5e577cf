from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import re
import sys
from typing import TYPE_CHECKING

from ._version import __version__
from .cli_local import REGISTRATION_PATH, add_local, registration_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .doctor import Finding

# What a shell makes of a process that SIGPIPE has ended.
_BROKEN_PIPE = 128 + 13


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
    arguments = list(sys.argv[1:] if argv is None else argv)
    app_command = None
    if "--" in arguments and arguments[0] == "local":
        end = arguments.index("--")
        arguments, app_command = arguments[:end], arguments[end + 1 :]
    parser = argparse.ArgumentParser(
        prog="starlette-marketplace", description="Tools for AWS Marketplace registration in FastAPI and Starlette."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_local(commands)
    _add_doctor(commands)
    namespace = parser.parse_args(arguments, argparse.Namespace(app_command=app_command))
    command: Callable[[argparse.Namespace], int] = namespace.command
    return command(namespace)


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
        help=f"the fulfillment URL that AWS Marketplace has, to try it; without a path, {REGISTRATION_PATH} is added",
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
    return registration_url(text)
