"""Start the example app and the local marketplace together, until Ctrl-C: `python -m example_app.demo`."""

import argparse
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from urllib.request import ProxyHandler, build_opener

ROOT = Path(__file__).parent.parent
PATIENCE = 30.0  # seconds until both must answer

APP = [sys.executable, "-m", "uvicorn", "--factory", "example_app.app:create_app", "--log-level", "warning"]
MARKETPLACE = [
    sys.executable,
    "-c",
    "import sys; from starlette_marketplace.cli import main; sys.exit(main())",
    "local",
]

stopping = False


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m example_app.demo", description=__doc__)
    parser.add_argument("--app-port", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--marketplace-port", type=int, default=8001, help="default: %(default)s")
    parser.add_argument("--data", type=Path, default=ROOT / ".demo", help="directory of the database; default: .demo")
    options = parser.parse_args()

    for port, option in ((options.app_port, "--app-port"), (options.marketplace_port, "--marketplace-port")):
        if is_busy(port):
            sys.stderr.write(f"Port {port} is in use: end the program that uses it, or choose another with {option}.\n")
            return 1

    # Two names of one machine: for the browser they are two sites, as AWS and a seller's site are.
    app_url = f"http://127.0.0.1:{options.app_port}"
    marketplace_url = f"http://localhost:{options.marketplace_port}"
    options.data.mkdir(parents=True, exist_ok=True)
    environ = demo_environment(marketplace_url, options.data / "acme.db")

    # A flag and no exception: nothing can be cut in half between starting a child and knowing it.
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, stop)

    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        children["The example app"] = start([*APP, "--port", str(options.app_port)], environ)
        children["The local marketplace"] = start(
            [*MARKETPLACE, "--app", app_url, "--port", str(options.marketplace_port)], environ
        )
        return watch(children, app_url, marketplace_url)
    finally:
        for child in children.values():
            end(child)


def is_busy(port: int) -> bool:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            socket.create_server((host, port), family=family).close()
        except OSError as exc:
            # Anything else, such as a machine without IPv6, is for the child to judge.
            if exc.errno == errno.EADDRINUSE:
                return True
    return False


def demo_environment(marketplace_url: str, database: Path) -> dict[str, str]:
    # Nothing of the user's own AWS account may reach the demo, and nothing of the demo a proxy.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "MARKETPLACE_")) and not name.lower().endswith("_proxy")
    }
    return inherited | {
        "AWS_ACCESS_KEY_ID": "demo-only",
        "AWS_SECRET_ACCESS_KEY": "demo-only",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "DATABASE_URL": f"sqlite:///{database.resolve()}",
        "SESSION_SECRET": "demo-only-session-secret-never-use-it-elsewhere",
        "SESSION_HTTPS_ONLY": "false",
        "MARKETPLACE_SECRET_KEY": "demo-only-marketplace-secret-never-use-it-elsewhere",
        "MARKETPLACE_PRODUCT_CODES": "acmeanalytics,acmelegacy,acmepipelines,acmegateway",
        "MARKETPLACE_ENDPOINT_URL": marketplace_url,
        "MARKETPLACE_HTTPS_ONLY": "false",
        "MARKETPLACE_PRODUCT_NAME": "Acme Analytics",
        "MARKETPLACE_LOGO_URL": "/static/icon.svg",
        "MARKETPLACE_SUPPORT_URL": "mailto:support@acme.example",
    }


def start(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # In a session of its own, so that Ctrl-C in the terminal reaches only us. What a child prints on stdout is for
    # those who start it by hand; its log, on stderr, stays.
    return subprocess.Popen(  # noqa: S603 (our own commands)
        command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, start_new_session=True
    )


def watch(children: Mapping[str, subprocess.Popen[bytes]], *urls: str) -> int:
    waiting, deadline = list(urls), time.monotonic() + PATIENCE
    while not stopping:
        for name, child in children.items():
            if child.poll() is not None:
                sys.stderr.write(f"{name} has ended with exit code {child.returncode}; the demo ends as well.\n")
                return 1
        if waiting and answers(waiting[0]):
            waiting.pop(0)
            if not waiting:
                sys.stdout.write(f'Open {urls[-1]} and choose "Set up your account". Ctrl-C ends the demo.\n')
                sys.stdout.flush()
        elif waiting and time.monotonic() > deadline:
            sys.stderr.write(f"{waiting[0]} does not answer; the demo ends.\n")
            return 1
        else:
            time.sleep(0.2)
    return 0


def answers(url: str) -> bool:
    try:
        build_opener(ProxyHandler({})).open(url, timeout=2).close()
    except OSError:  # also urllib's own URLError
        return False
    return True


def end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def stop(_number: int, _frame: FrameType | None) -> None:
    global stopping
    stopping = True


if __name__ == "__main__":
    sys.exit(main())
