import os
import traceback
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from starlette_marketplace import MarketplaceCustomer, MarketplaceSettings, SettingsError
from starlette_marketplace.settings import is_identified

KEY = "k3y-0123456789abcdef0123456789ab"
OLD_KEY = "0ld-0123456789abcdef0123456789ab"
ROLE = "arn:aws:iam::123456789012:role/resolver"
ENVIRONMENT = {"MARKETPLACE_SECRET_KEY": KEY, "MARKETPLACE_PRODUCT_CODES": "acme"}


def make(**changes: Any) -> MarketplaceSettings:
    return MarketplaceSettings(**({"secret_key": KEY, "product_codes": "acme"} | changes))


def test_a_secret_key_and_product_codes_are_enough() -> None:
    settings = make()

    assert settings.product_codes == ("acme",)
    assert settings.secret_key_fallbacks == ()
    assert settings.registration_path == "/marketplace/register"
    assert settings.signup_url == "/signup"
    assert settings.https_only is True


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("secret_key", "", "secret_key is missing."),
        ("secret_key", KEY[1:], "secret_key must be at least 32 characters."),
        ("secret_key_fallbacks", (OLD_KEY, ""), "secret_key_fallbacks must be at least 32 characters each"),
        ("secret_key_fallbacks", f"{OLD_KEY},{KEY[1:]}", "secret_key_fallbacks must be at least 32 characters each"),
        ("secret_key", None, "secret_key must be a string"),
        ("secret_key", KEY.encode(), "secret_key must be a string"),
        ("product_codes", None, "product_codes must be a list of strings"),
        ("product_codes", (1,), "product_codes must be a list of strings"),
        ("support_url", 1, "support_url must be a string or None"),
        ("https_only", "false", "https_only must be True or False"),
        ("max_attempts", "3", "max_attempts must be a whole number"),
        ("max_attempts", 2.5, "max_attempts must be a whole number"),
        ("max_attempts", True, "max_attempts must be a whole number"),
        ("deadline", "12", "deadline must be a number"),
        ("product_codes", (), "product_codes is missing. List the product codes"),
        ("product_codes", "", "product_codes is missing"),
        ("product_codes", ("acme", ""), "product_codes must be product codes"),
        ("product_codes", "acme,,legacy", "product_codes must be product codes"),
        ("product_codes", "acme legacy", "product_codes must be product codes"),
        ("product_codes", "acme*", "product_codes must be product codes"),
        ("registration_path", "", "registration_path must be a path such as /marketplace/register"),
        ("registration_path", "/", "registration_path must be a path"),
        ("registration_path", "register", "registration_path must be a path"),
        ("registration_path", "//register", "registration_path must be a path"),
        ("registration_path", "/register//", "registration_path must be a path"),
        ("registration_path", "/register?a=b", "registration_path must be a path"),
        ("registration_path", "/register#top", "registration_path must be a path"),
        ("registration_path", "/regi ster", "registration_path must be a path"),
        ("registration_path", "https://seller.example/register", "registration_path must be a path"),
        ("signup_url", "", "signup_url must be a path such as /signup, or an absolute http or https URL"),
        ("signup_url", "signup", "signup_url must be a path"),
        ("signup_url", "//evil.example", "signup_url must be a path"),
        ("signup_url", "/\\evil.example", "signup_url must be a path"),
        ("signup_url", "/sign up", "signup_url must be a path"),
        ("signup_url", "/signup\r\nSet-Cookie: a=b", "signup_url must be a path"),
        ("signup_url", "https://seller.example/\n", "signup_url must be a path"),
        ("signup_url", "https:signup", "signup_url must be a path"),
        ("signup_url", "javascript:alert(1)", "signup_url must be a path"),
        ("signup_url", "https://[::1", "signup_url must be a path"),
        ("product_name", "", "product_name must be one line of text"),
        ("product_name", "Acme\nAnalytics", "product_name must be one line"),
        ("logo_url", "/logo.svg", "logo_url needs product_name. Set product_name"),
        ("logo_url", "logo.svg", "logo_url must be a path such as /static/logo.svg, or an absolute http or https URL"),
        ("logo_url", "//cdn.example/logo.svg", "logo_url must be a path"),
        ("logo_url", "data:image/png;base64,AAAA", "logo_url must be a path"),
        ("logo_url", "https://cdn.example;script-src *", "logo_url must be a path"),
        ("logo_url", "https://cdn.example;script-src/logo.svg", "logo_url must be a path"),
        ("logo_url", "https://user@cdn.example/logo.svg", "logo_url must be a path"),
        ("support_url", "/support", "support_url must be an http, https or mailto URL"),
        ("support_url", "mailto:", "support_url must be"),
        ("support_url", "javascript:alert(1)", "support_url must be"),
        ("support_url", "https://seller.example/a b", "support_url must be"),
        ("endpoint_url", "127.0.0.1:8000", "endpoint_url must be an http or https URL"),
        ("endpoint_url", "mailto:help@seller.example", "endpoint_url must be"),
        ("cache_url", "localhost:6379", "cache_url must be a redis://, rediss:// or unix:// URL"),
        ("cache_url", "redis://", "cache_url must be a redis://"),
        ("cache_url", "memcached://localhost", "cache_url must be a redis://"),
        ("cache_url", "redis://cache example", "cache_url must be a redis://"),
        ("role_arn", "resolver", "role_arn must look like arn:aws:iam::123456789012:role/name"),
        ("role_arn", "arn:aws:iam::12345:role/resolver", "role_arn must look like"),
        ("role_arn", "arn:aws:iam::123456789012:user/resolver", "role_arn must look like"),
        ("role_arn", "arn:aws:iam::123456789012:role/", "role_arn must look like"),
        *[
            ("role_arn", text, "role_arn must look like")
            for text in (f"{ROLE} ", f" {ROLE}", f"{ROLE}\n", ROLE.replace("resolver", "re solver"), f"{ROLE}\u200b")
        ],
        ("role_external_id", "shared", "role_external_id needs role_arn"),
        *[
            ("region_name", text, "region_name must be the name of a region")
            for text in (
                "us east 1",
                " us-east-1",
                "us-east-1 ",
                "us-east-1\n",
                "us-\teast-1",
                "us-east-1\xa0",
                "us-\x00",
            )
        ],
        ("legacy_product_codes", None, "legacy_product_codes must be a list of strings"),
        ("legacy_product_codes", ("acme", ""), "legacy_product_codes must be product codes"),
        ("legacy_product_codes", "acme legacy", "legacy_product_codes must be product codes"),
        ("legacy_product_codes", "acme,none", "legacy_product_codes must be product codes"),
        ("seller_account_id", 123456789012, "seller_account_id must be a string or None"),
        ("seller_account_id", "12345678901", "seller_account_id must be the 12 digits of an AWS account id, in quotes"),
        ("seller_account_id", "1234-5678-9012", "seller_account_id must be the 12 digits"),
        ("seller_account_id", "١٢٣٤٥٦٧٨٩٠١٢", "seller_account_id must be the 12 digits"),
        ("seller_account_id", "", "seller_account_id must be the 12 digits"),
        ("connect_timeout", 0, "connect_timeout must be a number of at least 0.001"),
        ("connect_timeout", float("nan"), "connect_timeout must be a number"),
        ("read_timeout", 0, "read_timeout must be a number of at least 0.001"),
        ("read_timeout", float("inf"), "read_timeout must be a number"),
        ("max_attempts", 0, "max_attempts must be a number of at least 1"),
        ("deadline", 0, "deadline must be a number of at least 0.001"),
        ("max_concurrency", 0, "max_concurrency must be a number of at least 1"),
        ("max_waiting", -1, "max_waiting must be a number of at least 0"),
        ("cache_ttl", -1, "cache_ttl must be a number of at least 0"),
        ("cache_size", 0, "cache_size must be a number of at least 1"),
        ("session_max_age", 0, "session_max_age must be a number of at least 1"),
        ("max_body_size", 0, "max_body_size must be a number of at least 1"),
        ("session_cookie", "", "session_cookie must be 1 to 64 letters"),
        ("session_cookie", "a" * 65, "session_cookie must be"),
        ("session_cookie", "a=b", "session_cookie must be"),
        ("session_domain", "", "session_domain must be a domain such as example.com"),
        ("session_domain", "example.com; Secure", "session_domain must be a domain"),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_sentence_about_it(name: str, value: object, sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make(**{name: value})

    text = "".join(traceback.format_exception(caught.value))
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)
    assert KEY[1:] not in text
    assert OLD_KEY not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("product_codes", "*"),
        ("product_codes", ("a1/=:_.@-",)),
        ("signup_url", "/"),
        ("signup_url", "/signup?from=aws#form"),
        ("signup_url", "https://seller.example/signup"),
        ("signup_url", "http://127.0.0.1:8000"),
        ("support_url", "mailto:help@seller.example"),
        ("support_url", "https://seller.example/support"),
        ("endpoint_url", "http://localhost:8000"),
        ("cache_url", "rediss://user:password@cache.seller.example:6380/1?ssl_cert_reqs=required"),
        ("cache_url", "unix:///run/redis.sock"),
        ("role_arn", ROLE),
        ("role_arn", "arn:aws-cn:iam::123456789012:role/path/resolver"),
        ("seller_account_id", "012345678901"),
        ("connect_timeout", 0.001),
        ("read_timeout", 1),
        ("max_attempts", 1),
        ("max_waiting", 0),
        ("cache_ttl", 0),
        ("session_cookie", "a" * 64),
        ("session_domain", "seller.example"),
    ],
)
def test_a_setting_that_makes_sense_is_kept(name: str, value: object) -> None:
    kept = getattr(make(**{name: value}), name)

    assert kept == ((value,) if name == "product_codes" and isinstance(value, str) else value)


def test_a_slash_at_the_end_of_the_registration_path_makes_no_difference() -> None:
    assert make(registration_path="/aws/") == make(registration_path="/aws")


def test_collections_take_text_with_commas_or_any_collection_of_texts() -> None:
    one = make(secret_key_fallbacks=f"{OLD_KEY} , {KEY}", product_codes=" acme,legacy ")
    other = make(secret_key_fallbacks=[OLD_KEY, KEY], product_codes=["acme", "legacy"])

    assert one == other
    assert one.secret_key_fallbacks == (OLD_KEY, KEY)
    assert one.product_codes == ("acme", "legacy")


def test_an_external_id_goes_with_a_role() -> None:
    assert make(role_arn=ROLE, role_external_id="shared").role_external_id == "shared"


@pytest.mark.parametrize("text", ["", " shared", "shared ", "sha red", "shared\n", "sh\u200bared"])
def test_an_external_id_has_no_white_space(text: str) -> None:
    with pytest.raises(SettingsError, match="role_external_id must be the external id in the role's trust policy"):
        make(role_arn=ROLE, role_external_id=text)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("*", ("*",)),
        ("none", ()),
        (" none ", ()),
        ("", ()),
        ((), ()),
        ("acme, old", ("acme", "old")),
        (["old"], ("old",)),
    ],
)
def test_legacy_products_are_all_some_or_none(value: object, kept: tuple[str, ...]) -> None:
    assert make().legacy_product_codes == ("*",)
    settings = make(legacy_product_codes=value)
    assert settings.legacy_product_codes == kept

    def is_enough(product_code: str, **identity: str) -> bool:
        customer = MarketplaceCustomer(aws_account_id="123456789012", product_code=product_code, **identity)
        return is_identified(settings, customer)

    assert is_enough("acme", customer_identifier="c-1") == bool({"*", "acme"} & set(kept))
    assert is_enough("acme", customer_identifier="c-1", license_arn="arn:aws:license-manager::1:license:l-1")


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        make(secret_key="short", product_codes="a b", deadline="soon", https_only=None)

    assert str(caught.value) == (
        "4 settings are wrong:\n"
        'secret_key must be at least 32 characters. Make one with python -c "import secrets; '
        'print(secrets.token_urlsafe(32))".\n'
        "product_codes must be product codes, separated by commas, or *. List the product codes that you sell, "
        "separated by commas, or set * to accept every product.\n"
        "deadline must be a number.\n"
        "https_only must be True or False."
    )
    assert [mistake.setting for mistake in caught.value.mistakes] == [
        "secret_key",
        "product_codes",
        "deadline",
        "https_only",
    ]


def test_a_secret_key_may_have_commas_in_it() -> None:
    key = "k,9fJ2!vQx7Lm4Zt0Rb8Wc3Yd6Hg1Ns5Pe"
    environ = {"MARKETPLACE_SECRET_KEY": key, "MARKETPLACE_PRODUCT_CODES": "acme"}

    assert MarketplaceSettings.from_env(environ).secret_key == key


def test_a_setting_has_one_mistake_at_a_time() -> None:
    with pytest.raises(SettingsError) as caught:
        MarketplaceSettings.from_env({"MARKETPLACE_SECRET_KEY": "a", "MARKETPLACE_PRODUCT_CODES": "acme"})

    assert [mistake.setting for mistake in caught.value.mistakes] == ["secret_key"]


def test_a_number_of_any_size_is_checked() -> None:
    with pytest.raises(SettingsError, match="cache_ttl must be a number of at least 0"):
        make(cache_ttl=-(10**400))


def test_all_mistakes_of_the_environment_are_reported_at_once() -> None:
    environ = {"MARKETPLACE_SECRET_KEY": "k" * 32, "MARKETPLACE_DEADLINE": "soon", "MARKETPLACE_REGION_NAME": "a b"}
    with pytest.raises(SettingsError) as caught:
        MarketplaceSettings.from_env(environ, cache_url="localhost")

    assert [mistake.reason for mistake in caught.value.mistakes] == [
        "MARKETPLACE_DEADLINE must be a number.",
        "MARKETPLACE_SECRET_KEY must not be one repeated character.",
        "MARKETPLACE_PRODUCT_CODES is missing.",
        "MARKETPLACE_REGION_NAME must be the name of a region, such as us-east-1, without white space.",
        "cache_url must be a redis://, rediss:// or unix:// URL.",
    ]


@pytest.mark.parametrize(
    "key",
    [
        "demo-only-marketplace-secret-never-use-it-elsewhere",
        "not a secret: only tests sign by it",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    ],
)
def test_a_key_that_is_published_signs_nothing_that_matters(key: str) -> None:
    for changes in ({"secret_key": key}, {"secret_key_fallbacks": (OLD_KEY, key)}):
        with pytest.raises(SettingsError, match="published in examples") as caught:
            make(**changes)
        assert key not in str(caught.value)
        assert make(**changes, https_only=False)


@pytest.mark.parametrize(
    ("name", "text"), [("SECRET_KEY", "k" * 32), ("SECRET_KEY_FALLBACKS", f"{OLD_KEY}, {'0' * 40}")]
)
def test_a_key_of_one_character_does_not_come_from_the_environment(name: str, text: str) -> None:
    environ = ENVIRONMENT | {f"MARKETPLACE_{name}": text}
    with pytest.raises(SettingsError, match=f"^MARKETPLACE_{name} must not be one repeated character"):
        MarketplaceSettings.from_env(environ)

    assert MarketplaceSettings.from_env(environ, https_only=False)
    assert MarketplaceSettings.from_env(environ, **{name.lower(): OLD_KEY})
    assert MarketplaceSettings.from_env(ENVIRONMENT, **{name.lower(): text}), "in code, tests write such keys"


def test_settings_are_given_by_name() -> None:
    values: Any = (KEY, OLD_KEY, "acme")

    with pytest.raises(TypeError, match="positional argument"):
        MarketplaceSettings(*values)


def test_no_key_and_no_password_is_in_the_repr() -> None:
    text = repr(make(secret_key_fallbacks=OLD_KEY, cache_url="redis://:hunter2@cache.seller.example"))

    assert "hunter2" not in text

    assert "acme" in text
    assert KEY not in text
    assert OLD_KEY not in text


def test_settings_do_not_change() -> None:
    settings = make()

    for field in fields(settings):
        with pytest.raises(FrozenInstanceError):
            setattr(settings, field.name, None)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("secret_key", OLD_KEY, OLD_KEY),
        ("secret_key_fallbacks", f"{OLD_KEY},{KEY}", (OLD_KEY, KEY)),
        ("product_codes", "acme, legacy", ("acme", "legacy")),
        ("legacy_product_codes", "acme, old", ("acme", "old")),
        ("legacy_product_codes", "none", ()),
        ("legacy_product_codes", "", ("*",)),
        ("signup_url", "/join", "/join"),
        ("support_url", "mailto:help@seller.example", "mailto:help@seller.example"),
        ("region_name", "eu-west-1", "eu-west-1"),
        ("role_arn", ROLE, ROLE),
        ("seller_account_id", "012345678901", "012345678901"),
        ("max_attempts", "5", 5),
        ("session_max_age", " 60 ", 60),
        ("deadline", "2.5", 2.5),
        ("cache_ttl", "0", 0.0),
        *[("https_only", text, True) for text in ("true", "TRUE", "1", "yes", "on")],
        *[("https_only", text, False) for text in ("false", " False ", "0", "no", "off")],
        ("support_url", "", None),
        ("max_attempts", "", 3),
        ("https_only", "", True),
    ],
)
def test_the_environment_fills_a_setting(name: str, text: str, value: object) -> None:
    settings = MarketplaceSettings.from_env(ENVIRONMENT | {f"MARKETPLACE_{name.upper()}": text})

    assert getattr(settings, name) == value
    assert type(getattr(settings, name)) is type(value)


def test_every_setting_can_come_from_the_environment() -> None:
    settings = make(
        secret_key_fallbacks=OLD_KEY,
        product_name="Acme Analytics",
        logo_url="/logo.svg",
        support_url="https://seller.example",
        region_name="eu-west-1",
        endpoint_url="http://localhost:1",
        entitlement_endpoint_url="http://localhost:2",
        agreement_endpoint_url="http://localhost:3",
        profile_name="seller",
        role_arn=ROLE,
        role_external_id="shared",
        seller_account_id="012345678901",
        cache_url="redis://cache.seller.example/0",
        session_domain="seller.example",
    )
    texts = {field.name: getattr(settings, field.name) for field in fields(settings)}
    environ = {
        f"MARKETPLACE_{name.upper()}": ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in texts.items()
    }

    assert MarketplaceSettings.from_env(environ) == settings
    assert None not in texts.values()


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("max_attempts", "three", "a whole number"),
        ("max_attempts", "2.5", "a whole number"),
        ("deadline", "12s", "a number"),
        ("https_only", "maybe", "true or false"),
    ],
)
def test_a_variable_of_the_wrong_kind_is_named(name: str, text: str, kind: str) -> None:
    variable = f"MARKETPLACE_{name.upper()}"

    with pytest.raises(SettingsError, match=rf"^{variable} must be {kind}\.$"):
        MarketplaceSettings.from_env(ENVIRONMENT | {variable: text})


@pytest.mark.parametrize("missing", ["SECRET_KEY", "PRODUCT_CODES"])
def test_a_missing_variable_is_named_with_its_prefix(missing: str) -> None:
    environ = {name: text for name, text in ENVIRONMENT.items() if not name.endswith(missing)}

    with pytest.raises(SettingsError, match=f"^MARKETPLACE_{missing} is missing") as caught:
        MarketplaceSettings.from_env(environ)

    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_an_environment_may_have_another_prefix() -> None:
    environ = {name.replace("MARKETPLACE_", "SHOP_"): text for name, text in ENVIRONMENT.items()}

    assert MarketplaceSettings.from_env(environ, "SHOP_") == make()
    with pytest.raises(SettingsError, match=r"^SHOP_DEADLINE must be a number"):
        MarketplaceSettings.from_env(environ | {"SHOP_DEADLINE": "soon"}, "SHOP_")
    with pytest.raises(SettingsError, match="SHOP_SECRET_KEY is missing"):
        MarketplaceSettings.from_env({}, "SHOP_")


def test_an_argument_wins_over_the_environment() -> None:
    environ = ENVIRONMENT | {"MARKETPLACE_DEADLINE": "1", "MARKETPLACE_SUPPORT_URL": "https://seller.example"}

    assert MarketplaceSettings.from_env(environ, deadline=2.0, support_url=None) == make(deadline=2.0)


def test_the_environment_is_that_of_the_process_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", ENVIRONMENT)

    assert MarketplaceSettings.from_env() == make()


class HostSettings(BaseSettings):
    model_config = SettingsConfigDict(env_nested_delimiter="__")

    marketplace: MarketplaceSettings


def host_settings() -> HostSettings:
    return HostSettings()  # type: ignore[call-arg]  # The environment has the argument.


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.upper().startswith("MARKETPLACE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MARKETPLACE__SECRET_KEY", KEY)
    monkeypatch.setenv("MARKETPLACE__PRODUCT_CODES", "acme,legacy")
    return monkeypatch


def test_pydantic_settings_fill_them_from_nested_variables(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MARKETPLACE__SECRET_KEY_FALLBACKS", OLD_KEY)
    environment.setenv("MARKETPLACE__SUPPORT_URL", "https://seller.example")
    environment.setenv("MARKETPLACE__DEADLINE", "2.5")
    environment.setenv("MARKETPLACE__MAX_ATTEMPTS", "5")
    environment.setenv("MARKETPLACE__HTTPS_ONLY", "false")
    settings = host_settings()

    assert settings.marketplace == make(
        secret_key_fallbacks=(OLD_KEY,),
        product_codes=("acme", "legacy"),
        support_url="https://seller.example",
        deadline=2.5,
        max_attempts=5,
        https_only=False,
    )
    assert KEY not in repr(settings)
    assert OLD_KEY not in repr(settings)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("SECRET_KEY", "short", "secret_key must be at least 32 characters"),
        ("SECRET_KEY", None, "secret_key is missing"),
        ("PRODUCT_CODES", None, "product_codes is missing"),
        ("SIGNUP_URL", "signup", "signup_url must be a path"),
        ("MAX_ATTEMPTS", "three", "max_attempts"),
        ("HTTPS_ONLY", "maybe", "https_only"),
        ("PRODUCT_CODE", "acme", "product_code"),
        ("SECRET_KEY_FALLBACKS", f'["{OLD_KEY}", 5]', "secret_key_fallbacks"),
    ],
)
def test_an_error_of_pydantic_settings_names_the_setting_and_shows_no_key(
    environment: pytest.MonkeyPatch, name: str, text: str | None, sentence: str
) -> None:
    environment.setenv("MARKETPLACE__SECRET_KEY_FALLBACKS", OLD_KEY)
    if text is None:
        environment.delenv(f"MARKETPLACE__{name}")
    else:
        environment.setenv(f"MARKETPLACE__{name}", text)

    with pytest.raises((SettingsError, ValidationError)) as caught:
        host_settings()

    shown = "".join(traceback.format_exception(caught.value))
    assert sentence in shown
    assert KEY not in shown
    assert OLD_KEY not in shown


def test_a_missing_table_of_settings_is_reported_by_pydantic(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("MARKETPLACE__SECRET_KEY")
    environment.delenv("MARKETPLACE__PRODUCT_CODES")

    with pytest.raises(ValidationError, match="marketplace"):
        host_settings()
