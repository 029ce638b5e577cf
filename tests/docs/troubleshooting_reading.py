"""Reproductions of what goes wrong when entitlements and agreements are read."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
from starlette.responses import Response

from starlette_marketplace import (
    AccessDeniedError,
    AgreementNotFoundError,
    ConfigurationError,
    DeadlineExceededError,
    IncompleteAnswerError,
    Marketplace,
    MarketplaceSettings,
    RegionError,
    SettingsError,
)
from starlette_marketplace.testing import FakeReader
from tests.docs.troubleshooting_scene import Reproduction, Scene
from tests.docs.troubleshooting_start import raised_by
from tests.support.aws import (
    CUSTOMER,
    FakeAws,
    answer,
    described,
    failure,
    read_with_a_botocore_that_does_not_know_trials,
    reader_of,
)
from tests.support.fakes import FakeTimer
from tests.support.servers import serve


def reading(marketplace: Marketplace, *, agreement_id: str | None = None) -> Callable[[], object]:
    async def read() -> object:
        if agreement_id is None:
            return await marketplace.get_entitlements(CUSTOMER)
        return await marketplace.get_agreement(agreement_id)

    return lambda: anyio.run(read)


def answered(answer: Response, kind: type[Exception], *, agreement_id: str | None = None) -> Reproduction:
    def reproduce(scene: Scene) -> str:
        with serve(FakeAws(answer), lifespan="off") as url:
            return raised_by(kind, reading(Marketplace(everywhere(scene, url)), agreement_id=agreement_id))

    return reproduce


def everywhere(scene: Scene, url: str) -> MarketplaceSettings:
    return replace(scene.settings, endpoint_url=url, entitlement_endpoint_url=url, agreement_endpoint_url=url)


def with_settings(kind: type[Exception], **changes: Any) -> Reproduction:
    return lambda scene: raised_by(kind, reading(Marketplace(replace(scene.settings, **changes))))


def with_an_id_that_is_none(scene: Scene) -> str:
    return raised_by(ValueError, reading(Marketplace(scene.settings), agreement_id=""))


def with_a_fake_reader(scene: Scene) -> str:
    marketplace = Marketplace(scene.settings, reader=FakeReader())
    return raised_by(AgreementNotFoundError, reading(marketplace, agreement_id="agmt-1"))


def reads_not_aws(scene: Scene) -> str:
    with serve(FakeAws(answer({})), lifespan="off") as url:
        reading(Marketplace(replace(scene.settings, endpoint_url=None, entitlement_endpoint_url=url)))()
    return scene.said()


def status_unknown(scene: Scene) -> str:
    with serve(FakeAws(answer(described(status="BRAND_NEW"))), lifespan="off") as url:
        reading(Marketplace(everywhere(scene, url)), agreement_id="agmt-1")()
    return scene.said()


def old_botocore(scene: Scene) -> str:
    read_with_a_botocore_that_does_not_know_trials(scene.settings, scene.folder, scene.environment)
    return scene.said()


def pages_without_end(scene: Scene) -> str:
    timer = FakeTimer()

    class Slow(FakeAws):
        def answer(self, number: int) -> Response:
            timer.now += 5
            return super().answer(number)

    with serve(Slow(answer({"NextToken": "again"})), lifespan="off") as url:
        reader = reader_of(url, timer=timer)
        return raised_by(DeadlineExceededError, lambda: reader.get_entitlements(CUSTOMER))


READING: dict[str, Reproduction] = {
    "reads-not-aws": reads_not_aws,
    "status-unknown": status_unknown,
    "old-botocore-agreements": old_botocore,
    "entitlements-refused": answered(failure("InvalidParameterException"), ConfigurationError),
    "agreement-not-found": answered(
        failure("ResourceNotFoundException", 404), AgreementNotFoundError, agreement_id="agmt-1"
    ),
    "agreement-denied": answered(failure("AccessDeniedException", 403), AccessDeniedError, agreement_id="agmt-1"),
    "answer-unusable": answered(answer({"Entitlements": [{}]}), IncompleteAnswerError),
    "counterpart": with_settings(SettingsError),
    "pages-slow": pages_without_end,
    "not-in-partition": with_settings(RegionError, endpoint_url=None, region_name="us-gov-west-1"),
    "agreement-id": with_an_id_that_is_none,
    "fake-reader": with_a_fake_reader,
}
