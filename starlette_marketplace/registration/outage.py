"""The breaker in front of the shared cache: what fails or hangs is passed over, for a while and for everyone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from ..clocks import monotonic
from ..threads import call_after_fork

R = TypeVar("R")

logger: logging.Logger = logging.getLogger("starlette_marketplace")

# In the order in which a resolution comes to them.
Step = Literal["get", "lock", "set", "unlock"]
_STEPS: tuple[Step, ...] = get_args(Step)


@dataclass(slots=True, eq=False)
class Visit:
    """What one resolution has to do with the cache, which it gives up at the first failure.

    Attributes:
        is_over: Whether it is to use the cache no further.
        outages: How many outages there had been when it began.
    """

    is_over: bool
    outages: int


class Breaker:
    """Keeps resolutions from a cache that is down or hangs, and lets one of them try it now and then.

    Args:
        patience: Seconds after which a use of the cache that has not ended counts as hanging.
        timer: Seconds from any beginning, never running backwards.
    """

    # A cache that is down or slow costs its time-out once in so many seconds, and not for each buyer.
    _PAUSE = 5.0

    def __init__(self, *, patience: float, timer: Callable[[], float] = monotonic) -> None:
        self._patience = patience
        self._timer = timer
        self._begin()
        call_after_fork(self._begin)

    def _begin(self) -> None:
        # Guards all below.
        self._lock = threading.RLock()
        self._outages = 0
        # The step that fails, the last of them where several do: those before it may work all the while.
        self._failing: int | None = None
        self._next_try = 0.0
        # At which step a resolution is, and since when.
        self._under_way: dict[Visit, tuple[int, float]] = {}

    def visit(self) -> Visit:
        """Begin a resolution; while the cache is down, one of them tries it now and then, and none while it hangs."""
        now = self._timer()
        with self._lock:
            hanging = [step for step, began in self._under_way.values() if now - began > self._patience]
            is_over = bool(hanging)
            if not is_over and self._failing is not None:
                is_over = now < self._next_try
                if not is_over:
                    self._next_try = now + self._PAUSE
            visit = Visit(is_over, self._outages)
        if hanging:
            # Each further use would cost one more of our threads.
            self._fail(max(hanging), TimeoutError.__name__)
        return visit

    def use(self, visit: Visit, operation: Step, function: Callable[..., R], *args: object) -> R | None:
        """What `function` answers; None when it fails, which is logged and passed over."""
        step = _STEPS.index(operation)
        with self._lock:
            self._under_way[visit] = step, self._timer()
        answer = reason = None
        try:
            answer = function(*args)
        except Exception as exc:  # noqa: BLE001 - an implementation raises what its client library does.
            # No more than its kind: its text may quote an address with the password in it. So it is logged when no
            # frame holds it any longer.
            reason = type(exc).__name__
        finally:
            with self._lock:
                del self._under_way[visit]
        if reason is not None:
            visit.is_over = True
            self._fail(step, reason)
        elif self._succeed(step, visit):
            logger.warning("The shared cache works again")
        return answer

    def _fail(self, step: int, reason: str) -> None:
        """Take note of a failure, and log it if it begins an outage."""
        with self._lock:
            is_new = self._failing is None
            self._outages += is_new
            self._failing = step if self._failing is None else max(step, self._failing)
            self._next_try = self._timer() + self._PAUSE
        if is_new:
            operation = _STEPS[step]
            logger.warning(
                "The shared cache failed at %s (%s): registrations go on without it, and it is tried again every "
                "%.0f s",
                operation,
                reason,
                self._PAUSE,
                extra={"operation": operation, "reason": reason, "retry_after": self._PAUSE},
            )

    def _succeed(self, step: int, visit: Visit) -> bool:
        """Whether this ends an outage: what failed works, and it began to be tried after it had failed."""
        with self._lock:
            if step != self._failing or visit.outages < self._outages:
                return False
            self._failing = None
            return True
