"""`python -m benchmarks` measures everything and writes it into docs/performance.md; `--smoke` sees that it runs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.crowds import KEPT, THREADS_BY_HAND, calls_for_one_token, crowds, middle
from benchmarks.page import write
from benchmarks.processes import ROOT, aws, environment, redis


@dataclass(frozen=True)
class Effort:
    """How much is done for a figure."""

    processes: int = 5
    rounds: int = 40
    crowd_rounds: int = 3
    share: float = 1.0
    resolutions: int = 5000
    posts: int = 1000


SMOKE = Effort(processes=1, rounds=1, crowd_rounds=1, share=0.1, resolutions=100, posts=100)


@dataclass(frozen=True)
class Figure:
    """A line of the table.

    Attributes:
        name: What was measured.
        measured: What came out, in words.
        limit: What it must be, in words.
        is_reached: Whether it is.
        is_of_speed: Whether that depends on how fast the machine is.
    """

    name: str
    measured: str
    limit: str
    is_reached: bool
    is_of_speed: bool = True

    @property
    def reached(self) -> str:
        return "yes" if self.is_reached else "**no**"


def at_most(name: str, value: float, limit: float, measured: str, *, is_of_speed: bool = True) -> Figure:
    return Figure(name, measured, f"at most {limit:g}", value <= limit, is_of_speed)


def output_of(module: str, *arguments: object, environ: dict[str, str] | None = None) -> Any:
    """What a module prints, in a process of its own."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environ = environment("http://127.0.0.1:9") if environ is None else environ
    return json.loads(subprocess.run(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, check=True).stdout)


def in_process(effort: Effort) -> Iterator[Figure]:
    runs = [output_of("benchmarks.in_process", effort.rounds) for _ in range(effort.processes)]

    def ratio(figure: str, name: str, rival: str) -> float:
        return float(median(run[figure][name] / run[figure][rival] for run in runs))

    def least(figure: str, name: str) -> float:
        return float(min(run[figure][name] for run in runs)) * 1e6

    other = "another request"
    value = ratio(other, "ours", "bare")
    rivals = ", ".join(
        f"{name} {ratio(other, name, 'bare'):.2f}" for name in ("SessionMiddleware", "BaseHTTPMiddleware")
    )
    measured = f"{value:.3f} of {least(other, 'bare'):.1f} µs ({rivals})"
    yield at_most("A request that is not ours, of one without us", value, 1.03, measured)
    value = ratio(f"{other}, with a cookie", "ours", "bare")
    yield at_most("The same with a registration cookie that nobody reads", value, 1.05, f"{value:.3f}")
    value = median(
        (run["reading"]["ours"] - run["reading"]["bare"])
        / (run["reading"]["SessionMiddleware"] - run["reading"]["bare"])
        for run in runs
    )
    added = least("reading", "ours") - least("reading", "bare")
    measured = f"{value:.2f} ({added:.1f} µs)"
    yield at_most("`get_registration`, of `SessionMiddleware` loading the same payload", value, 1.0, measured)
    value = ratio("cached registration", "ours", "Starlette")
    measured = f"{value:.2f} ({least('cached registration', 'ours'):.0f} µs)"
    yield at_most(
        "A registration from the cache, of a Starlette endpoint that writes `request.session`", value, 1.0, measured
    )


def one_by_one(effort: Effort) -> Iterator[Figure]:
    with aws(0) as url:
        environ = environment(url)
        runs = [output_of("benchmarks.uncached", effort.rounds, environ=environ) for _ in range(effort.processes)]
        value = median(run["ours"] / run["boto3"] for run in runs)
        measured = f"{value:.2f} of {min(run['boto3'] for run in runs) * 1e6:.0f} µs"
        yield at_most("CPU of a registration that asks AWS, of boto3's call alone in a thread", value, 1.15, measured)
        started = [output_of("benchmarks.first_buyer", "started", environ=environ) for _ in range(effort.processes)]
        cold = [output_of("benchmarks.first_buyer", environ=environ) for _ in range(effort.processes)]
    first, second, unprepared = (
        min(seconds) * 1e3
        for seconds in ((run[0] for run in started), (run[1] for run in started), (run[0] for run in cold))
    )
    yield Figure(
        "CPU of the first buyer after the start",
        f"{first:.1f} ms, the second {second:.1f} ms; without lifespan the first {unprepared:.0f} ms",
        "no client is made in it",
        first < unprepared / 2,
    )
    imports = [output_of("benchmarks.importing") for _ in range(effort.processes)]
    milliseconds = min(run["seconds"] for run in imports) * 1e3
    if any(run["boto3"] for run in imports):
        raise RuntimeError("importing the package imports boto3")
    yield at_most(
        "Milliseconds to import the package after Starlette", milliseconds, 30, f"{milliseconds:.0f}, no boto3"
    )
    kept = output_of("benchmarks.memory", effort.resolutions)
    yield at_most("Bytes for each resolution that is kept", kept, 1024, f"{kept:.0f}", is_of_speed=False)


def under_load(effort: Effort) -> Iterator[tuple[str, float, float, float]]:
    """Each host under load: registrations a second, p99 of another route in ms, CPU for each registration in µs."""
    for each, runs in crowds(effort.crowd_rounds, effort.share).items():
        if each.name == "ours":
            threads = "the default" if each.threads is None else each.threads
            name = f"`MarketplaceMiddleware`, `max_concurrency` {threads}"
        else:
            name = "hand-written, client kept" if each.name == KEPT else "hand-written, client made in the request"
            name += f", {THREADS_BY_HAND} threads"
        yield (
            name,
            middle(runs, lambda run: run.rate),
            middle(runs, lambda run: run.p99) * 1e3,
            middle(runs, lambda run: run.cpu_of_each) * 1e6,
        )


def of_the_rival(load: list[tuple[str, float, float, float]]) -> Iterator[Figure]:
    """Ours against the kept client by hand, with as many threads."""
    _, (_, rate, p99, cpu), (_, our_rate, our_p99, our_cpu), *_ = load
    # What the same host measures twice differs by so much.
    yield Figure(
        "Registrations a second, of the hand-written endpoint with a kept client",
        f"{our_rate / rate:.2f}",
        "at least 0.95",
        our_rate >= 0.95 * rate,
    )
    yield at_most("p99 of another route meanwhile, of the same", our_p99 / p99, 1.2, f"{our_p99 / p99:.2f}")
    yield at_most("CPU for each registration, of the same", our_cpu / cpu, 1.05, f"{our_cpu / cpu:.2f}")


def one_token(effort: Effort) -> Iterator[Figure]:
    calls = calls_for_one_token(effort.posts)
    yield at_most(
        f"Calls to AWS for {effort.posts} posts of one token at once", calls, 1, f"{calls}", is_of_speed=False
    )


def with_redis(effort: Effort) -> str:
    with aws(0) as url, redis() as cache_url:
        if cache_url is None:
            return "not measured: there is no redis-server"
        environ = environment(url) | {"MARKETPLACE_CACHE_URL": cache_url}
        # The second run has the tokens of the first.
        asked, found = (output_of("benchmarks.uncached", effort.rounds, environ=environ)["ours"] for _ in range(2))
    return f"{asked * 1e6:.0f} µs asking AWS, {found * 1e6:.0f} µs found in Redis"


def main(*options: str) -> None:
    effort = SMOKE if "--smoke" in options else Effort()
    load = list(under_load(effort))
    rows = [(name, f"{rate:.0f}", f"{p99:.0f} ms", f"{cpu:.0f} µs") for name, rate, p99, cpu in load]
    for row in rows:
        print(*row, sep=", ", flush=True)
    figures = list(of_the_rival(load))
    for measure in (in_process, one_by_one, one_token):
        figures += measure(effort)
    for figure in figures:
        print(f"{figure.name}: {figure.measured}. Must be {figure.limit}: {figure.reached}", flush=True)
    shared = with_redis(effort)
    print(f"CPU of a registration with Redis: {shared}", flush=True)
    if effort is not SMOKE:
        write(rows, [(figure.name, figure.measured, figure.limit, figure.reached) for figure in figures], shared)
    elif not all(figure.is_reached for figure in figures if not figure.is_of_speed):
        sys.exit("what does not depend on speed is not reached")


if __name__ == "__main__":
    main(*sys.argv[1:])
