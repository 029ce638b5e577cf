"""The load: each host in turn, several times over, with many buyers at once."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from statistics import median

from benchmarks.load import LANDING, Connection, Run, run
from benchmarks.processes import aws, host
from benchmarks.requests import form

DELAY = 0.08
AT_ONCE = 200
BY_HAND = "run_in_threadpool"
KEPT = "run_in_threadpool, kept client"
# AnyIO's limit of threads, which the endpoints by hand run in.
THREADS_BY_HAND = 40

_numbers = count()


@dataclass(frozen=True)
class Host:
    """A host under load.

    Attributes:
        name: Which one, of `benchmarks.hosts`.
        buyers: How many come. What is slow gets fewer, or the run would take half an hour: its rate is the same.
        threads: How many ask AWS; None is the host's own default.
    """

    name: str
    buyers: int = 2000
    threads: int | None = None


HOSTS = (
    Host(BY_HAND, buyers=200),
    Host(KEPT),
    Host("ours", threads=THREADS_BY_HAND),
    Host("ours"),
    Host("ours", threads=32),
)


def crowds(rounds: int, share: float) -> dict[Host, list[Run]]:
    """The runs of each host, in alternating rounds.

    Args:
        rounds: How often each has its turn.
        share: Of the buyers, for a run that only shows that it works.
    """
    runs: dict[Host, list[Run]] = {}
    with aws(DELAY) as aws_url:
        for _ in range(rounds):
            for each in HOSTS:
                buyers = round(each.buyers * share)
                variables = {} if each.threads is None else {"MARKETPLACE_MAX_CONCURRENCY": str(each.threads)}
                with host(each.name, aws_url, **variables) as url:
                    result = asyncio.run(run(url, [new_token() for _ in range(buyers)], at_once=AT_ONCE))
                if result.statuses != {303: buyers}:
                    raise RuntimeError(f"{each.name} answered {result.statuses}")
                runs.setdefault(each, []).append(result)
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
