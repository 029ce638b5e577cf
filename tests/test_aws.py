"""Looking up AWS credentials, and whose fault it is when a call does not come about."""

import functools
import json
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import botocore.client
import botocore.endpoint
import botocore.parsers
import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from starlette_marketplace import (
    AwsUnavailableError,
    ConfigurationError,
    CredentialsError,
    InvalidTokenError,
    MarketplaceError,
    OverloadedError,
    SettingsError,
)
from starlette_marketplace.registration.resolver import AwsResolver
from starlette_marketplace.threads import Threads
from tests.support.aws import (
    CUSTOMER,
    IDENTITY,
    ROLE,
    TOKEN,
    FakeAws,
    FakeSts,
    answer,
    error_of,
    failure,
    resolver_of,
    sts_failure,
)
from tests.support.fakes import FakeTimer
from tests.support.servers import over_tls, serve

pytestmark = pytest.mark.usefixtures("environment")

KEYS = {"AccessKeyId": "ASIAPROCESS", "SecretAccessKey": "secret", "SessionToken": "session", "Version": 1}
OVER = "2026-01-01T00:00:00Z"


class Process:
    """A credential_process that counts its runs, and answers when it is told to."""

    def __init__(self, environment: pytest.MonkeyPatch, folder: Path) -> None:
        environment.delenv("AWS_ACCESS_KEY_ID")
        environment.delenv("AWS_SECRET_ACCESS_KEY")
        self._started, self._answers = folder / "started", folder / "answers"
        os.mkfifo(self._started)
        os.mkfifo(self._answers)
        # Open at both ends, so that neither side waits for the other to open it.
        self._start, self._answer = os.open(self._started, os.O_RDWR), os.open(self._answers, os.O_RDWR)
        self.runs = 0
        script = folder / "process.sh"
        script.write_text(f"echo > {self._started}\nread line < {self._answers}\necho $line\n")
        (folder / "config").write_text(f"[default]\ncredential_process = sh {script}\n")

    def answers(self, text: str = json.dumps(KEYS)) -> None:
        """Have the next run, or the one that waits, answer so."""
        os.write(self._answer, f"{text}\n".encode())

    def wait(self) -> None:
        """Wait until it runs once more."""
        ready, _, _ = select.select([self._start], [], [], 60)
        assert ready, "it has not been run"
        os.read(self._start, 1)
        self.runs += 1

    def is_idle(self) -> bool:
        """Whether it has not been run since."""
        return not select.select([self._start], [], [], 0)[0]

    def close(self) -> None:
        for _ in range(4):
            self.answers("{}")
        os.close(self._start)
        os.close(self._answer)


@pytest.fixture
def process(environment: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Process]:
    process = Process(environment, tmp_path)
    yield process
    process.close()


@pytest.fixture
def aws() -> FakeAws:
    """AWS, which is not asked by what fails before."""
    return FakeAws(answer())


# Whose fault it is


def keys_that_are_over(environment: pytest.MonkeyPatch, _: Path) -> None:
    environment.setenv("AWS_SESSION_TOKEN", "session")
    environment.setenv("AWS_CREDENTIAL_EXPIRATION", OVER)


def without_keys(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")


def process_of(text: str) -> Callable[[pytest.MonkeyPatch, Path], None]:
    def prepare(environment: pytest.MonkeyPatch, folder: Path) -> None:
        without_keys(environment)
        (folder / "answer").write_text(text)
        (folder / "config").write_text(f"[default]\ncredential_process = cat {folder / 'answer'}\n")

    return prepare


def mfa(environment: pytest.MonkeyPatch, folder: Path) -> None:
    without_keys(environment)
    environment.setattr(os, "open", open_no_terminal)
    (folder / "config").write_text(
        f"[default]\nrole_arn = {ROLE}\nsource_profile = base\nmfa_serial = arn:aws:iam::123456789012:mfa/me\n"
        "[profile base]\naws_access_key_id = OWNKEY\naws_secret_access_key = secret\n"
    )


open_file = os.open


def open_no_terminal(path: Any, *args: Any, **kwargs: Any) -> int:
    if path == "/dev/tty":
        raise OSError("this test has no terminal")
    return open_file(path, *args, **kwargs)


def sso(environment: pytest.MonkeyPatch, folder: Path) -> None:
    without_keys(environment)
    environment.setenv("HOME", str(folder))
    (folder / "config").write_text(
        "[sso-session corp]\nsso_start_url = http://127.0.0.1:1/\nsso_region = us-east-1\n"
        "[default]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = a\n"
    )


def login(environment: pytest.MonkeyPatch, folder: Path) -> None:
    without_keys(environment)
    environment.setenv("HOME", str(folder))
    (folder / "config").write_text("[default]\nlogin_session = arn:aws:iam::123456789012:user/me\n")


def key_with(text: str, variable: str = "AWS_ACCESS_KEY_ID") -> Callable[[pytest.MonkeyPatch, Path], None]:
    return lambda environment, _: environment.setenv(variable, text)


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        (keys_that_are_over, "The AWS credentials have expired (RuntimeError). Renew them, and check this machine's"),
        (process_of(json.dumps(KEYS | {"Expiration": OVER})), "The AWS credentials have expired (RuntimeError)"),
        (process_of("no JSON"), "The look-up of AWS credentials failed (JSONDecodeError). Check the AWS_ variables"),
        (process_of('{"Version": 2}'), "AWS credentials could not be looked up (CredentialRetrievalError)"),
        (process_of(json.dumps(KEYS | {"Expiration": "soon"})), "The look-up of AWS credentials failed (ParserError)"),
        (mfa, "The AWS profile asks for an MFA code, which a server cannot enter ("),
        (sso, "The AWS login cannot be used (SSOTokenLoadError). Run aws sso login or aws login again"),
        (key_with("OWNKEY\n"), "contain white space or unprintable characters"),
        (key_with("OWN KEY"), "contain white space or unprintable characters"),
        (key_with("secret\r\n", "AWS_SECRET_ACCESS_KEY"), "contain white space or unprintable characters"),
        (key_with("a session\u200b", "AWS_SESSION_TOKEN"), "contain white space or unprintable characters"),
    ],
)
def test_credentials_that_cannot_be_used_are_never_blamed_on_aws(
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    aws: FakeAws,
    prepare: Callable[[pytest.MonkeyPatch, Path], None],
    text: str,
) -> None:
    prepare(environment, tmp_path)
    with serve(aws, lifespan="off") as url:
        error = error_of(resolver_of(url))

    assert type(error) is CredentialsError
    assert text in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert aws.calls == []


def test_a_login_of_aws_that_cannot_be_used_is_for_the_seller_to_mend(
    environment: pytest.MonkeyPatch, tmp_path: Path, aws: FakeAws
) -> None:
    """Without botocore[crt] it cannot even be read."""
    login(environment, tmp_path)
    with serve(aws, lifespan="off") as url:
        error = error_of(resolver_of(url))

    assert isinstance(error, ConfigurationError)
    assert "aws login" in str(error) or "botocore[crt]" in str(error)
    assert aws.calls == []


def test_blanks_around_a_session_token_do_no_harm(environment: pytest.MonkeyPatch, aws: FakeAws) -> None:
    environment.setenv("AWS_SESSION_TOKEN", " session\t")
    with serve(aws, lifespan="off") as url:
        assert resolver_of(url).resolve(TOKEN) == CUSTOMER


def test_a_role_that_is_given_by_a_clock_that_is_wrong_is_never_blamed_on_aws(
    environment: pytest.MonkeyPatch, aws: FakeAws
) -> None:
    with serve(aws, lifespan="off") as url, serve(FakeSts(first_lifetime=-60), lifespan="off") as sts_url:
        environment.setenv("AWS_ENDPOINT_URL_STS", sts_url)
        error = error_of(resolver_of(url, role_arn=ROLE))

    assert type(error) is CredentialsError
    assert "The AWS credentials have expired" in str(error)
    assert "check this machine's clock" in str(error)


class TracingError(Exception):
    """What a tracing library raises when it has a bug."""


Patch = Callable[[pytest.MonkeyPatch], None]


def patched(owner: Any, name: str, *, before: bool, error: type[Exception] = TracingError) -> Patch:
    """A library that watches botocore, and fails before or after it has called what it watches."""

    def patch(environment: pytest.MonkeyPatch) -> None:
        original = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if before:
                raise error("a span without a parent")
            original(*args, **kwargs)
            raise error("a span without a parent")

        environment.setattr(owner, name, watched)

    return patch


@pytest.mark.parametrize("error", [TracingError, KeyError, ValueError, OSError, RuntimeError, UnicodeError])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (botocore.client.BaseClient, "_make_api_call"),
        (botocore.endpoint.Endpoint, "make_request"),
        (botocore.endpoint.Endpoint, "prepare_request"),
        (botocore.endpoint.Endpoint, "_send"),
        (botocore.parsers.ResponseParser, "parse"),
    ],
)
def test_what_watches_botocore_and_fails_is_never_blamed_on_aws(
    environment: pytest.MonkeyPatch, owner: Any, name: str, before: bool, error: type[Exception]
) -> None:
    with serve(FakeAws(answer()), lifespan="off") as url:
        resolver = resolver_of(url)
        resolver.connect()
        patched(owner, name, before=before, error=error)(environment)
        found = error_of(resolver)

    assert type(found) is ConfigurationError
    assert f"The call to AWS failed on this machine ({error.__name__}). Check" in str(found)


def test_what_watches_botocore_and_fails_in_the_standard_library_is_never_blamed_on_aws(
    environment: pytest.MonkeyPatch,
) -> None:
    original = botocore.parsers.ResponseParser.parse

    def watched(*args: Any) -> Any:
        return original(*args) and json.loads("no JSON")

    with serve(FakeAws(answer()), lifespan="off") as url:
        resolver = resolver_of(url)
        resolver.connect()
        environment.setattr(botocore.parsers.ResponseParser, "parse", watched)
        found = error_of(resolver)

    assert type(found) is ConfigurationError
    assert "(JSONDecodeError)" in str(found)


def test_an_error_of_aws_that_something_has_wrapped_is_still_seen(environment: pytest.MonkeyPatch) -> None:
    original = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

    def wrapped(*args: Any) -> Any:
        try:
            return original(*args)
        except Exception as exc:
            raise TracingError("it failed") from exc

    with serve(FakeAws(failure("InvalidTokenException")), lifespan="off") as url:
        resolver = resolver_of(url)
        resolver.connect()
        environment.setattr(botocore.client.BaseClient, "_make_api_call", wrapped)
        assert type(error_of(resolver)) is InvalidTokenError


def test_an_answer_that_cannot_be_read_is_not_the_fault_of_a_later_call(environment: pytest.MonkeyPatch) -> None:
    """What is known of a call is not taken for the next one, nor that of a try for the next try."""
    with serve(FakeAws(PlainTextResponse("[]"), failure("InternalServiceErrorException", 500)), lifespan="off") as url:
        resolver = resolver_of(url, max_attempts=2)
        assert type(error_of(resolver)) is AwsUnavailableError

        attempts: list[None] = []
        original = botocore.endpoint.Endpoint.prepare_request

        def second_fails(*args: Any) -> Any:
            attempts.append(None)
            # Raised in botocore, by what a library has made of the request.
            return original(*args) if len(attempts) == 1 else original(args[0], None)

        environment.setattr(botocore.endpoint.Endpoint, "prepare_request", second_fails)
        found = error_of(resolver)

    assert len(attempts) == 2
    assert type(found) is ConfigurationError


@pytest.mark.parametrize("proxy", ["http://", "http://[::1"])
def test_a_proxy_that_has_no_address_is_for_the_seller_to_mend(environment: pytest.MonkeyPatch, proxy: str) -> None:
    environment.setenv("HTTP_PROXY", proxy)
    environment.delenv("NO_PROXY", raising=False)
    environment.delenv("no_proxy", raising=False)

    assert isinstance(error_of(resolver_of("http://aws.invalid")), ConfigurationError)


def test_a_certificate_that_is_not_trusted_is_for_the_seller_to_mend(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with over_tls(FakeAws(answer()), tmp_path) as url:
        environment.delenv("AWS_CA_BUNDLE")
        error = error_of(resolver_of(url))

    assert type(error) is ConfigurationError
    assert "The TLS certificate of the endpoint is not trusted (SSLError)" in str(error)
    assert error.__cause__ is None


# Looking up credentials


def errors_of(resolver: AwsResolver, count: int) -> list[Future[MarketplaceError]]:
    """The errors of so many buyers who come at once."""
    threads = ThreadPoolExecutor(count)
    found = [threads.submit(error_of, resolver, f"{TOKEN}{number}") for number in range(count)]
    threads.shutdown(wait=False)
    return found


def test_a_look_up_that_fails_is_made_once_for_all_buyers_and_not_again_for_a_while(
    process: Process, aws: FakeAws
) -> None:
    timer = FakeTimer()
    with serve(aws, lifespan="off") as url:
        resolver = resolver_of(url, timer=timer)
        found = errors_of(resolver, 8)
        process.wait()
        process.answers("no JSON")
        texts = {str(each.result(60)) for each in found}
        assert texts == {
            "The look-up of AWS credentials failed (JSONDecodeError). Check the AWS_ variables, the profile, "
            "credential_process and the role."
        }
        timer.now += 9.9
        assert {str(each.result(60)) for each in errors_of(resolver, 8)} == texts
        assert process.is_idle()

        timer.now += 0.2
        process.answers()
        assert resolver.resolve(TOKEN) == CUSTOMER
        process.wait()
        assert resolver.resolve(TOKEN) == CUSTOMER
        assert process.is_idle()
    assert len(aws.calls) == 2


def test_a_look_up_that_hangs_is_waited_for_a_while_and_used_when_it_ends_after_all(
    process: Process, aws: FakeAws
) -> None:
    with serve(aws, lifespan="off") as url:
        resolver = resolver_of(url, deadline=0.2)
        for each in errors_of(resolver, 4):
            error = each.result(60)
            assert type(error) is CredentialsError
            assert "has taken more than 0.15 s. Check credential_process, the instance metadata service" in str(error)
        process.wait()
        process.answers()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                assert resolver.resolve(TOKEN) == CUSTOMER
            except CredentialsError:
                time.sleep(0.01)
            else:
                break
        assert process.is_idle()
    assert len(aws.calls) == 1


def test_buyers_who_come_while_one_looks_again_are_told_the_last_failure_at_once(
    process: Process, aws: FakeAws
) -> None:
    timer = FakeTimer()
    with serve(aws, lifespan="off") as url, ThreadPoolExecutor(1) as threads:
        resolver = resolver_of(url, timer=timer, deadline=80)
        process.answers("no JSON")
        error_of(resolver)
        process.wait()
        timer.now += 10
        again = threads.submit(resolver.resolve, TOKEN)
        process.wait()
        assert "JSONDecodeError" in str(error_of(resolver))
        assert not again.done()
        process.answers()
        assert again.result() == CUSTOMER
        assert process.is_idle()


def test_a_look_up_that_has_hung_for_long_keeps_no_thread_waiting(process: Process, aws: FakeAws) -> None:
    timer = FakeTimer()
    with serve(aws, lifespan="off") as url, ThreadPoolExecutor(1) as threads:
        resolver = resolver_of(url, timer=timer, deadline=80)
        first = threads.submit(resolver.resolve, TOKEN)
        process.wait()
        timer.now += 60
        errors = [error_of(resolver) for _ in range(50)]
        assert not first.done()
        assert process.is_idle()
        process.answers()
        assert first.result() == CUSTOMER

    assert {str(error) for error in errors} == {
        "The look-up of AWS credentials has taken more than 60 s. Check credential_process, the instance metadata "
        "service, role_arn and the network."
    }


def test_a_role_that_could_not_be_assumed_is_not_asked_for_again_for_a_moment(
    environment: pytest.MonkeyPatch, aws: FakeAws
) -> None:
    sts, timer = FakeAws(sts_failure("AccessDenied")), FakeTimer()
    with serve(aws, lifespan="off") as url, serve(sts, lifespan="off") as sts_url:
        environment.setenv("AWS_ENDPOINT_URL_STS", sts_url)
        resolver = resolver_of(url, timer=timer, role_arn=ROLE)
        errors = [error_of(resolver) for _ in range(5)]
        assert len(sts.calls) == 1
        timer.now += 10
        errors.append(error_of(resolver))

    assert len(sts.calls) == 2
    assert {type(error.__cause__) for error in errors} == {ClientError}
    assert len({id(error) for error in errors}) == 6, "one that many raise would gather their tracebacks"


def test_what_aws_answered_to_one_call_is_not_kept() -> None:
    with serve(FakeAws(failure("ThrottlingException"), answer()), lifespan="off") as url:
        resolver = resolver_of(url, timer=FakeTimer())
        error_of(resolver)
        assert resolver.resolve(TOKEN) == CUSTOMER


def in_minutes(minutes: int) -> str:
    return json.dumps(KEYS | {"Expiration": (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()})


def test_credentials_are_refreshed_before_they_expire_and_used_as_long_as_they_are_good(
    process: Process, aws: FakeAws, environment: pytest.MonkeyPatch
) -> None:
    timer, now = FakeTimer(), datetime.now(UTC)

    def it_is(minutes_later: int) -> None:
        # Not by freezing time, which would stop the server's event loop, too.
        then = now + timedelta(minutes=minutes_later)
        environment.setattr(
            RefreshableCredentials, "_seconds_remaining", lambda self: (self._expiry_time - then).total_seconds()
        )

    with serve(aws, lifespan="off") as url:
        resolver = resolver_of(url, timer=timer)
        process.answers(in_minutes(20))
        resolver.connect()
        process.wait()
        assert resolver.resolve(TOKEN) == CUSTOMER
        assert process.is_idle()

        it_is(minutes_later=13)
        process.answers("no JSON")
        assert resolver.resolve(TOKEN) == CUSTOMER, "the old ones are good for some minutes"
        process.wait()
        assert resolver.resolve(TOKEN) == CUSTOMER
        assert process.is_idle(), "the failure is kept"

        timer.now += 60
        process.answers(in_minutes(60))
        assert resolver.resolve(TOKEN) == CUSTOMER
        process.wait()
        it_is(minutes_later=80)
        process.answers("no JSON")
        assert type(error_of(resolver)) is CredentialsError
        process.wait()
    assert len(aws.calls) == 4


def test_credentials_that_were_refreshed_and_are_refused_are_looked_up_anew_at_once(process: Process) -> None:
    aws, timer = FakeAws(failure("UnrecognizedClientException"), answer()), FakeTimer()
    with serve(aws, lifespan="off") as url:
        resolver = resolver_of(url, timer=timer)
        for _ in range(3):  # One refresh at once, and one after ten seconds: they are good for some minutes only.
            process.answers(in_minutes(5))
        resolver.connect()
        timer.now += 10
        assert "AWS rejected our credentials" in str(error_of(resolver))
        process.answers(json.dumps(KEYS | {"AccessKeyId": "ASIANEW"}))
        assert resolver.resolve(TOKEN) == CUSTOMER

    assert [call.credential[0] for call in aws.calls] == ["ASIAPROCESS", "ASIANEW"]


def test_where_no_thread_can_be_started_nothing_is_looked_up_and_the_next_buyer_tries_again(
    environment: pytest.MonkeyPatch, aws: FakeAws
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with serve(aws, lifespan="off") as url:
        resolver = resolver_of(url)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            assert type(error_of(resolver)) is OverloadedError
        assert resolver.resolve(TOKEN) == CUSTOMER


def test_nobody_waits_for_a_refresh_while_the_credentials_are_good(process: Process, aws: FakeAws) -> None:
    timer = FakeTimer()
    with serve(aws, lifespan="off") as url, ThreadPoolExecutor(1) as threads:
        resolver = resolver_of(url, timer=timer, deadline=80)
        for _ in range(2):  # botocore refreshes at once what is good for some minutes only.
            process.answers(in_minutes(5))
        resolver.connect()
        process.wait()
        process.wait()
        timer.now += 10
        refreshing = threads.submit(resolver.resolve, TOKEN)
        process.wait()
        assert resolver.resolve(TOKEN) == CUSTOMER
        assert not refreshing.done()
        process.answers(in_minutes(60).replace("ASIAPROCESS", "ASIANEW"))
        assert refreshing.result() == CUSTOMER

    assert [call.credential[0] for call in aws.calls] == ["ASIAPROCESS", "ASIANEW"]


class WhoIsAbove(logging.Handler):
    """What an error tracker takes of each record: the local variables of the frames that led to it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.frames: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        frame: FrameType | None = sys._getframe(1)
        shown = ""
        while frame is not None:
            shown += repr(frame.f_locals)
            frame = frame.f_back
        self.frames[f"{record.name}: {record.msg}"] = shown


def test_nothing_is_logged_about_a_look_up_below_a_frame_that_holds_the_token(process: Process, aws: FakeAws) -> None:
    """Neither by this package nor by botocore, when nothing has called `connect` before."""
    timer, handler = FakeTimer(), WhoIsAbove()
    # botocore says more at DEBUG, where it logs the token itself.
    loggers = [logging.getLogger("starlette_marketplace"), logging.getLogger("botocore.credentials")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with serve(aws, lifespan="off") as url:
            resolver = resolver_of(url, timer=timer)
            for _ in range(2):
                process.answers(in_minutes(5))
            assert resolver.resolve(TOKEN) == CUSTOMER
            timer.now += 10
            process.answers("no JSON")
            assert resolver.resolve(TOKEN) == CUSTOMER
    finally:
        for logger in loggers:
            logger.removeHandler(handler)

    assert {name.partition(":")[0] for name in handler.frames} == {"starlette_marketplace", "botocore.credentials"}
    for shown in handler.frames.values():
        assert TOKEN not in shown


# Forks


class Echo(FakeAws):
    """AWS that takes the token for the number of the buyer."""

    def __init__(self) -> None:
        super().__init__()
        self.peers: set[object] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        number = int(json.loads(await request.body())["RegistrationToken"].removeprefix("buyer-"))
        self.peers.add(request.client)
        await answer(IDENTITY | {"CustomerAWSAccountId": f"{number:012}"})(scope, receive, send)


def in_a_child(work: Callable[[], object]) -> Callable[[], Any]:
    """Fork and do `work` there. Gives a function that waits for what it gave."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(work()).encode())
        except BaseException as exc:  # noqa: BLE001 - nothing of pytest may go on in the child.
            os.write(writing, json.dumps(repr(exc)).encode())
        finally:
            os._exit(0)
    os.close(writing)

    def result() -> Any:
        said = b""
        while select.select([reading], [], [], 60)[0] and (piece := os.read(reading, 65_536)):
            said += piece
        os.close(reading)
        os.kill(child, signal.SIGKILL)  # If it has not ended by itself by now, it never will.
        os.waitpid(child, 0)
        return json.loads(said)

    return result


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("tls", [False, True])
def test_children_that_are_forked_have_connections_of_their_own(
    environment: pytest.MonkeyPatch, tmp_path: Path, tls: bool
) -> None:
    aws = Echo()
    with over_tls(aws, tmp_path) if tls else serve(aws, lifespan="off") as url:
        resolver = resolver_of(url)

        def resolve(begin: int) -> list[str]:
            return [resolver.resolve(f"buyer-{begin + n}").aws_account_id for n in range(20)]

        resolve(0)
        assert len(aws.peers) == 1, "a connection is kept"
        results = [in_a_child(functools.partial(resolve, begin)) for begin in (100, 200)]
        assert [result() for result in results] == [[f"{begin + n:012}" for n in range(20)] for begin in (100, 200)]
        resolve(300)
        # Over TLS, asyncio waits for the client to say good-bye, and leaves the connection open at the server's end.
        resolver._connection.client().metering.close()

    assert len(aws.peers) == 3


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_that_is_forked_during_a_look_up_looks_by_itself(process: Process, aws: FakeAws) -> None:
    with serve(aws, lifespan="off") as url, ThreadPoolExecutor(1) as threads:
        resolver = resolver_of(url, deadline=80)
        parents = threads.submit(resolver.resolve, TOKEN)
        process.wait()

        def resolve() -> str:
            os.environ |= {"AWS_ACCESS_KEY_ID": "CHILDKEY", "AWS_SECRET_ACCESS_KEY": "secret"}
            return resolver.resolve(TOKEN).aws_account_id

        assert in_a_child(resolve)() == CUSTOMER.aws_account_id
        process.answers()
        assert parents.result() == CUSTOMER

    assert [call.credential[0] for call in aws.calls] == ["CHILDKEY", "ASIAPROCESS"]


# Where identities come from


def test_an_endpoint_that_is_not_aws_is_a_warning_which_shows_no_password(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    resolver_of("http://user:password@127.0.0.1:9/path?token=secret").connect()
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.startswith("Identities come from http://127.0.0.1:9, which is not AWS Marketplace")
    caplog.clear()
    for url in (None, "https://metering.marketplace.us-east-1.amazonaws.com"):
        resolver_of(url).connect()
    environment.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    resolver_of(None).connect()
    environment.setenv("AWS_USE_FIPS_ENDPOINT", "false")
    environment.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    resolver_of(None).connect()
    assert not caplog.records


@pytest.mark.parametrize(
    "config",
    [
        "endpoint_url = http://127.0.0.1:9\n",
        "services = local\n[services local]\nmarketplace_metering =\n  endpoint_url = http://127.0.0.1:9\n",
    ],
)
def test_an_endpoint_that_only_a_configuration_file_names_is_refused(
    environment: pytest.MonkeyPatch, tmp_path: Path, config: str
) -> None:
    (tmp_path / "config").write_text(f"[default]\n{config}")
    with pytest.raises(SettingsError, match=r"An AWS configuration file decides that http://127\.0\.0\.1:9 is called"):
        resolver_of(None).connect()

    environment.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    resolver_of(None).connect()
    environment.delenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
    environment.setenv("AWS_ENDPOINT_URL_MARKETPLACE_METERING", "http://127.0.0.1:9")
    resolver_of(None).connect()


def test_a_configuration_file_that_ignores_the_endpoint_of_the_environment_is_refused(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The keys would be those of the endpoint, and the identities those of AWS."""
    (tmp_path / "config").write_text("[default]\nignore_configured_endpoint_urls = true\n")
    environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(SettingsError, match="An AWS configuration file decides that https://metering"):
        resolver_of(None).connect()

    resolver_of("http://127.0.0.1:9").connect()


@pytest.mark.parametrize("region", ["useast1", "eu-central", "us-iso-east-1", "mars-north-9"])
def test_a_region_that_botocore_does_not_know_is_warned_about_and_blamed_on_no_file(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, region: str
) -> None:
    resolver_of(None, region_name=region).connect()
    [record] = caplog.records
    assert record.message == f"AWS Marketplace Metering is not known to be in the region {region}: set region_name"


def test_credentials_that_are_still_good_are_used_where_no_thread_can_be_started(
    process: Process, aws: FakeAws, environment: pytest.MonkeyPatch
) -> None:
    with serve(aws, lifespan="off") as url:
        resolver = resolver_of(url)
        process.answers(in_minutes(20))
        resolver.connect()
        process.wait()
        # The thread of the look-up has ended by the time they are to be refreshed.
        resolver._connection._threads = Threads(1)
        environment.setattr(RefreshableCredentials, "_seconds_remaining", lambda _: 700.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Threads, "submit", overloaded)
            assert resolver.resolve(TOKEN) == CUSTOMER


def overloaded(*_: object) -> None:
    raise OverloadedError("No thread could be started.")


def test_a_look_up_that_is_broken_off_is_not_taken_for_one_that_hangs(environment: pytest.MonkeyPatch) -> None:
    timer = FakeTimer()
    resolver = resolver_of("http://127.0.0.1:9", timer=timer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.Session.get_credentials", broken_off)
        assert "(SystemExit)" in str(error_of(resolver))
    timer.now += 60
    resolver.connect()


def broken_off(_: object) -> None:
    raise SystemExit
