from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doctor.world import (
    HOST,
    PRODUCT_CODE,
    SECRET_KEY,
    Plant,
    Run,
    assert_found,
    first,
    module_of,
)

FAULTS = {
    "repeated-key": Plant(
        "secret_key",
        "problem",
        "secret_key repeats a short part: anyone who guesses it can forge a registration",
        "Make a new one with python -c",
        {"MARKETPLACE_SECRET_KEY": "q7T-vB2xZm" * 4},
    ),
    "repeated-old-key": Plant(
        "secret_key",
        "problem",
        "Number 2 of secret_key_fallbacks repeats a short part",
        "and drop this one",
        {"MARKETPLACE_SECRET_KEY_FALLBACKS": f"{SECRET_KEY[::-1]},{'pq' * 16}"},
    ),
    "key-not-changed": Plant(
        "secret_key",
        "warning",
        "The same key is more than once",
        "Put the new key into secret_key",
        {"MARKETPLACE_SECRET_KEY_FALLBACKS": SECRET_KEY},
    ),
    "product-id": Plant(
        "product_codes",
        "problem",
        "prod-abcdefghijklm is a product id, not a product code",
        "Take the product code from the product's page",
        {"MARKETPLACE_PRODUCT_CODES": f"{PRODUCT_CODE},prod-abcdefghijklm"},
    ),
    "any-product": Plant(
        "product_codes",
        "warning",
        "a buyer of any product of the seller account is let in",
        "List the product codes of this product",
        {"MARKETPLACE_PRODUCT_CODES": "*"},
    ),
    "plain-http-cookies": Plant(
        "https_only",
        "warning",
        "https_only is false",
        "Leave it out in production",
        {"MARKETPLACE_HTTPS_ONLY": "false"},
    ),
    "domain-of-another": Plant(
        "session_domain",
        "problem",
        "session_domain op.example does not cover shop.example: browsers refuse the cookie",
        "set it to shop.example",
        {"MARKETPLACE_SESSION_DOMAIN": "op.example"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found_and_explained(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, tmp_path: Path, fault: Plant
) -> None:
    assert_found(fault, doctor, environment, tmp_path)


@pytest.mark.parametrize("key", ["abcdefgh" * 5, "Zk3vQ8xW1nB6tY0p" * 2, "q7T-vB2xZm" * 3 + "q7T-vB"])
def test_a_key_that_repeats_one_part_is_weak(environment: pytest.MonkeyPatch, key: str) -> None:
    environment.setenv("MARKETPLACE_SECRET_KEY", key)

    assert first("secret_key").status == "problem"


@pytest.mark.parametrize(
    "key", [SECRET_KEY, "0123456789abcdef" * 2 + "x", "0b51be1c2a7d4d16a0f0e1a4a1a1b1c1", f"shop-{SECRET_KEY}"]
)
def test_a_key_that_only_repeats_characters_is_right(environment: pytest.MonkeyPatch, key: str) -> None:
    environment.setenv("MARKETPLACE_SECRET_KEY", key)

    assert first("secret_key").message == f"secret_key has {len(key)} characters and does not repeat itself."


def test_a_key_of_one_character_is_found_in_settings_that_are_not_of_the_environment(tmp_path: Path) -> None:
    module = module_of(
        tmp_path,
        f"""
        from starlette_marketplace import MarketplaceSettings
        settings = MarketplaceSettings(secret_key="k" * 40, product_codes="{PRODUCT_CODE}")
        """,
    )

    assert first("secret_key", target=f"{module}:settings").status == "problem"


@pytest.mark.parametrize("domain", ["shop.example", ".shop.example", "SHOP.example"], ids=["same", "dot", "case"])
def test_a_session_domain_that_covers_the_host_is_right(environment: pytest.MonkeyPatch, domain: str) -> None:
    environment.setenv("MARKETPLACE_SESSION_DOMAIN", domain)

    for url in (HOST, None):
        found = first("session_domain", url=url)
        assert found.status == "ok"
        assert found.message.endswith("gets registration cookies, unless it is a public suffix, such as co.uk.")


def test_a_session_domain_above_the_host_is_right(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MARKETPLACE_SESSION_DOMAIN", "shop.example")
    found = first("session_domain", url="https://www.shop.example")

    assert found.status == "ok"
    assert found.message.startswith("Every host of shop.example gets registration cookies")


@pytest.mark.parametrize("domain", ["com", ".com", "com.", "localhost", "."])
@pytest.mark.parametrize("url", ["https://shop.com", "https://localhost", None])
def test_a_session_domain_without_a_dot_inside_is_a_problem(
    environment: pytest.MonkeyPatch, domain: str, url: str | None
) -> None:
    environment.setenv("MARKETPLACE_SESSION_DOMAIN", domain)
    found = first("session_domain", url=url)

    assert found.status == "problem"
    assert "has no dot inside: browsers share no cookie with all of a top-level domain" in found.message


SIGNUPS: dict[str, tuple[dict[str, str], str | None, str, str]] = {
    "path": ({"SIGNUP_URL": "/join"}, HOST, "ok", "Buyers go on to /join of the same host."),
    "same-host": ({"SIGNUP_URL": f"{HOST}:8443/join"}, HOST, "ok", "go on to shop.example, and so do"),
    "same-host-in-capitals": ({"SIGNUP_URL": "https://SHOP.example/join"}, HOST, "ok", "and so do"),
    "another-host": (
        {"SIGNUP_URL": "https://app.shop.example/join"},
        HOST,
        "problem",
        "signup_url is on app.shop.example, and registration cookies stay with shop.example.",
    ),
    "host-of-nobody": ({"SIGNUP_URL": "https://:443/join"}, HOST, "problem", "stay with shop.example"),
    "landing-not-known": (
        {"SIGNUP_URL": "https://app.shop.example"},
        None,
        "skipped",
        "Whether cookies do depends on --url.",
    ),
    "below-the-domain": (
        {"SIGNUP_URL": "https://app.shop.example", "SESSION_DOMAIN": ".Shop.example"},
        "https://www.shop.example",
        "ok",
        "Buyers go on to app.shop.example, and so do registration cookies.",
    ),
    "the-domain-itself": (
        {"SIGNUP_URL": "https://shop.example", "SESSION_DOMAIN": "shop.example"},
        None,
        "ok",
        "and so do registration cookies",
    ),
    "beside-the-domain": (
        {"SIGNUP_URL": "https://workshop.example", "SESSION_DOMAIN": "shop.example"},
        None,
        "problem",
        "signup_url is on workshop.example, and registration cookies stay with shop.example",
    ),
    "plain-http": ({"SIGNUP_URL": "http://shop.example"}, HOST, "problem", "signup_url is plain http on shop.example"),
    "plain-http-as-asked-for": ({"SIGNUP_URL": "http://shop.example", "HTTPS_ONLY": "false"}, HOST, "ok", "so do"),
    "laptop": ({"SIGNUP_URL": "http://127.0.0.1:3000"}, "http://127.0.0.1:8000", "ok", "and so do"),
    "laptop-with-two-sites": ({"SIGNUP_URL": "http://localhost"}, "http://127.0.0.1", "problem", "stay with 127.0.0.1"),
}


@pytest.mark.parametrize(("variables", "url", "status", "message"), SIGNUPS.values(), ids=SIGNUPS)
def test_the_cookie_has_to_get_to_the_signup(
    environment: pytest.MonkeyPatch, variables: dict[str, str], url: str | None, status: str, message: str
) -> None:
    for name, value in variables.items():
        environment.setenv(f"MARKETPLACE_{name}", value)
    found = first("signup_url", url=url)

    assert found.status == status
    assert message in found.message
    assert bool(found.advice) is (status == "problem")
