import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Self

import pytest

from starlette_marketplace import InvalidTokenError, MarketplaceCustomer, MarketplaceError

CUSTOMER = MarketplaceCustomer(
    aws_account_id="123456789012",
    product_code="acmeanalytics",
    license_arn="arn:aws:license-manager::111122223333:license:l-0123",
    agreement_id="agmt-0123",
)


class FakeTimer:
    """A clock that a test sets."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeResolver:
    """Answers by token, counts the calls, and holds them while its gate is closed."""

    def __init__(self, answers: Mapping[str, MarketplaceCustomer | Exception] | None = None) -> None:
        self.answers = {"good": CUSTOMER} if answers is None else answers
        self.calls: Counter[str] = Counter()
        self.called = threading.Semaphore(0)
        self._gate = threading.Event()
        self._gate.set()

    @contextmanager
    def held(self) -> Iterator[Self]:
        self._gate.clear()
        try:
            yield self
        finally:
            self._gate.set()

    def release(self) -> None:
        self._gate.set()

    def resolve(self, token: str) -> MarketplaceCustomer:
        self.calls[token] += 1
        self.called.release()
        if not self._gate.wait(timeout=60):
            raise MarketplaceError("the test has forgotten to release the resolver")
        answer = self.answers.get(token, InvalidTokenError("not known to the fake"))
        if isinstance(answer, Exception):
            raise answer
        return answer


def said(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged, but for the line that the local marketplace is not AWS."""
    return [record for record in caplog.records if not str(record.msg).startswith("Identities come from")]
