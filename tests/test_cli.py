import errno
import io
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import httpx2
import pytest

from starlette_marketplace._version import __version__
from starlette_marketplace.cli import main
from starlette_marketplace.local import ENDPOINTS, LocalMarketplace
from starlette_marketplace.local.environment import export_lines

COMMAND = Path(sysconfig.get_path("scripts"), "starlette-marketplace")


class CtrlC(io.StringIO):
    """A terminal whose user presses Ctrl-C as soon as there is something to read."""

    def flush(self) -> None:
        signal.raise_signal(signal.SIGINT)


def opened_with(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    terminal = CtrlC()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        assert main(["local", "--port", "0", *arguments]) == 0
    return terminal.getvalue()


# An app without this package, as a seller writes it: the environment says where AWS is.
AN_APP = """
import sys
import boto3

customer = boto3.client("meteringmarketplace").resolve_customer(RegistrationToken=sys.argv[1])
boto3.client("marketplace-agreement").describe_agreement(agreementId=customer["Metadata"]["AgreementId"])
boto3.client("marketplace-entitlement").get_entitlements(ProductCode=customer["ProductCode"])
boto3.client("sts").get_caller_identity()
print(customer["ProductCode"])
assert "starlette_marketplace" not in sys.modules
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_app_that_has_only_boto3_starts_with_the_printed_lines(number: signal.Signals, tmp_path: Path) -> None:
    arguments = [str(COMMAND), "local", "--port", "0", "--app", "http://127.0.0.1:9999"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            printed = read_until(process, "Ctrl-C")
            page = httpx2.get(re.findall(r"is open: (\S+)", printed)[0]).text
            token = re.findall(r'name="x-amzn-marketplace-token" value="(\S+)"', page)[0]
            exports = "\n".join(re.findall(r"^  (export .+)$", printed, re.MULTILINE))
            app = subprocess.run(
                ["sh", "-euc", f'{exports}\nexec "$@"', "sh", sys.executable, "-c", AN_APP, token],
                env={"HOME": str(tmp_path), "PATH": os.defpath},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        finally:
            os.kill(process.pid, number)
        _, errors = process.communicate(timeout=30)

    assert app.returncode == 0, app.stderr
    assert 'action="http://127.0.0.1:9999/marketplace/register"' in page
    assert app.stdout.strip() in re.findall(r"MARKETPLACE_PRODUCT_CODES=(\w+)", printed)
    assert process.returncode == 0
    assert errors == ""


def test_the_printed_lines_are_those_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = opened_with(monkeypatch)

    [address] = re.findall(r"is open: (\S+)", printed)
    [secret_key] = re.findall(r"MARKETPLACE_SECRET_KEY=(\S{43})\n", printed)
    assert re.findall(r"^  (export .+)$", printed, re.MULTILINE) == export_lines(address, secret_key=secret_key)


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    assert process.stdout
    lines = ""
    while text not in lines:
        line = process.stdout.readline()
        assert line, "the process ended"
        lines += line
    return lines


def test_ctrl_c_ends_the_command_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = opened_with(monkeypatch)

    assert re.search(r"is open: http://localhost:\d+\n", printed)
    for name in ENDPOINTS:
        assert re.search(rf"export {name}=http://localhost:\d+\n", printed)
    assert "  starlette-marketplace local -- COMMAND   # such as uvicorn acme:app\n" in printed
    assert "export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local\n" in printed
    assert "export MARKETPLACE_PRODUCT_CODES=acmeanalytics,acmelegacy,acmepipelines,acmegateway\n" in printed


@pytest.mark.parametrize(
    ("arguments", "registration_url"),
    [
        ([], "http://127.0.0.1:8000/marketplace/register"),
        (["--app", "http://127.0.0.1:8080"], "http://127.0.0.1:8080/marketplace/register"),
        (["--app", "https://seller.example/"], "https://seller.example/marketplace/register"),
        (["--app", "http://[::1]:80"], "http://[::1]:80/marketplace/register"),
        (["--app", "http://127.0.0.1:8000/aws"], "http://127.0.0.1:8000/aws"),
        (["--app", "http://127.0.0.1:8000/aws/?a=b"], "http://127.0.0.1:8000/aws/?a=b"),
    ],
)
def test_the_registration_path_is_added_to_an_app_without_a_path(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], registration_url: str
) -> None:
    assert f"It sends buyers to {registration_url} (" in opened_with(monkeypatch, *arguments)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "localhost:8000", "ftp://127.0.0.1", "http://", "http://[::1", "http://a:port", ""]
)
def test_an_app_that_is_not_an_http_url_is_refused(capsys: pytest.CaptureFixture[str], url: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["local", "--app", url])

    assert ended.value.code == 2
    assert (
        f"argument --app: {url!r} is not an http or https URL such as http://127.0.0.1:8000" in capsys.readouterr().err
    )


@pytest.mark.parametrize("port", ["-1", "65536", "http", "", "٣"])
def test_a_port_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str], port: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["local", f"--port={port}"])

    assert ended.value.code == 2
    assert f"argument --port: {port!r} is not a port from 0 to 65535" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com", ""])
def test_a_host_that_is_not_loopback_is_refused_with_the_reason_and_a_way(
    capsys: pytest.CaptureFixture[str], host: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["local", "--port", "0", f"--host={host}"])

    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"argument --host: {host!r} is refused: the local marketplace has no login" in err
    assert "ssh -L 8001:localhost:8001" in err


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", r"http://127\.0\.0\.1"), ("::1", r"http://\[::1\]"), ("localhost", "http://localhost")],
)
def test_a_host_that_is_loopback_is_printed_in_every_address(
    monkeypatch: pytest.MonkeyPatch, host: str, address: str
) -> None:
    printed = opened_with(monkeypatch, "--host", host)

    addresses = re.findall(r"http://\S+", re.sub(r"It sends buyers to \S+", "", printed))
    port = re.findall(r":(\d+)\n", printed)[0]
    assert [re.fullmatch(rf"{address}:{port}(/activity|/connect)?", each) for each in addresses].count(None) == 0
    assert len(addresses) == 7


def test_the_marketplace_opens_with_the_conditions_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float, float | None]] = []

    def run(app: LocalMarketplace, listeners: list[socket.socket], *, on_ready: object) -> None:
        seen.append((app.delay, app.error_rate, app.token_life))
        for listener in listeners:
            listener.close()

    monkeypatch.setattr("starlette_marketplace.local.run", run)

    assert main(["local", "--port", "0"]) == 0
    assert main(["local", "--port", "0", "--latency", "250", "--error-rate=12.5", "--token-life", "90"]) == 0
    assert seen == [(0, 0, None), (0.25, 0.125, 90)]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--latency=-1", "argument --latency: Latency is a number of milliseconds from 0 to 60000"),
        ("--error-rate=101", "argument --error-rate: Error rate is a number of percent from 0 to 100"),
        ("--token-life=0", "argument --token-life: Token life is a number of seconds from 1 to 86400"),
    ],
)
def test_a_condition_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str], option: str, message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["local", "--port", "0", option])

    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_busy_port_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code = main(["local", "--port", str(port)])

    assert code == 1
    assert capsys.readouterr() == ("", f"Port {port} is already in use: choose another one with --port.\n")


def test_a_port_that_may_not_be_used_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)

    assert main(["local", "--port", "80"]) == 1
    assert capsys.readouterr() == ("", "Port 80 cannot be used: Permission denied.\n")


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in [name for name in sys.modules if name.startswith("starlette_marketplace.local")]:
        monkeypatch.delitem(sys.modules, name)

    assert main(["local"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        'The local marketplace needs uvicorn of the extra "local": pip install "starlette-marketplace[local]"\n'
    )


@pytest.mark.parametrize("arguments", [["doctor"], ["doctor", "--json"]])
def test_who_leaves_before_reading_ends_the_command_quietly(tmp_path: Path, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        run = subprocess.run(
            [str(COMMAND), *arguments], env={}, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writing)

    # As of a process that SIGPIPE has ended.
    assert (run.returncode, run.stderr) == (128 + signal.SIGPIPE, b"")


def test_what_the_terminal_cannot_show_does_not_end_the_command(tmp_path: Path) -> None:
    run = subprocess.run(
        [str(COMMAND), "doctor", "--settings", "größe:settings"],
        env={"PYTHONUTF8": "1", "PYTHONIOENCODING": "ascii"},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )

    assert (run.returncode, run.stderr) == (1, b"")
    assert b"there is no module gr\\xf6\\xdfe" in run.stdout
    assert b"problem" in run.stdout.splitlines()[-1]


def test_the_help_names_what_the_doctor_looks_at(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])

    assert "the shared cache" in " ".join(capsys.readouterr().out.split())


def test_what_is_not_read_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nobody, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", nobody)
        assert main(["doctor"]) == 128 + signal.SIGPIPE


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"starlette-marketplace {__version__}\n"


def test_no_command_is_an_error_that_names_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])

    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_the_package_itself_can_be_run() -> None:
    command = [sys.executable, "-m", "starlette_marketplace", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown == f"starlette-marketplace {__version__}\n"
