import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait

import pytest

from starlette_marketplace import OverloadedError
from starlette_marketplace.threads import Threads
from tests.support.fakes import FakeTimer


class Gate:
    """A job that says when it has begun and ends when it may."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()

    def __call__(self) -> str:
        self.begun.release()
        assert self.may_end.wait(60)
        return threading.current_thread().name


def no_thread(_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_a_job_runs_in_a_thread_of_ours_and_its_outcome_is_that_of_the_future() -> None:
    threads = Threads(2)

    assert threads.submit(lambda text: threading.current_thread().name + text, "!").result(60) == (
        "starlette-marketplace!"
    )
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 / 0).result(60)
    threads.close()


def test_no_more_threads_than_the_limit_run_and_the_rest_waits() -> None:
    threads, gate = Threads(2), Gate()
    futures = [threads.submit(gate) for _ in range(5)]

    for _ in range(2):
        assert gate.begun.acquire(timeout=60)
    assert [future.running() for future in futures] == [True, True, False, False, False]
    gate.may_end.set()
    assert not wait(futures, 60).not_done
    threads.close()


def test_a_thread_with_nothing_to_do_takes_the_next_job_and_ends_after_a_while() -> None:
    threads = Threads(8, idle_timeout=0.05)
    first = threads.submit(threading.current_thread).result(60)

    first.join(60)
    assert not first.is_alive()
    assert threads.submit(threading.current_thread).result(60) is not first
    threads.close()


def test_closing_cancels_what_has_not_begun_and_ends_the_threads() -> None:
    threads, gate = Threads(1), Gate()
    thread = threads.submit(threading.current_thread).result(60)
    running, waiting = threads.submit(gate), threads.submit(threading.current_thread)
    assert gate.begun.acquire(timeout=60)

    threads.close()
    with pytest.raises(CancelledError):
        waiting.result(60)
    gate.may_end.set()
    assert running.result(60) == "starlette-marketplace"
    thread.join(60)
    assert not thread.is_alive()


class Loop:
    """An event loop that runs when the test says so."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []
        self.called = threading.Semaphore(0)
        self.is_gone = False

    def call_soon(self, callback: Callable[[], None]) -> None:
        if self.is_gone:
            raise RuntimeError("the loop is closed")
        self.callbacks.append(callback)
        self.called.release()


def test_a_job_that_waits_is_begun_by_the_event_loop_that_wants_it() -> None:
    threads, gate, loop = Threads(1), Gate(), Loop()
    threads.submit(gate)
    waiting = threads.submit(threading.current_thread, call_soon=loop.call_soon)
    gate.may_end.set()

    assert loop.called.acquire(timeout=60)
    assert not waiting.done()
    loop.callbacks[0]()
    assert waiting.result(60).name == "starlette-marketplace"
    threads.close()


def test_a_job_whose_event_loop_has_gone_is_begun_all_the_same() -> None:
    threads, gate, loop = Threads(1), Gate(), Loop()
    threads.submit(gate)
    waiting = threads.submit(str, 1, call_soon=loop.call_soon)
    loop.is_gone = True
    gate.may_end.set()

    assert waiting.result(60) == "1"
    threads.close()


def test_a_job_whose_event_loop_stands_still_is_begun_when_another_comes_and_only_once() -> None:
    gate, loop, timer = Gate(), Loop(), FakeTimer()
    threads = Threads(1, timer=timer)
    calls: list[str] = []
    threads.submit(gate)
    stuck = threads.submit(calls.append, "stuck", call_soon=loop.call_soon)
    gate.may_end.set()
    assert loop.called.acquire(timeout=60)

    timer.now += 0.9
    early = threads.submit(calls.append, "early")
    assert not calls
    timer.now += 0.2
    last = threads.submit(calls.append, "last")
    assert not wait([stuck, early, last], 60).not_done
    loop.callbacks[0]()
    assert threads.submit(str, 1).result(60) == "1"
    assert calls == ["stuck", "early", "last"]
    threads.close()


def test_a_job_whose_event_loop_stands_still_is_begun_by_itself_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Threads, "_PATIENCE", 0.05)
    gate, loop = Gate(), Loop()
    threads = Threads(1)
    threads.submit(gate)
    waiting = threads.submit(str, 1, call_soon=loop.call_soon)
    gate.may_end.set()

    assert waiting.result(60) == "1"
    threads.close()


def test_a_thread_stays_for_a_job_that_its_event_loop_takes_long_to_begin() -> None:
    gate, loop = Gate(), Loop()
    threads = Threads(1, idle_timeout=0.01)
    threads.submit(gate)
    waiting = threads.submit(str, 1, call_soon=loop.call_soon)
    gate.may_end.set()
    assert loop.called.acquire(timeout=60)

    assert not loop.called.acquire(timeout=0.2), "the loop is asked once"
    loop.callbacks[0]()
    assert waiting.result(60) == "1"
    threads.close()


def test_closing_cancels_what_an_event_loop_was_asked_to_begin() -> None:
    threads, gate, loop = Threads(1), Gate(), Loop()
    threads.submit(gate)
    handed = threads.submit(str, 1, call_soon=loop.call_soon)
    gate.may_end.set()
    assert loop.called.acquire(timeout=60)

    threads.close()
    loop.callbacks[0]()
    assert handed.cancelled()


def test_a_job_that_was_cancelled_while_it_waited_is_passed_over() -> None:
    threads, gate = Threads(1), Gate()
    calls: list[str] = []
    threads.submit(gate)
    assert gate.begun.acquire(timeout=60)
    cancelled, last = threads.submit(calls.append, "cancelled"), threads.submit(calls.append, "last")

    assert cancelled.cancel()
    gate.may_end.set()
    last.result(60)
    assert calls == ["last"]
    threads.close()


def test_a_job_that_no_thread_can_be_started_for_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Job:
        def __call__(self, token: object) -> None:
            raise AssertionError(token)

    threads, job = Threads(4), Job()
    kept = weakref.ref(job)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(OverloadedError, match="can't start new thread"):
            threads.submit(job, "token")

    del job
    gc.collect()
    assert kept() is None
    assert threads.submit(lambda: "works again").result(60) == "works again"
    threads.close()


def test_where_no_more_threads_can_be_started_those_that_there_are_do_all_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads, gate = Threads(4), Gate()
    first = threads.submit(gate)
    assert gate.begun.acquire(timeout=60)
    monkeypatch.setattr(threading.Thread, "start", no_thread)

    futures = [threads.submit(str, number) for number in range(3)]
    gate.may_end.set()
    assert [future.result(60) for future in futures] == ["0", "1", "2"]
    assert first.done()
    threads.close()


def test_nothing_of_a_job_is_kept_when_it_is_over() -> None:
    class Token:
        pass

    def fail(token: Token) -> None:
        raise ValueError

    threads, token = Threads(1), Token()
    kept = weakref.ref(token)
    future: Future[None] | None = threads.submit(fail, token)
    assert future is not None
    assert isinstance(future.exception(60), ValueError)
    # The thread is done with the job before once it has begun the next.
    threads.submit(str).result(60)

    del token, future
    assert kept() is None, "without the garbage collector"
    threads.close()


PROGRAM = """
import json, os, sys, threading, warnings
from starlette_marketplace.threads import Threads

warnings.simplefilter("ignore")  # that a process with threads forks
threads, go_on = Threads(1), threading.Event()
running = threads.submit(go_on.wait, 60)       # the only thread is busy
waiting = threads.submit(os.getpid)
held = threads._lock.acquire()            # and another holds the lock
reader, writer = os.pipe()
if os.fork() == 0:
    answers = [threads.submit(os.getpid).result(30) == os.getpid() for _ in range(3)]
    os.write(writer, json.dumps(answers).encode())
    os._exit(0)
threads._lock.release()
os.wait()
go_on.set()
print(os.read(reader, 1000).decode(), waiting.result(30) == os.getpid())
"""


def test_a_child_that_was_forked_has_threads_and_a_lock_of_its_own() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)

    answers, parent = ended.stdout.rsplit(maxsplit=1)
    assert json.loads(answers) == [True, True, True]
    assert parent == "True"


def test_a_job_that_hangs_does_not_keep_the_interpreter_from_ending() -> None:
    program = (
        "import threading; from starlette_marketplace.threads import Threads; Threads(1).submit(threading.Event().wait)"
    )

    subprocess.run([sys.executable, "-c", program], timeout=60, check=True, env=os.environ)
