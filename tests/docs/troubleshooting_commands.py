"""Reproductions of what the command and the local marketplace say."""

import re
import resource
import socket
import sys

import httpx2
import pytest

from starlette_marketplace.cli import main
from tests.docs.troubleshooting_scene import Reproduction, Scene


def arguments(*argv: str, error: str = r"argument --[a-z-]+: ") -> Reproduction:
    """The command with an argument that it does not take."""

    def run(scene: Scene) -> str:
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 2
        said = re.search(rf"error: {error}(.+)\n$", scene.output.readouterr().err)
        assert said
        return said[1]

    return run


def failing(scene: Scene, *argv: str, code: int = 1) -> str:
    """What the command says when it ends with an error."""
    assert main(argv) == code
    return scene.output.readouterr().err.removesuffix("\n")


def port_in_use(scene: Scene) -> str:
    with socket.create_server(("127.0.0.1", 0)) as other:
        return failing(scene, "local", "--port", str(other.getsockname()[1]))


def port_unusable(scene: Scene) -> str:
    """The process may open nothing any more."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, files[1]))
    try:
        return failing(scene, "local", "--port", "0")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, files)


def command_not_found(scene: Scene) -> str:
    return failing(scene, "local", "--port", "0", "--", "uvicon", "acme:app", code=127)


def command_not_executable(scene: Scene) -> str:
    return failing(scene, "local", "--port", "0", "--", __file__, code=126)


def without_the_extra(scene: Scene) -> str:
    scene.environment.setitem(sys.modules, "uvicorn", None)
    for name in [name for name in sys.modules if name.startswith("starlette_marketplace.local")]:
        scene.environment.delitem(sys.modules, name)
    return failing(scene, "local")


def browsing(path: str, *, status: int = 403, fields: dict[str, str] | None = None, **headers: str) -> Reproduction:
    """The local marketplace, asked by a browser."""

    def ask(scene: Scene) -> str:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        method = "GET" if fields is None else "POST"
        answer = httpx2.request(method, f"{scene.settings.endpoint_url}{path}", data=fields, headers=sent)
        assert answer.status_code == status
        return answer.text.removesuffix("\n")

    return ask


COMMANDS: dict[str, Reproduction] = {
    "no-url": arguments("local", "--app", "127.0.0.1:8000"),
    "url-with-password": arguments("doctor", "--url", "https://ada:secret@shop.example"),
    "url-with-letters": arguments("doctor", "--url", "https://bücher.example"),
    "no-target": arguments("doctor", "--settings", "app/main.py"),
    "no-port": arguments("local", "--port", "65536"),
    "no-condition": arguments("local", "--port", "0", "--error-rate", "25%"),
    "no-host": arguments("local", "--port", "0", "--host", "0.0.0.0"),
    "port-in-use": port_in_use,
    "port-unusable": port_unusable,
    "no-command": arguments("local", "--", error=""),
    "command-not-found": command_not_found,
    "command-not-executable": command_not_executable,
    "local-missing": without_the_extra,
    "page-by-other-name": browsing("/", host="machine.example:8001"),
    "form-of-another-page": browsing("/buyer", fields={"account_id": ""}, sec_fetch_site="cross-site"),
    "loaded-by-another-page": browsing("/", sec_fetch_site="cross-site", sec_fetch_mode="no-cors"),
    "buyer-gone": browsing("/buyer", status=404, fields={"account_id": "000000000000"}, sec_fetch_site="same-origin"),
}
