import pytest

from starlette_marketplace.local import LocalMarketplace


@pytest.fixture
def environment(running_marketplace: tuple[LocalMarketplace, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the README sets."""
    _, url = running_marketplace
    for name, value in {
        "AWS_ENDPOINT_URL_MARKETPLACE_METERING": url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "MARKETPLACE_PRODUCT_CODES": "acmeanalytics,acmelegacy",
        "MARKETPLACE_SECRET_KEY": "k" * 32,
        "MARKETPLACE_HTTPS_ONLY": "false",
    }.items():
        monkeypatch.setenv(name, value)
