import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from starlette_marketplace import (
    AccessDeniedError,
    Agreement,
    AgreementNotFoundError,
    AwsUnavailableError,
    Entitlement,
    Marketplace,
    MarketplaceCustomer,
    MarketplaceError,
    MarketplaceSettings,
    OverloadedError,
)
from starlette_marketplace.pool import Pool
from starlette_marketplace.subscriptions.readings import Readings
from starlette_marketplace.testing import FakeReader, FakeResolver, make_agreement, make_customer
from tests.support.fakes import FakeTimer

pytestmark = pytest.mark.anyio

CUSTOMER = make_customer()
USERS = Entitlement(dimension="users", value=25, expires_at=None)
AGREEMENT = make_agreement(id="agmt-1")


def readings_of(reader: FakeReader, timer: FakeTimer, *, cache_ttl: float = 300) -> Readings:
    settings = MarketplaceSettings(secret_key="k" * 32, product_codes="*", cache_ttl=cache_ttl)
    return Readings(settings, reader, pool=Pool(settings), timer=timer)


async def test_entitlements_are_asked_for_once_and_kept() -> None:
    timer = FakeTimer()
    reader = FakeReader({CUSTOMER.key: [USERS]})
    readings = readings_of(reader, timer)
    assert await readings.get_entitlements(CUSTOMER, refresh=False) == (USERS,)
    timer.now += 299
    assert await readings.get_entitlements(CUSTOMER, refresh=False) == (USERS,)
    assert reader.calls == [CUSTOMER.key]
    timer.now += 2
    assert await readings.get_entitlements(CUSTOMER, refresh=False) == (USERS,)
    assert reader.calls == [CUSTOMER.key] * 2


async def test_each_customer_has_entitlements_of_its_own() -> None:
    other = make_customer()
    readings = readings_of(FakeReader({CUSTOMER.key: [USERS]}), FakeTimer())
    assert await readings.get_entitlements(CUSTOMER, refresh=False) == (USERS,)
    assert await readings.get_entitlements(other, refresh=False) == ()


async def test_nothing_is_kept_for_ten_seconds_only() -> None:
    """A subscription that is being prepared gets its entitlements at any moment."""
    timer, reader = FakeTimer(), FakeReader()
    readings = readings_of(reader, timer)
    assert await readings.get_entitlements(CUSTOMER, refresh=False) == ()
    reader.entitlements[CUSTOMER.key] = [USERS]
    timer.now += 9
    assert await readings.get_entitlements(CUSTOMER, refresh=False) == ()
    timer.now += 2
    assert await readings.get_entitlements(CUSTOMER, refresh=False) == (USERS,)


@pytest.mark.parametrize("cache_ttl", [0, 5])
async def test_nothing_is_kept_for_longer_than_the_setting_says(cache_ttl: float) -> None:
    timer, reader = FakeTimer(), FakeReader()
    readings = readings_of(reader, timer, cache_ttl=cache_ttl)
    await readings.get_entitlements(CUSTOMER, refresh=False)
    timer.now += cache_ttl + 1
    await readings.get_entitlements(CUSTOMER, refresh=False)
    assert len(reader.calls) == 2


async def test_refresh_asks_anew_and_what_it_finds_is_kept() -> None:
    reader = FakeReader({CUSTOMER.key: [USERS]}, {"agmt-1": AGREEMENT})
    readings = readings_of(reader, FakeTimer())
    await readings.get_entitlements(CUSTOMER, refresh=False)
    await readings.get_agreement("agmt-1", refresh=False)
    reader.entitlements[CUSTOMER.key] = ()
    reader.agreements["agmt-1"] = canceled = make_agreement(id="agmt-1", status="CANCELLED")
    for refresh in (True, False):
        assert await readings.get_entitlements(CUSTOMER, refresh=refresh) == ()
        assert await readings.get_agreement("agmt-1", refresh=refresh) == canceled
    assert len(reader.calls) == 4


async def test_another_question_about_the_same_license_is_another_question() -> None:
    reader = FakeReader({CUSTOMER.key: [USERS]})
    readings = readings_of(reader, FakeTimer())
    await readings.get_entitlements(CUSTOMER, refresh=False)
    for other in (replace(CUSTOMER, product_code="other"), replace(CUSTOMER, aws_account_id="222222222222")):
        await readings.get_entitlements(other, refresh=False)
    assert len(reader.calls) == 3


class Held(FakeReader):
    """Answers what was right when it was asked, and not before it may."""

    def __init__(self) -> None:
        super().__init__({CUSTOMER.key: [USERS]})
        self.begun = threading.Semaphore(0)
        self.may_end = [threading.Event(), threading.Event()]

    def get_entitlements(self, customer: MarketplaceCustomer) -> tuple[Entitlement, ...]:
        answer = super().get_entitlements(customer)
        self.begun.release()
        assert self.may_end[len(self.calls) - 1].wait(60)
        return answer


@pytest.mark.parametrize("first_to_end", [0, 1])
async def test_a_refresh_is_not_answered_by_a_call_that_has_begun_before(first_to_end: int) -> None:
    reader = Held()
    readings = readings_of(reader, FakeTimer())
    answers = {}

    async def note(name: str, *, refresh: bool) -> None:
        answers[name] = await readings.get_entitlements(CUSTOMER, refresh=refresh)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(note, "before", refresh=False))
        await anyio.to_thread.run_sync(reader.begun.acquire)
        reader.entitlements[CUSTOMER.key] = ()
        tasks.start_soon(partial(note, "after", refresh=True))
        await anyio.to_thread.run_sync(reader.begun.acquire)
        reader.may_end[first_to_end].set()
        name = ("before", "after")[first_to_end]
        while name not in answers:
            await anyio.lowlevel.checkpoint()
        reader.may_end[1 - first_to_end].set()
    assert answers == {"before": (USERS,), "after": ()}
    assert await readings.get_entitlements(CUSTOMER, refresh=False) == (), "the newer answer is kept"
    assert len(reader.calls) == 2


async def test_a_registration_goes_on_while_readings_hang() -> None:
    settings = MarketplaceSettings(secret_key="k" * 32, product_codes="*", max_concurrency=1, max_waiting=0)
    reader = Held()
    marketplace = Marketplace(settings, reader=reader, resolver=FakeResolver({"good": CUSTOMER}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(marketplace.get_entitlements, CUSTOMER)
        await anyio.to_thread.run_sync(reader.begun.acquire)
        with pytest.raises(OverloadedError):
            await marketplace.get_entitlements(make_customer())
        assert await marketplace.endpoint.resolutions.resolve("good") == CUSTOMER
        reader.may_end[0].set()
    marketplace.shutdown()


Ask = Callable[[Readings], Awaitable[object]]


def entitlements(readings: Readings) -> Awaitable[object]:
    return readings.get_entitlements(CUSTOMER, refresh=False)


def agreement(readings: Readings) -> Awaitable[object]:
    return readings.get_agreement("agmt-1", refresh=False)


@pytest.mark.parametrize("ask", [entitlements, agreement])
async def test_a_hundred_who_ask_at_once_make_one_call(ask: Ask) -> None:
    go_on = threading.Event()

    class Slow(FakeReader):
        def get_entitlements(self, customer: MarketplaceCustomer) -> tuple[Entitlement, ...]:
            assert go_on.wait(60)
            return super().get_entitlements(customer)

        def get_agreement(self, agreement_id: str) -> Agreement:
            assert go_on.wait(60)
            return super().get_agreement(agreement_id)

    reader = Slow({CUSTOMER.key: [USERS]}, {"agmt-1": AGREEMENT})
    readings = readings_of(reader, FakeTimer())
    answers = []

    async def note() -> None:
        answers.append(await ask(readings))

    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(note)
        await anyio.wait_all_tasks_blocked()
        go_on.set()
    assert answers == [answers[0]] * 100
    assert len(reader.calls) == 1


@pytest.mark.parametrize(
    ("error", "is_kept"),
    [
        (AgreementNotFoundError("no"), True),
        (AccessDeniedError("no"), True),
        (AwsUnavailableError("no"), False),
    ],
)
async def test_a_refusal_is_kept_for_ten_seconds_and_other_errors_are_not(
    error: MarketplaceError, is_kept: bool
) -> None:
    timer, reader = FakeTimer(), FakeReader(agreements={"agmt-1": error})
    readings = readings_of(reader, timer)
    for calls in (1, 1 if is_kept else 2):
        with pytest.raises(type(error)) as caught:
            await readings.get_agreement("agmt-1", refresh=False)
        assert caught.value is not error
        assert len(reader.calls) == calls
    timer.now += 11
    reader.agreements["agmt-1"] = AGREEMENT
    assert await readings.get_agreement("agmt-1", refresh=False) == AGREEMENT


@pytest.mark.parametrize("agreement_id", ["", "a b", "a" * 65, None, "agmt-1\n", "ä"])
async def test_what_is_no_agreement_id_is_not_asked_about(agreement_id: str) -> None:
    reader = FakeReader()
    with pytest.raises(ValueError, match="agreement_id must be 1 to 64 letters"):
        await readings_of(reader, FakeTimer()).get_agreement(agreement_id, refresh=False)
    assert reader.calls == []
