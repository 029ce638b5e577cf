from itertools import combinations
from typing import Any

import pytest

from starlette_marketplace import MarketplaceSettings
from starlette_marketplace.keys import Keys, identity_source, is_aws

KEY, OLDER = "k3y-0123456789abcdef0123456789ab", "0ld-0123456789abcdef0123456789ab"
VARIABLES = ("AWS_ENDPOINT_URL_MARKETPLACE_METERING", "AWS_ENDPOINT_URL", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")


def settings_of(**changes: Any) -> MarketplaceSettings:
    values: dict[str, Any] = {"secret_key": KEY, "product_codes": "acme"} | changes
    return MarketplaceSettings(**values)


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://metering.marketplace.us-east-1.amazonaws.com",
        "https://metering.marketplace.us-east-1.amazonaws.com:443/",
        "https://METERING.marketplace.cn-northwest-1.amazonaws.com.cn",
        "https://metering-marketplace.us-east-1.api.aws",
        "https://metering.marketplace-fips.us-east-1.amazonaws.com",
        "https://metering-marketplace.eusc-de-east-1.amazonaws.eu",
        "https://vpce-0a1b2c-3d4e.metering-marketplace.us-east-1.vpce.amazonaws.com",
    ],
)
def test_the_addresses_of_the_metering_service_are_aws(url: str) -> None:
    assert is_aws(url)
    assert identity_source(settings_of(endpoint_url=url)) == "aws"


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8001",
        "http://metering.marketplace.us-east-1.amazonaws.com",
        "https://metering.marketplace.us-east-1.amazonaws.com:8443",
        "https://metering.marketplace.us-east-1.amazonaws.com.evil.example",
        "https://metering.marketplace.us-east-1.amazonaws.com@evil.example",
        "https://evil.example/metering.marketplace.us-east-1.amazonaws.com",
        "https://abc123.execute-api.us-east-1.amazonaws.com/metering",
        "https://metering-marketplace.s3.amazonaws.com",
        "https://metering-marketplace.s3-us-west-2.amazonaws.com",
        "https://metering.marketplace.elb.us-east-1.amazonaws.com",
        "https://metering.marketplace.us-east-1.amazonaws.com:port",
        "https://[::1",
    ],
)
def test_everything_else_is_not_aws_even_if_it_is_hosted_there(url: str) -> None:
    assert not is_aws(url)


def test_every_place_that_identities_come_from_has_keys_of_its_own_for_every_purpose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = [
        Keys(settings_of(endpoint_url=url), purpose).newest()
        for url in (None, "http://localhost:8001", "http://localhost:8002", "https://stand-in.example")
        for purpose in ("session", "token")
    ]

    assert all(one != other for one, other in combinations(keys, 2))
    assert not any(KEY.encode() in key for key in keys)


def test_the_environment_counts_as_botocore_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of()
    assert identity_source(settings) == "aws"

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:4566/")
    assert identity_source(settings) == "http://localhost:4566"
    monkeypatch.setenv("AWS_ENDPOINT_URL_MARKETPLACE_METERING", "http://localhost:8001")
    assert identity_source(settings) == "http://localhost:8001"
    assert identity_source(settings_of(endpoint_url="http://localhost:9")) == "http://localhost:9"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "True")
    assert identity_source(settings) == "aws"
    assert identity_source(settings_of(endpoint_url="http://localhost:9")) == "http://localhost:9"


def test_the_keys_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(settings_of(), "session")
    real = keys.newest()

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:4566")
    assert keys.newest() != real
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert keys.newest() == real


def test_the_newest_key_is_that_of_the_secret_key_and_the_older_ones_come_before() -> None:
    rotated = Keys(settings_of(secret_key_fallbacks=OLDER), "session")

    assert rotated.all() == [
        Keys(settings_of(secret_key=OLDER), "session").newest(),
        Keys(settings_of(), "session").newest(),
    ]
    assert rotated.newest() == rotated.all()[-1]
