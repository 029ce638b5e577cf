"""More buyers than AWS answers: who is kept waiting, who is sent away, and that nothing grows."""

import logging
import threading
from collections import Counter
from dataclasses import replace

import anyio
import anyio.abc
import anyio.to_thread
import pytest
from fastapi import FastAPI

from starlette_marketplace import Marketplace, MarketplaceMiddleware, MarketplaceSettings
from starlette_marketplace.local import LocalMarketplace
from tests.support.fakes import CUSTOMER, FakeResolver
from tests.support.hosts import LANDING, browser, crowd, form, status_in_the_end
from tests.support.memory import living
from tests.support.network import Fault, Network

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_when_aws_hangs_so_many_wait_the_rest_is_sent_away_and_the_host_does_not_notice(
    settings: MarketplaceSettings, marketplace: LocalMarketplace, to_aws: Network
) -> None:
    host = FastAPI()
    host.add_middleware(
        MarketplaceMiddleware,
        settings=replace(
            settings, endpoint_url=to_aws.url, max_concurrency=3, max_waiting=5, read_timeout=60, deadline=60
        ),
    )

    @host.get("/plain")
    def plain() -> int:
        limiter = anyio.from_thread.run_sync(anyio.to_thread.current_default_thread_limiter)
        return int(limiter.borrowed_tokens)

    tokens = [marketplace.issue_token("new-product") for _ in range(20)]
    to_aws.suffer(Fault.SILENCE)
    async with browser(host) as buyer:
        async with crowd(buyer, tokens) as (_, answers):
            for _ in range(3):
                await anyio.to_thread.run_sync(to_aws.held.acquire)
            assert to_aws.requests == 3
            assert [answer.status_code for answer in answers] == [503] * 12
            for answer in answers:
                assert answer.headers["retry-after"] == "5"
                assert "Many people" in answer.text
                assert "Try again" in answer.text
            assert (await buyer.get("/plain")).json() == 1, "only its own thread of the host's is taken"
            assert to_aws.requests == 3
            to_aws.mend()
        assert Counter(answer.status_code for answer in answers) == {503: 12, 303: 8}
        again = [(await buyer.post(LANDING, data=form(token))).status_code for token in tokens]
    assert again == [303] * 20
    assert len(marketplace.resolve_calls) == 20, "those who were sent away cost no call"


async def test_aws_that_comes_back_after_the_deadline_of_everyone_is_asked_again_at_once(
    settings: MarketplaceSettings, marketplace: LocalMarketplace, to_aws: Network
) -> None:
    """Nobody is left of those who waited, so their turns are skipped instead of being taken before new buyers'."""
    marketplace_of_host = Marketplace(
        replace(settings, endpoint_url=to_aws.url, max_concurrency=1, max_waiting=10, read_timeout=60, deadline=0.5)
    )
    host = FastAPI()
    host.add_middleware(MarketplaceMiddleware, marketplace_of_host)
    async with browser(host) as buyer:
        # Making the client takes longer than the deadline on a machine that is busy.
        assert await status_in_the_end(buyer, marketplace.issue_token("new-product")) == 303
        to_aws.suffer(Fault.SILENCE)
        async with crowd(buyer, [marketplace.issue_token("new-product") for _ in range(11)]) as (_, answers):
            pass
        assert [answer.status_code for answer in answers] == [503] * 11
        await anyio.to_thread.run_sync(to_aws.held.acquire)
        assert to_aws.requests == 2
        to_aws.mend()
        assert await status_in_the_end(buyer, marketplace.issue_token("new-product")) == 303
    assert len(marketplace.resolve_calls) == 3


def our_threads() -> int:
    return sum(thread.name.startswith("starlette-marketplace") for thread in threading.enumerate())


async def test_a_flood_of_random_tokens_leaves_no_more_than_the_cache_holds(
    settings: MarketplaceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "starlette_marketplace")  # Records that pytest keeps would keep errors alive.
    small = replace(settings, cache_size=20, max_concurrency=4, max_waiting=10)
    host = FastAPI()
    host.add_middleware(MarketplaceMiddleware, settings=small, resolver=FakeResolver({"good": CUSTOMER}))
    threads = our_threads()
    async with browser(host) as buyer:
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 303
        before = living("starlette_marketplace")
        for number in range(500):
            assert (await buyer.post(LANDING, data=form(f"junk-{number}"))).status_code == 400
        grown = living("starlette_marketplace") - before
        # The verdicts that are kept, and what a thread has not let go of yet.
        assert 20 <= grown["InvalidTokenError"] <= 24
        held = grown["Flight"], grown["HiddenToken"]
        assert max(held) <= 4
        assert sum(grown.values()) == grown["InvalidTokenError"] + sum(held)
        assert our_threads() - threads <= 4
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 303


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_flood_while_aws_hangs_is_bounded_by_what_may_wait(settings: MarketplaceSettings) -> None:
    small = replace(settings, max_concurrency=2, max_waiting=3, deadline=60)
    resolver = FakeResolver({"good": CUSTOMER})
    host = FastAPI()
    host.add_middleware(MarketplaceMiddleware, settings=small, resolver=resolver)
    async with browser(host) as buyer:
        before = living("starlette_marketplace")
        with resolver.held():
            async with crowd(buyer, [f"junk-{number}" for number in range(300)]) as (_, answers):
                assert [answer.status_code for answer in answers] == [503] * 295
                assert (living("starlette_marketplace") - before)["Flight"] == 5
                resolver.release()
        assert (living("starlette_marketplace") - before)["Flight"] <= 2, "but for what a thread has not let go of yet"
    assert sum(resolver.calls.values()) == 5
