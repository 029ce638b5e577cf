import base64
import random
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from starlette_marketplace.doctor import Finding, examine
from tests.doctor.world import RIGHT, SECRET_KEY, Plant, Run, assert_found

FAULTS = {
    "placeholder": Plant(
        "secret_key",
        "problem",
        "secret_key can be guessed: it has the words of a placeholder.",
        "Make a random one with python -c",
        {"MARKETPLACE_SECRET_KEY": "please-CHANGE-ME-3f7a9c1e5b8d2064"},
    ),
    "like-the-key-of-the-demo": Plant(
        "secret_key",
        "problem",
        "it has the words of a placeholder",
        "Make a random one",
        {"MARKETPLACE_SECRET_KEY": "demo-only-marketplace-secret-never-use-it-anywhere"},
    ),
    "two-characters": Plant(
        "secret_key",
        "problem",
        "it has only 2 different characters",
        "Make a random one",
        {"MARKETPLACE_SECRET_KEY": "kl" * 20},
    ),
    "repeated": Plant(
        "secret_key",
        "problem",
        "it repeats itself",
        "Make a random one",
        {"MARKETPLACE_SECRET_KEY": "q7T-vB2xZm" * 4},
    ),
    "sequence": Plant(
        "secret_key",
        "problem",
        "its characters follow one another",
        "Make a random one",
        {"MARKETPLACE_SECRET_KEY": "abcdefghijklmnopqrstuvwxyz0123456789"},
    ),
    "weak-old-key": Plant(
        "secret_key",
        "problem",
        "secret_key_fallbacks, number 2 can be guessed",
        "do not keep the old one",
        {"MARKETPLACE_SECRET_KEY_FALLBACKS": f"{SECRET_KEY[::-1]},{'pq' * 16}"},
    ),
    "key-not-changed": Plant(
        "secret_key",
        "warning",
        "The same key is more than once",
        "Put the new key into secret_key",
        {"MARKETPLACE_SECRET_KEY_FALLBACKS": SECRET_KEY},
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found_and_explained(
    doctor: Callable[..., Run], environment: pytest.MonkeyPatch, tmp_path: Path, fault: Plant
) -> None:
    assert_found(fault, doctor, environment, tmp_path)


def strength_of(key: str) -> Finding:
    environ = {**RIGHT, "MARKETPLACE_SECRET_KEY": key}
    return next(finding for finding in examine(environ) if finding.check == "secret_key")


def test_random_keys_are_never_taken_for_weak_ones() -> None:
    source = random.Random(20261123)
    for _ in range(300):
        one, other = (uuid.UUID(bytes=source.randbytes(16), version=4) for _ in range(2))
        random_key = base64.urlsafe_b64encode(source.randbytes(32)).decode().rstrip("=")
        for key in (
            random_key,
            source.randbytes(16).hex(),
            source.randbytes(32).hex(),
            base64.b64encode(source.randbytes(24)).decode(),
            f"{one}-{other}",
            one.hex,
            f"shop-test-{random_key}",
            f"prod_secret_{random_key}",
            f"{random_key}.example",
        ):
            found = strength_of(key)
            assert found.message == f"secret_key has {len(key)} characters, and nothing speaks against it.", key


@pytest.mark.parametrize(
    ("key", "weakness"),
    [
        ("abcdefgh" * 3 + "abcXefgh", "it repeats itself"),
        ("q7T-vB2xZm" * 3 + "q7T-vB", "it repeats itself"),
        ("Zk3vQ8xW1nB6tY0pZk3vQ8xW1nB6tY0q", "it repeats itself"),
        ("correct horse battery staple and so on", "it is made of words"),
        ("Correct-Horse-Battery-Staple-And-So-On", "it is made of words"),
        ("AcmeAnalyticsMarketplaceRegistrationKey", "it is made of words"),
        ("acme_analytics_marketplace_signing_key_2026", "it is made of words"),
        ("acme2026analytics2026marketplacesigning", "it is made of words"),
        ("correct_horse.battery, staple and so on", "it is made of words"),
        ("Zk3vQ8xW1nB6tY0pL5sD-secret-9fG2hJ7aR4uM", "it has the words of a placeholder"),
        ("staging-of-the-shop-test-" + "abcdefgh" * 4, "it repeats itself"),
        ("change-me-" + "k" * 32, "it has only 2 different characters"),
    ],
)
def test_a_key_that_only_looks_random_is_weak(key: str, weakness: str) -> None:
    found = strength_of(key)

    assert found.status == "problem"
    assert found.message.startswith(f"secret_key can be guessed: {weakness}.")


@pytest.mark.parametrize(
    "key",
    [
        "qmzfaplkwjvtbnxcrdgheuyosiqmxwzplfkv",
        "acme/analytics/marketplace/signing/key",
        "lkwjvt_acme_analytics_marketplace_sgnng",
        "acme7analytics3marketplace9signing4key",
        "Zo-Pa-Ke-Ri-Tu-Mo-La-Fe-Xi-Du-Ba-Nu-Ya",
    ],
)
def test_what_random_characters_may_look_like_is_not_taken_for_words(key: str) -> None:
    assert strength_of(key).status == "ok"
