"""`starlette-marketplace local -- COMMAND`: real processes, real signals, a real terminal."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest
import trustme
from starlette.responses import PlainTextResponse

from starlette_marketplace.cli_local import open_beside_app
from starlette_marketplace.local import ENDPOINTS, AppCommand, LocalMarketplace, bind_loopback, run_beside
from tests.support.servers import serve

pytestmark = pytest.mark.slow

COMMAND = str(Path(sysconfig.get_path("scripts"), "starlette-marketplace"))
LIMIT = 20  # seconds, for whatever a test waits for

# An app with a process of its own, as the servers that reload have. Both only note the signals that it is told to.
APP = """
import http.server, os, signal, socket, subprocess, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_):
        pass

def note(number, _):
    print("got", signal.Signals(number).name, flush=True)

for name in sys.argv[2:]:
    signal.signal(getattr(signal, name), note)
if "CHILD" not in os.environ:
    environ = os.environ | {"CHILD": ""}
    child = subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env=environ, close_fds=False, stdout=subprocess.PIPE)
    child.stdout.readline()
    server = http.server.HTTPServer(("", 0), Handler, bind_and_activate=False)
    server.socket = socket.socket(fileno=int(sys.argv[1]))
    server.serve_forever()
print("ready", flush=True)
while True:
    signal.pause()
"""
# Coverage would write its data while the app is killed.
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
SLEEPER = "import time; time.sleep(600)"


@dataclass
class Processes:
    """Knows whether any process is left that has inherited a pipe."""

    reading: int
    writing: int
    listener: socket.socket

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    @property
    def handed_down(self) -> Sequence[int]:
        return (self.writing, self.listener.fileno())

    def app(self, *ignores: str) -> list[str]:
        return [sys.executable, "-c", APP, str(self.listener.fileno()), *ignores]

    def all_have_ended(self) -> bool:
        """Whether the other end of the pipe is closed everywhere, or will be in time."""
        os.close(self.writing)
        self.writing = -1
        return bool(select.select([self.reading], [], [], LIMIT)[0]) and os.read(self.reading, 1) == b""


@pytest.fixture
def processes() -> Iterator[Processes]:
    reading, writing = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(writing, True)
        listener.set_inheritable(True)
        processes = Processes(reading, writing, listener)
        try:
            yield processes
        finally:
            for descriptor in (reading, processes.writing):
                with suppress(OSError):
                    os.close(descriptor)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Signals reach what a test starts, also when the tests themselves run below nohup or in the background."""
    ours = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGINT)}
    yield
    for number, handler in ours.items():
        signal.signal(number, handler)


@contextmanager
def local(
    *command: str, processes: Processes | None = None, environ: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Run the command in a process group of its own, as an interactive shell does."""
    options = ["--port", "0", *(["--app", processes.url] if processes else [])]
    with subprocess.Popen(
        [COMMAND, "local", *options, "--", *command],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=processes.handed_down if processes else (),
        process_group=0,
    ) as process:
        # Whoever reads from it waits no longer than that.
        limit = threading.Timer(3 * LIMIT, process.kill)
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            process.terminate()


def read_until(stream: IO[str] | None, text: str) -> str:
    assert stream
    lines = ""
    while text not in lines:
        line = stream.readline()
        assert line, lines
        lines += line
    return lines


def run_here(command: AppCommand) -> int:
    return run_beside(LocalMarketplace(), bind_loopback(0), command)


@dataclass
class OnAnswer:
    """What an `AppCommand` has said, and the signal that is to follow."""

    number: signal.Signals | None = None
    said: list[bool] = field(default_factory=list)

    def __call__(self, answers: bool) -> None:
        self.said.append(answers)
        if self.number:
            signal.raise_signal(self.number)


def test_the_app_gets_the_environment_and_the_command_its_exit_code() -> None:
    theirs = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MARKETPLACE_"))},
        "AWS_PROFILE": "prod",
        "AWS_SESSION_TOKEN": "mine",
        "MARKETPLACE_ENDPOINT_URL": "http://127.0.0.1:1",
        "MARKETPLACE_PRODUCT_CODES": "mine",
        "MARKETPLACE_SIGNUP_URL": "/welcome",
        "no_proxy": "db.example",
    }
    show = "import json, os; print(json.dumps(dict(os.environ))); raise SystemExit(7)"

    with local(sys.executable, "-c", show, environ=theirs) as process:
        output, errors = process.communicate(timeout=LIMIT)

    seen = json.loads(output)
    assert (process.returncode, errors) == (7, "")
    [url] = {seen[name] for name in ENDPOINTS}
    assert re.fullmatch(r"http://localhost:\d+", url)
    assert len(seen["MARKETPLACE_SECRET_KEY"]) >= 32
    assert (
        seen.items()
        >= {
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "MARKETPLACE_PRODUCT_CODES": "mine,acmeanalytics,acmelegacy,acmepipelines,acmegateway",
            "MARKETPLACE_HTTPS_ONLY": "false",
            "MARKETPLACE_SIGNUP_URL": "/welcome",
            "NO_PROXY": "db.example,localhost",
            "no_proxy": "db.example,localhost",
        }.items()
    )
    assert seen.keys().isdisjoint({"AWS_PROFILE", "AWS_SESSION_TOKEN", "MARKETPLACE_ENDPOINT_URL"})
    assert "MARKETPLACE_MAX_ATTEMPTS" not in seen


def test_the_marketplace_answers_while_the_app_starts() -> None:
    ask = f"import os, urllib.request; print(urllib.request.urlopen(os.environ['{ENDPOINTS[0]}']).status)"

    with local(sys.executable, "-c", ask) as process:
        output, errors = process.communicate(timeout=LIMIT)

    assert (output, errors, process.returncode) == ("200\n", "", 0)


def test_an_app_that_a_signal_has_ended_ends_the_command_as_in_a_shell() -> None:
    with local(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)") as process:
        assert process.communicate(timeout=LIMIT) == ("", "")
    assert process.returncode == 128 + signal.SIGKILL


def test_whoever_ignores_the_end_of_children_loses_no_more_than_the_exit_code() -> None:
    ignore = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    ignoring = [sys.executable, "-c", ignore]
    app = [sys.executable, "-c", "print('an app'); raise SystemExit(7)"]

    run = subprocess.run(
        [*ignoring, COMMAND, "local", "--port", "0", "--", *app], capture_output=True, timeout=LIMIT, check=False
    )

    assert (run.returncode, run.stdout, run.stderr) == (0, b"an app\n", b"")


def test_an_app_that_has_stopped_is_ended_as_well() -> None:
    stopped = "import os, signal; print('up', flush=True); os.kill(os.getpid(), signal.SIGSTOP)"

    with local(sys.executable, "-c", stopped) as process:
        read_until(process.stdout, "up")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT)

    assert process.returncode == 143


def test_a_command_that_is_not_there_is_said_in_a_sentence() -> None:
    with local("uvicon", "acme:app") as process:
        output, errors = process.communicate(timeout=LIMIT)

    assert (process.returncode, output) == (127, "")
    assert errors == (
        "The command uvicon was not found. Check its spelling, and that its virtual environment is active.\n"
    )


def test_a_command_that_cannot_be_executed_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "app.py").touch(0o644)

    with local(f"{tmp_path}/app.py") as process:
        output, errors = process.communicate(timeout=LIMIT)

    assert (process.returncode, output) == (126, "")
    assert errors == (
        f"The command {tmp_path}/app.py cannot be executed: Permission denied. "
        f"Name the program that runs it first, such as: -- python {tmp_path}/app.py\n"
    )


def test_a_script_whose_interpreter_is_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    script = tmp_path / "uvicorn"
    script.write_text("#!/moved/bin/python\n")
    script.chmod(0o755)

    with local(str(script)) as process:
        output, errors = process.communicate(timeout=LIMIT)

    assert (process.returncode, output) == (126, "")
    assert errors == (
        f"The command {script} cannot be executed: the program that its first line names was not found. "
        f"Name the program that runs it first, such as: -- python {script}\n"
    )


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)],
)
def test_a_signal_ends_the_app_its_processes_and_the_marketplace(
    processes: Processes, number: signal.Signals, code: int
) -> None:
    with local(*processes.app(), processes=processes) as process:
        output = read_until(process.stdout, "Ctrl-C ends")
        os.killpg(process.pid, number)
        rest, errors = process.communicate(timeout=LIMIT)

    [url] = re.findall(r"is open: (http://localhost:\d+)\n", output)
    assert output == "\n" + open_beside_app(url, f"{processes.url}/marketplace/register", answers=True)[1:]
    assert "export" not in output
    assert rest.strip() == ""
    assert "starlette_marketplace" not in errors
    assert process.returncode == code
    assert processes.all_have_ended()


def test_a_hangup_that_nohup_ignores_ends_nothing(processes: Processes) -> None:
    nohup = 'trap "" HUP; exec "$@"'
    command = [COMMAND, "local", "--port", "0", "--app", processes.url, "--", *processes.app()]

    with subprocess.Popen(
        ["sh", "-c", nohup, "sh", *command], stdout=subprocess.PIPE, text=True, pass_fds=processes.handed_down
    ) as process:
        read_until(process.stdout, "Ctrl-C ends")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT)

    assert process.returncode == 143
    assert processes.all_have_ended()


def test_every_ctrl_c_reaches_the_app_and_the_second_hurries(processes: Processes) -> None:
    patient = (
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "print('up', flush=True)\n"
        "for _ in range(2): print('got', signal.sigwait([signal.SIGINT]).name, flush=True)\n"
        "raise SystemExit(5)\n"
    )

    with local(sys.executable, "-c", patient) as process:
        read_until(process.stdout, "up")
        process.send_signal(signal.SIGINT)
        read_until(process.stdout, "got SIGINT")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=LIMIT)

    assert output == "got SIGINT\n"
    assert process.returncode == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_processes_that_ignore_the_signal_are_killed_in_the_end(processes: Processes, number: signal.Signals) -> None:
    on_answer = OnAnswer(number)
    command = AppCommand(
        processes.app("SIGINT", "SIGTERM"), environ=ENVIRON, app_url=processes.url, on_answer=on_answer, grace=0.5
    )

    assert run_here(command) == 128 + signal.SIGKILL
    assert on_answer.said == [True]
    assert processes.all_have_ended()


@pytest.mark.parametrize("ignores", [[], ["SIGTERM"]], ids=["ends", "ignores SIGTERM"])
def test_what_the_app_leaves_behind_is_ended_as_well(processes: Processes, ignores: list[str]) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    command = AppCommand(
        ["bash", "-c", '"${@:2}" & read -u $1; exit 3', "bash", str(reading), *processes.app(*ignores)],
        environ=ENVIRON,
        app_url=processes.url,
        on_answer=lambda _: os.close(writing),
        grace=0.5,
    )

    assert run_here(command) == 3
    os.close(reading)
    assert processes.all_have_ended()


def test_a_signal_that_comes_before_the_app_is_started_ends_it(processes: Processes) -> None:
    command = AppCommand([sys.executable, "-c", SLEEPER], environ=ENVIRON, app_url=processes.url, on_answer=OnAnswer())
    command.stop(signal.SIGTERM)

    assert run_here(command) == 143


@pytest.mark.parametrize(
    ("server", "code"),
    [
        (["uvicorn", "--reload", "--fd", "{}", "app:app"], 0),
        (["uvicorn", "--workers", "2", "--fd", "{}", "app:app"], 0),
        (["gunicorn", "--bind", "fd://{}", "app:wsgi_app"], 0),
        (["sh", "-c", "uvicorn --fd {} app:app; exit $?"], 130),
    ],
    ids=["uvicorn reload", "uvicorn workers", "gunicorn", "shell"],
)
def test_the_usual_servers_end_with_all_their_processes(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: list[str], code: int
) -> None:
    (tmp_path / "app.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body'})\n"
        "def wsgi_app(environ, start):\n"
        "    start('200 OK', [])\n"
        "    return []\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}")
    command = [part.format(processes.listener.fileno()) for part in server]

    with local(*command, processes=processes) as process:
        read_until(process.stdout, "Ctrl-C ends")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT)

    assert process.returncode == code, errors
    assert processes.all_have_ended()


def test_an_app_that_does_not_answer_is_not_waited_for_longer_than_the_limit(processes: Processes) -> None:
    on_answer = OnAnswer(signal.SIGTERM)
    command = AppCommand(
        [sys.executable, "-c", SLEEPER], environ=ENVIRON, app_url=processes.url, on_answer=on_answer, patience=0.2
    )

    assert run_here(command) == 143
    assert on_answer.said == [False]


@pytest.mark.parametrize("url", ["http://a..b:8000", "http://127.0.0.1:{free}"])
def test_an_address_where_nobody_is_is_tried_until_the_limit(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = url.replace("{free}", str(probe.getsockname()[1]))
    on_answer = OnAnswer(signal.SIGTERM)
    command = AppCommand(
        [sys.executable, "-c", SLEEPER], environ=ENVIRON, app_url=url, on_answer=on_answer, patience=0.5
    )

    assert run_here(command) == 143
    assert on_answer.said == [False]


def test_the_text_for_an_app_that_does_not_answer_says_how_to_give_its_address() -> None:
    text = open_beside_app("http://localhost:8001", "http://127.0.0.1:8000/marketplace/register", answers=False)

    assert text.startswith("\nYour app does not answer at http://127.0.0.1:8000/marketplace/register yet. ")
    assert "--app http://127.0.0.1:5000" in text
    assert "The local marketplace is open: http://localhost:8001\n" in text


def test_what_hangs_up_or_is_not_http_is_not_an_answer_yet_and_the_fulfillment_url_is_not_asked(
    processes: Processes,
) -> None:
    answers = [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 503 Service Unavailable\r\n\r\n"]
    script = (
        "import socket, sys\nlistener = socket.socket(fileno=int(sys.argv[1]))\n"
        f"for answer in {answers}:\n"
        "    connection, _ = listener.accept()\n"
        "    print(connection.recv(1000).decode().splitlines()[:2])\n"
        "    connection.sendall(answer)\n"
        "    connection.close()\n"
    )

    with local(sys.executable, "-uc", script, str(processes.listener.fileno()), processes=processes) as process:
        lines = read_until(process.stdout, "']\n").splitlines() + process.communicate(timeout=LIMIT)[0].splitlines()

    host = processes.url.removeprefix("http://")
    asked = str(["HEAD / HTTP/1.1", f"Host: {host}"])
    assert [line for line in lines if line.startswith("[")] == [asked] * 3


def test_an_app_whose_certificate_nobody_knows_answers(tmp_path: Path) -> None:
    on_answer = OnAnswer(signal.SIGTERM)
    authority = trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    with (
        authority.tempfile(str(tmp_path)) as certificate,
        serve(PlainTextResponse("an app"), lifespan="off", ssl_certfile=certificate) as url,
    ):
        command = AppCommand([sys.executable, "-c", SLEEPER], environ=ENVIRON, app_url=url, on_answer=on_answer)
        assert run_here(command) == 143
    assert on_answer.said == [True]


@pytest.mark.parametrize("command", [[], [""], [" ", "acme:app"]], ids=["nothing", "empty", "blank"])
def test_a_double_dash_without_a_command_is_refused(command: list[str]) -> None:
    with local(*command) as process:
        _, errors = process.communicate(timeout=LIMIT)

    assert process.returncode == 2
    assert "after -- comes the command that starts your app, such as: -- uvicorn acme:app" in errors


class Terminal:
    """A terminal with a person in front of it."""

    def __init__(self, *command: str, fds: Sequence[int] = ()) -> None:
        self._master, slave = pty.openpty()
        self.seen = ""
        # In a session of its own, whose terminal it is.
        take = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", take, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            pass_fds=fds,
            env=os.environ | {"PS1": "$ ", "TERM": "dumb"},
        )
        os.close(slave)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> str:
        """Read until there is `text`, and give all until then."""
        while text not in self.seen:
            assert select.select([self._master], [], [], LIMIT)[0], self.seen
            try:
                self.seen += os.read(self._master, 10_000).decode()
            except OSError:
                raise AssertionError(self.seen) from None
        before, _, self.seen = self.seen.partition(text)
        return before

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGHUP)
        os.close(self._master)
        self.process.kill()
        self.process.wait(LIMIT)


# Reads what is typed, as a debugger does. It waits in turns, for Python runs handlers of signals only between them.
DEBUGGER = """
import select, signal, socket, sys
signal.signal(signal.SIGCONT, lambda *_: print("goes", "on", flush=True))
listener = socket.socket(fileno=int(sys.argv[1]))
connection, _ = listener.accept()
connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
connection.close()
while True:
    if select.select([0], [], [], 0.05)[0]:
        print("read", sys.stdin.readline().strip(), flush=True)
"""


def debugger(processes: Processes) -> list[str]:
    app = [sys.executable, "-c", DEBUGGER, str(processes.listener.fileno())]
    return [COMMAND, "local", "--port", "0", "--app", processes.url, "--", *app]


@contextmanager
def terminal(*command: str, processes: Processes) -> Iterator[Terminal]:
    shown = Terminal(*command, fds=processes.handed_down)
    try:
        yield shown
    finally:
        shown.close()


def test_what_is_typed_reaches_the_app_and_so_does_ctrl_c(processes: Processes) -> None:
    with terminal(*debugger(processes), processes=processes) as shown:
        shown.wait_for("Ctrl-C ends")
        shown.type("step\n")
        shown.wait_for("read step")
        # There is no shell that could continue it, so that nothing stops.
        shown.type("\x1a")
        shown.wait_for("goes on")
        shown.type("next\n")
        shown.wait_for("read next")
        shown.type("\x03")
        shown.wait_for("KeyboardInterrupt")
        assert shown.process.wait(LIMIT) == 130
    assert processes.all_have_ended()


def test_ctrl_z_stops_it_all_and_the_shell_continues_it(processes: Processes) -> None:
    with terminal("/bin/bash", "--norc", "--noprofile", "-i", processes=processes) as shown:
        shown.type('"$@" | cat\n'.replace('"$@"', " ".join(f"'{part}'" for part in debugger(processes))))
        shown.wait_for("Ctrl-C ends")
        shown.type("\x1a")
        shown.wait_for("Stopped")
        shown.type("fg\n")
        shown.wait_for("goes on")  # What is typed earlier could be for the shell.
        shown.type("step\n")
        shown.wait_for("read step")
        shown.type("\x1a")
        shown.wait_for("Stopped")
        shown.type("kill %1; while kill -0 %1 2>/dev/null; do sleep 0.1; done; echo ended $((2 + 2))\n")
        shown.wait_for("ended 4")
    assert processes.all_have_ended()
