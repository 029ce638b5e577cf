"""Whatever AWS and the network to it do, the buyer gets an answer of the design, and the seller a line to act on."""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from starlette_marketplace import MarketplaceSettings
from starlette_marketplace.local import SCENARIOS, LocalMarketplace
from tests.support.aws_failures import CUT, EMPTY, FAILURES, INCOMPLETE, UNREACHED, Expected
from tests.support.hosts import LANDING, Host, browser, fastapi_middleware, form, starlette_mount, status_in_the_end
from tests.support.network import Fault, Network, hanging_in_connect, refusing

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(params=[fastapi_middleware, starlette_mount], ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest) -> Host:
    made: Host = request.param
    return made


def test_every_scenario_that_fails_is_here() -> None:
    """The others resolve; wrong-product does too, and is refused by us."""
    failing = {slug for slug, scenario in SCENARIOS.items() if not scenario.resolves}
    assert failing | {"wrong-product"} == FAILURES.keys()


def in_time_for(hangs: bool, settings: MarketplaceSettings, **changes: Any) -> MarketplaceSettings:
    """Short timeouts for what has to time out, and long ones for what must not, however busy the machine is."""
    timeout = 0.25 if hangs else 30.0
    return replace(settings, connect_timeout=timeout, read_timeout=timeout, deadline=60, **changes)


async def post_both(buyer: httpx2.AsyncClient, token: str) -> tuple[httpx2.Response, httpx2.Response]:
    page = await buyer.post(LANDING, data=form(token))
    return page, await buyer.post(LANDING, data=form(token), headers={"Accept": "application/json"})


@pytest.mark.parametrize("scenario", FAILURES)
async def test_a_failure_of_aws_has_its_answer(
    host: Host,
    settings: MarketplaceSettings,
    marketplace: LocalMarketplace,
    caplog: pytest.LogCaptureFixture,
    scenario: str,
) -> None:
    token = marketplace.issue_token(scenario)
    async with browser(host(settings=in_time_for("hanging" in scenario, settings))) as buyer:
        page, as_json = await post_both(buyer, token)
    FAILURES[scenario].check(page, as_json, caplog, token)
    kept = FAILURES[scenario].status != 503
    assert len(marketplace.resolve_calls) == (1 if kept else 2), "our own failures are not kept"


async def test_a_license_that_comes_late_is_found_by_trying_again(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace, caplog: pytest.LogCaptureFixture
) -> None:
    token = marketplace.issue_token("no-license-yet")
    async with browser(host(settings=settings)) as buyer:
        first = await buyer.post(LANDING, data=form(token))
        assert first.status_code == 503
        assert f"<h1>{INCOMPLETE.title}</h1>" in first.text
        assert INCOMPLETE.advice in caplog.text
        assert (await buyer.post(LANDING, data=form(token))).status_code == 303
        assert (await buyer.get("/signup")).json()["customer"]["license_arn"]


@pytest.mark.parametrize("fault", Fault)
async def test_a_fault_of_the_network_has_its_answer_and_passes(
    host: Host,
    settings: MarketplaceSettings,
    marketplace: LocalMarketplace,
    caplog: pytest.LogCaptureFixture,
    to_aws: Network,
    fault: Fault,
) -> None:
    token = marketplace.issue_token("new-product")
    async with browser(host(settings=in_time_for("SILENCE" in fault.name, settings, endpoint_url=to_aws.url))) as buyer:
        to_aws.suffer(fault)
        page, as_json = await post_both(buyer, token)
        expected = {Fault.CUT_IN_HEADERS: EMPTY, Fault.CUT_IN_BODY: CUT}.get(fault, UNREACHED)
        expected.check(page, as_json, caplog, token)
        to_aws.mend()
        assert await status_in_the_end(buyer, token) == 303


@pytest.mark.parametrize("address", [refusing, hanging_in_connect], ids=lambda address: address.__name__)
async def test_an_address_without_a_connection_has_its_answer(
    host: Host,
    settings: MarketplaceSettings,
    caplog: pytest.LogCaptureFixture,
    address: type[AbstractContextManager[str]],
) -> None:
    with address() as url:
        async with browser(host(settings=in_time_for(True, settings, endpoint_url=url))) as buyer:
            page, as_json = await post_both(buyer, "a+b/c==")
    UNREACHED.check(page, as_json, caplog, "a+b/c==")


@pytest.mark.parametrize("fault", [Fault.SILENCE, Fault.SILENCE_IN_BODY])
async def test_the_deadline_comes_first_when_timeouts_are_longer(
    host: Host,
    settings: MarketplaceSettings,
    marketplace: LocalMarketplace,
    caplog: pytest.LogCaptureFixture,
    to_aws: Network,
    fault: Fault,
) -> None:
    patient = replace(settings, endpoint_url=to_aws.url, read_timeout=60, deadline=0.5)
    earlier, token = (marketplace.issue_token("new-product") for _ in range(2))
    async with browser(host(settings=patient)) as buyer:
        # Making the client takes longer than the deadline on a machine that is busy.
        assert await status_in_the_end(buyer, earlier) == 303
        caplog.clear()
        to_aws.suffer(fault)
        page, as_json = await post_both(buyer, token)
        Expected(503, "DEADLINE_EXCEEDED", "AWS gave no answer within 0.5 s").check(page, as_json, caplog, token)
        to_aws.mend()
        assert await status_in_the_end(buyer, token) == 303
    assert len(marketplace.resolve_calls) == 2, "the call went on, and was the only one for this token"


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.RESET_IN_BODY])
async def test_a_retry_hides_a_fault_that_passes(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace, to_aws: Network, fault: Fault
) -> None:
    """botocore calls again by itself, within the one resolution that the buyer waits for."""
    to_aws.suffer(fault, times=1)
    async with browser(host(settings=in_time_for(False, settings, endpoint_url=to_aws.url, max_attempts=2))) as buyer:
        response = await buyer.post(LANDING, data=form(marketplace.issue_token("new-product")))
    assert response.status_code == 303
    assert to_aws.requests == 2
