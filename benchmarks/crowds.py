"""The load: each host in turn, several times over, with many buyers at once."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from statistics import median

from benchmarks.load import LANDING, Connection, Run, run
from benchmarks.processes import aws, host
from benchmarks.requests import form

DELAY = 0.08
BY_HAND = ("async def", "run_in_threadpool", "plain def")
KEPT = ("run_in_threadpool, kept client", "plain def, kept client")

_numbers = count()


@dataclass(frozen=True)
class Crowd:
    """How many buyers come to a host, and how many of them at once."""

    buyers: int
    at_once: int


FULL = Crowd(2000, 200)
TENTH = Crowd(400, 20)
# What is slow gets fewer buyers, or the run would take half an hour. Its rate does not depend on how many there are.
FEWER = {"async def": 20, "run_in_threadpool": 200, "plain def": 200} | dict.fromkeys(KEPT, 1000)


def crowds(rounds: int, share: float) -> dict[tuple[str, Crowd], list[Run]]:
    """The runs of each host under the full load, and of those by hand under a tenth of it.

    Args:
        rounds: How often each has its turn.
        share: Of the buyers, for a run that only shows that it works.
    """
    runs: dict[tuple[str, Crowd], list[Run]] = {}
    with aws(DELAY) as aws_url:
        for _ in range(rounds):
            for name in ("ours", *BY_HAND, *KEPT):
                for crowd in (FULL,) if name == "ours" else (FULL, TENTH):
                    buyers = round(min(crowd.buyers, FEWER.get(name, crowd.buyers)) * share)
                    with host(name, aws_url) as url:
                        result = asyncio.run(run(url, [new_token() for _ in range(buyers)], at_once=crowd.at_once))
                    if result.statuses != {303: buyers}:
                        raise RuntimeError(f"{name} answered {result.statuses}")
                    runs.setdefault((name, crowd), []).append(result)
    return runs


def threads(numbers: Iterable[int], share: float) -> dict[int, Run]:
    """A run of ours for each number of threads that ask AWS, under the full load."""
    with aws(DELAY) as aws_url:
        runs = {}
        for number in numbers:
            with host("ours", aws_url, MARKETPLACE_MAX_CONCURRENCY=str(number)) as url:
                tokens = [new_token() for _ in range(round(FULL.buyers * share))]
                runs[number] = asyncio.run(run(url, tokens, at_once=FULL.at_once))
    return runs


def middle(runs: list[Run], figure: Callable[[Run], float]) -> float:
    """The median of a figure over the rounds."""
    return median(map(figure, runs))


def calls_for_one_token(posts: int) -> int:
    """How often AWS is asked when so many post one token at once."""
    with aws(DELAY) as aws_url, host("ours", aws_url) as url:
        return asyncio.run(_post_one_token(url, aws_url, posts))


async def _post_one_token(url: str, aws_url: str, posts: int) -> int:
    body = form(new_token())

    async def post() -> int:
        async with Connection(url) as connection:
            status, _ = await connection.send("POST", LANDING, body)
        return status

    statuses = await asyncio.gather(*(post() for _ in range(posts)))
    if set(statuses) != {303}:
        raise RuntimeError(f"answered {set(statuses)}")
    async with Connection(aws_url) as connection:
        _, calls = await connection.send("GET", "/")
    return int(calls)


def new_token() -> str:
    return f"{next(_numbers):08d}" + "mZk3+9vQ/x7LpW2sT8bN" * 8 + "aBcDeFgHiJkLmN=="
