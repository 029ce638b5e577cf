import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from example_app.demo import ROOT, is_busy

pytestmark = pytest.mark.slow


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def demo(data: Path, app_port: int, marketplace_port: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "example_app.demo", "--data", str(data)]
    ports = ["--app-port", str(app_port), "--marketplace-port", str(marketplace_port)]
    with subprocess.Popen(
        [*command, *ports], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_the_demo_runs_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals, code: int) -> None:
    app_port, marketplace_port = free_ports(2)
    with demo(tmp_path / "data", app_port, marketplace_port) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        assert process.stdout.readline() == f"The local marketplace is open: http://localhost:{marketplace_port}\n"
        assert "Acme Analytics" in httpx2.get(f"http://127.0.0.1:{app_port}/").text
        storefront = httpx2.get(f"http://localhost:{marketplace_port}/").text
        assert f"http://127.0.0.1:{app_port}/marketplace/register" in storefront

        process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in errors
    assert not is_busy(app_port)
    assert not is_busy(marketplace_port)
    assert (tmp_path / "data" / "acme.db").is_file()


@pytest.mark.parametrize("taken", [0, 1])
def test_a_busy_port_is_said_in_one_sentence_before_anything_starts(tmp_path: Path, taken: int) -> None:
    ports = free_ports(2)
    with socket.create_server(("127.0.0.1", ports[taken])), demo(tmp_path / "data", *ports) as process:
        output, errors = process.communicate()
    assert process.returncode == 1
    assert output == ""
    assert errors.startswith(f"Port {ports[taken]} is in use")
    assert errors.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_when_the_app_cannot_start_the_marketplace_is_ended_as_well(tmp_path: Path) -> None:
    (tmp_path / "acme.db").mkdir()
    ports = free_ports(2)
    with demo(tmp_path, *ports) as process:
        output, errors = process.communicate()
    assert process.returncode not in (0, 128 + signal.SIGTERM)
    assert output == ""
    assert "unable to open database file" in errors
    assert not any(is_busy(port) for port in ports)
