from dataclasses import fields

from starlette_marketplace import MarketplaceSettings
from starlette_marketplace.doctor.checks import CHECKS


def test_a_check_needs_only_checks_before_it_and_settings_that_there_are() -> None:
    settings = {field.name for field in fields(MarketplaceSettings)}
    before = {"--url"}
    for check in CHECKS:
        assert set(check.needs) <= before
        assert set(check.settings) <= settings
        assert check.name not in before
        before.add(check.name)


def test_the_checks_of_a_topic_stand_together() -> None:
    topics = [check.topic for check in CHECKS]

    assert topics == sorted(topics, key=topics.index)


def test_a_check_that_looks_at_settings_needs_them() -> None:
    needs_settings = {"settings"}
    for check in CHECKS:
        if needs_settings & set(check.needs):
            needs_settings.add(check.name)
        assert not check.settings or check.name in needs_settings
