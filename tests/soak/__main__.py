"""A soak: thousands of registrations of all kinds against a host on a socket, while AWS comes and goes.

`python -m tests.soak` ends by itself, with exit code 0 when everything held, and prints what did not otherwise.
"""

import argparse
import asyncio
import logging
import random
import re
import signal
import sys
import time
from collections import Counter
from dataclasses import replace

import httpx2

from starlette_marketplace.local import PRODUCT_CODES

from .aws import Aws
from .buyers import Soak, Visit
from .process import Figures, Process, host
from .report import Tally, figures_section, section

_BUYERS = 64
_THREADS = 16
_SETTINGS = {
    "secret_key": "the-secret-key-of-the-soak-and-of-nothing-else",
    "product_codes": ",".join(PRODUCT_CODES),
    "https_only": "false",
    # Few enough that the warm-up fills them, and that some come when there is no room.
    "cache_size": "500",
    "max_concurrency": str(_THREADS),
    "max_waiting": "24",
    # The slow AWS takes longer than buyers wait, and is heard out for the next try.
    "connect_timeout": "1",
    "read_timeout": "5",
    "max_attempts": "2",
    "deadline": "2",
}
# One object for every second registration would be twice as much in 20 000.
_MORE_OBJECTS = 5000
# What the objects above do not show. A run takes about 3 MiB more, and differs with how the allocator was left.
_MORE_MEMORY = 12 * 1024  # KiB


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--registrations", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="default: another one each time")
    parser.add_argument("--sabotaged", action="store_true", help="break the host, to see that it is noticed")
    options = parser.parse_args()
    # It tells of every call that a restart cuts off.
    logging.getLogger("uvicorn.error").disabled = True

    began = time.monotonic()
    # Enough for every call to be remembered.
    aws = Aws(limit=options.registrations * 40)
    tally = Tally()
    before = after = None
    settings = {**_SETTINGS, "endpoint_url": f"http://127.0.0.1:{aws.port}"}
    with host(settings, *(["--sabotaged"] if options.sabotaged else [])) as process:
        soak = Soak(options.seed, process.url, aws, tally)
        try:
            before, after = asyncio.run(_run(soak, process, options.registrations))
        except* (TimeoutError, httpx2.HTTPError) as group:
            tally.violated("the soak did not come to its end", repr(group.exceptions))
        if not process.end():
            tally.violated("the host did not end when it was asked to", f"exit code {process.child.returncode}")
        log = process.log()
    _check_log(log, aws, tally)
    _check_growth(before, after, tally)
    for fault in aws.faults:
        tally.violated("the local marketplace failed", fault)

    tally.counts["buyers"] = len({ticket.account_id for ticket in aws.tickets.values()})
    tally.counts["restarts of the marketplace"] = aws.epoch // 2
    tally.counts["seed"] = options.seed
    tally.counts["duration, seconds"] = round(time.monotonic() - began)
    calls = Counter(f"{call.scenario} {call.status or 'no answer'}" for call in aws.marketplace.resolve_calls)
    _write(
        section("Answers of the landing URL", tally.answers),
        section("Calls to AWS", calls),
        section("Run", tally.counts),
        figures_section(before, after),
        tally.verdict(),
    )
    return 1 if tally.violations else 0


async def _run(soak: Soak, process: Process, registrations: int) -> tuple[Figures | None, Figures | None]:
    """The figures of the host once its stores are full, and at the end.

    Raises:
        TimeoutError: It took longer than can be right.
        httpx2.HTTPError: The host has gone, alone or in a group.
    """
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    soak.aws.start()
    try:
        async with asyncio.timeout(120 + registrations / 20):
            warm_up = registrations // 10
            await _come(soak, process, range(warm_up))
            before = await _at_rest(soak, process)
            await _come(soak, process, range(warm_up, registrations))
            return before, await _at_rest(soak, process)
    finally:
        await soak.aws.stop()


async def _come(soak: Soak, process: Process, numbers: range) -> None:
    rng = random.Random(f"{soak.seed}/{numbers}")
    outages = set(rng.sample(numbers, 1 + len(numbers) // 2000))
    waiting = iter(numbers)
    lock = asyncio.Lock()

    async def restart() -> None:
        async with lock:
            await soak.aws.restart(rng.uniform(0.1, 1.0))

    # Below the five seconds after which uvicorn closes a connection, so that none is used when it does.
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2.0)
    async with httpx2.AsyncHTTPTransport(verify=False, limits=limits) as transport, asyncio.TaskGroup() as group:

        async def buy() -> None:
            browser = soak.browser(transport)
            for number in waiting:
                if number in outages:
                    group.create_task(restart())
                visit = Visit(soak, number, browser)
                await visit.go()
                soak.tally.counts["registrations"] += 1
                if soak.tally.counts["registrations"] % 1000 == 0:
                    _write(f"{soak.tally.counts['registrations']} registrations: {process.figures()}")
                # Some go on in the same browser, with what they did not finish.
                if len(browser.cookies) > 2 or visit.rng.random() < 0.7:
                    browser = soak.browser(transport)

        passer_by = group.create_task(_pass_by(soak, process, soak.browser(transport)))
        await asyncio.gather(*(group.create_task(buy()) for _ in range(_BUYERS)))
        passer_by.cancel()


async def _pass_by(soak: Soak, process: Process, browser: httpx2.AsyncClient) -> None:
    """Ask for an ordinary page, again and again: without a registration, the signup is one."""
    while True:
        began = time.monotonic()
        try:
            answer = await browser.get("/signup")
            soak.tally.counts["ordinary requests"] += 1
            took = round(1000 * (time.monotonic() - began))
            soak.tally.counts["slowest of them, ms"] = max(soak.tally.counts["slowest of them, ms"], took)
            if answer.text != "null":
                soak.tally.violated("an ordinary request went wrong", f"{answer.status_code} {answer.text[:100]}")
        except httpx2.HTTPError as exc:
            soak.tally.violated("an ordinary request was not answered", repr(exc))
            if not process.is_running:
                raise
        await asyncio.sleep(0.05)


async def _at_rest(soak: Soak, process: Process) -> Figures | None:
    """The figures of the host, once all other connections to it are closed and no resolution is under way."""
    async with httpx2.AsyncHTTPTransport(verify=False) as transport:
        browser = soak.browser(transport)
        # It makes the client of AWS, should the last one have been given up after refused credentials.
        await Visit(soak, -1, browser, "new-product").register()
        for _ in range(300):
            told = (await browser.get("/rest")).json()
            if told["connections"] == 1 and told["resolutions"] == 0:
                break
            await asyncio.sleep(0.1)
        else:
            soak.tally.violated("the host does not come to rest", str(told))
    figures = process.figures()
    return figures and replace(figures, objects=told["objects"])


def _check_log(log: str, aws: Aws, tally: Tally) -> None:
    for last_line in re.findall(r"Traceback \(most recent call last\):\n(?:\s.*\n)*(.*)", log):
        tally.violated("the host's log has a traceback", last_line)
    for line in re.findall(".*(?:Exception ignored|never retrieved|never awaited|was destroyed).*", log):
        tally.violated("the host's log tells of trouble", line)
    if any(found in aws.tickets for found in re.findall("[A-Za-z0-9+/]{182}==", log)):
        tally.violated("the host's log holds a token", "")


def _check_growth(before: Figures | None, after: Figures | None, tally: Tally) -> None:
    if before is None or after is None:
        return
    for what, more, allowed in (
        # The main thread, and the one that looks credentials up.
        ("threads", after.threads - _THREADS, 2),
        ("open files", after.files - before.files, _THREADS),
        ("objects", after.objects - before.objects, _MORE_OBJECTS),
        ("KiB of memory", after.memory - before.memory, _MORE_MEMORY),
    ):
        if more > allowed:
            tally.violated(f"too many {what}", f"{more} more than there were or than call AWS, {allowed} are allowed")


def _write(*texts: str) -> None:
    sys.stdout.write("\n".join((*texts, "")))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
