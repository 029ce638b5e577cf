from collections.abc import Callable
from pathlib import Path

import pytest

from starlette_marketplace.doctor import Finding, Status
from tests.doctor.world import (
    HOST,
    PRODUCT_CODE,
    Plant,
    Run,
    assert_found,
    first,
)

FAULTS = {
    "product-id": Plant(
        "product_codes",
        "problem",
        "prod-abcdefghijklm is a product id and no product code",
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
        "Leave it out wherever buyers come",
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


@pytest.mark.parametrize("domain", ["shop.example", ".shop.example", "SHOP.example"], ids=["same", "dot", "case"])
def test_a_session_domain_that_covers_the_host_is_right(environment: pytest.MonkeyPatch, domain: str) -> None:
    environment.setenv("MARKETPLACE_SESSION_DOMAIN", domain)

    for url in (HOST, None):
        found = first("session_domain", url=url)
        assert found.status == "ok"
        assert found.message.startswith("Registration cookies are shared with all of ")


def test_a_session_domain_above_the_host_is_right(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MARKETPLACE_SESSION_DOMAIN", "shop.example")
    found = first("session_domain", url="https://www.shop.example")

    assert found.status == "ok"
    assert found.message.endswith("not so if it is a public suffix, such as co.uk.")


@pytest.mark.parametrize("domain", ["com", ".com", "com.", "localhost", "."])
@pytest.mark.parametrize("url", ["https://shop.com", "https://localhost", None])
def test_a_session_domain_without_a_dot_inside_is_a_problem(
    environment: pytest.MonkeyPatch, domain: str, url: str | None
) -> None:
    environment.setenv("MARKETPLACE_SESSION_DOMAIN", domain)
    found = first("session_domain", url=url)

    assert found.status == "problem"
    assert "has no dot inside, and browsers share no cookie among all hosts of a top-level domain" in found.message


SIGNUPS: dict[str, tuple[dict[str, str], str | None, str, str]] = {
    "path": ({"SIGNUP_URL": "/join"}, HOST, "ok", "Buyers go on to /join of the same host."),
    "same-host": ({"SIGNUP_URL": f"{HOST}:8443/join"}, HOST, "ok", "go on to shop.example, and so do"),
    "same-host-in-capitals": ({"SIGNUP_URL": "https://SHOP.example/join"}, HOST, "ok", "and so do"),
    "another-host": (
        {"SIGNUP_URL": "https://app.shop.example/join"},
        HOST,
        "problem",
        "signup_url is on app.shop.example, and registration cookies stay with shop.example: buyers arrive without",
    ),
    "host-of-nobody": ({"SIGNUP_URL": "https://:443/join"}, HOST, "problem", "stay with shop.example"),
    "landing-not-known": ({"SIGNUP_URL": "https://app.shop.example"}, None, "skipped", "With --url it can be told"),
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


def test_without_support_the_remark_is_no_warning(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("MARKETPLACE_SUPPORT_URL")
    found = first("support_url")

    assert found == Finding("support_url", Status.OK, "support_url is not set: error pages tell buyers nobody to ask.")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:hunter2@help.example/aws?key=hunter2#hunter2", "https://help.example/aws"),
        ("mailto:me@shop.example?subject=AWS", "mailto:me@shop.example?subject=AWS"),
    ],
)
def test_support_is_shown_without_a_secret(environment: pytest.MonkeyPatch, url: str, shown: str) -> None:
    environment.setenv("MARKETPLACE_SUPPORT_URL", url)

    assert first("support_url").message == f"Buyers who get stuck are sent to {shown}."
