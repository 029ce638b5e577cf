"""Start the example app and the local marketplace together, until Ctrl-C: `python -m example_app.demo`."""

import argparse
import errno
import os
import socket
import sys
from pathlib import Path

from starlette_marketplace.cli import main as starlette_marketplace

ROOT = Path(__file__).parent.parent

APP = [sys.executable, "-m", "uvicorn", "--factory", "example_app.app:create_app", "--log-level", "warning"]


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

    options.data.mkdir(parents=True, exist_ok=True)
    set_environment(options.data / "acme.db")
    os.chdir(ROOT)
    # Two names of one machine: for the browser they are two sites, as AWS and a seller's site are.
    local = ["local", "--app", f"http://127.0.0.1:{options.app_port}", "--port", str(options.marketplace_port)]
    return starlette_marketplace([*local, "--", *APP, "--port", str(options.app_port)])


def is_busy(port: int) -> bool:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            socket.create_server((host, port), family=family).close()
        except OSError as exc:
            # Anything else, such as a machine without IPv6, is for the app to judge.
            if exc.errno == errno.EADDRINUSE:
                return True
    return False


def set_environment(database: Path) -> None:
    # The demo looks the same whatever the user has set; `starlette-marketplace local` sets what leads to it.
    for name in [name for name in os.environ if name.startswith("MARKETPLACE_")]:
        del os.environ[name]
    os.environ |= {
        "DATABASE_URL": f"sqlite:///{database.resolve()}",
        "SESSION_SECRET": "demo-only-session-secret-never-use-it-elsewhere",
        "SESSION_HTTPS_ONLY": "false",
        "MARKETPLACE_SECRET_KEY": "demo-only-marketplace-secret-never-use-it-elsewhere",
        "MARKETPLACE_PRODUCT_NAME": "Acme Analytics",
        "MARKETPLACE_LOGO_URL": "/static/icon.svg",
        "MARKETPLACE_SUPPORT_URL": "mailto:support@acme.example",
        # A plan that is changed in the local marketplace shows when the page is reloaded. On the real AWS, keep the
        # default of 300 seconds: AWS limits how often it answers.
        "MARKETPLACE_CACHE_TTL": "5",
    }


if __name__ == "__main__":
    sys.exit(main())
