"""Timing rivals in turns, so that a change of the machine's mood meets them all."""

import gc
import time
from collections.abc import Awaitable, Callable, Mapping


async def cpu_times(
    rivals: Mapping[str, Callable[[int], Awaitable[object]]], *, rounds: int, calls: int
) -> dict[str, float]:
    """Seconds of CPU that one call of each takes: the least of many rounds, in which each makes so many calls.

    The time is that of the whole process, with all its threads.
    """
    for call in rivals.values():
        await call(calls)
    least = dict.fromkeys(rivals, float("inf"))
    for number in range(rounds):
        # Not always the same one after the same one.
        for name in rivals if number % 2 else reversed(list(rivals)):
            gc.collect()
            gc.disable()
            began = time.process_time()
            await rivals[name](calls)
            least[name] = min(least[name], (time.process_time() - began) / calls)
            gc.enable()
    return least
