from datetime import UTC, datetime


class Timer:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Draws:
    """Numbers that are drawn in this order."""

    def __init__(self, *numbers: float) -> None:
        self._numbers = list(numbers)

    def __call__(self) -> float:
        return self._numbers.pop(0)


class Clock:
    """The time, which passes when a test says so."""

    def __init__(self) -> None:
        self.seconds = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        return self.seconds

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)
