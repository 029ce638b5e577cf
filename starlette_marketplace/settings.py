"""`MarketplaceSettings`: everything that can be set, with its default, its unit and its limits."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .errors import Mistake, SettingsError

if TYPE_CHECKING:
    from .customer import MarketplaceCustomer

_MIN_KEY_LENGTH = 32
_NEW_KEY = 'Make one with python -c "import secrets; print(secrets.token_urlsafe(32))".'
# Keys that anybody can read: of our own demo and pytest plugin, and of FastAPI's tutorial.
_PUBLISHED_KEYS = frozenset(
    {
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "demo-only-marketplace-secret-never-use-it-elsewhere",
        "not a secret: only tests sign by it",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketplaceSettings:
    """How this host takes part in AWS Marketplace.

    Collections also take a comma-separated string, so that settings libraries can fill them from the environment.

    Attributes:
        secret_key: Signs the registration session; at least 32 random characters.
        secret_key_fallbacks: Older keys, of the same length, that still verify.
        product_codes: The product codes that we accept; `*` accepts all, on purpose.
        legacy_product_codes: The products, listed before June 2026, for which a customer identifier without a license
            is enough; `*` is every product, `none` or nothing is none. For all others, an answer without a license
            counts as unfinished, so that no customer's key changes when the license appears.
        registration_path: Where the middleware answers, below the app's root path. The mounted form has its own.
        signup_url: Where buyers go next: a path below the app's root path, or an absolute URL.
        product_name: The product's name, on the pages that buyers may see.
        logo_url: Its logo, on the same pages: a path below the app's root path, or an absolute URL. Needs
            `product_name`, for those who do not see it. In dark mode it stands on white.
        support_url: Where buyers get help, shown on the pages that they may see: http, https or mailto.
        region_name: AWS region of the metering service. None asks the AWS configuration, then takes us-east-1.
        endpoint_url: Another address of the metering service, such as a local marketplace.
        entitlement_endpoint_url: Another address of the entitlement service.
        agreement_endpoint_url: Another address of the agreement service.
        profile_name: A profile of the AWS configuration files.
        role_arn: A role in the seller account to call AWS with, refreshed by itself.
        role_external_id: The external id that the role asks for.
        seller_account_id: The AWS account that published the product; `starlette-marketplace doctor` compares it with
            the account that the calls are made from.
        connect_timeout: Seconds for a connection to AWS.
        read_timeout: Seconds between two reads from AWS.
        max_attempts: Calls to AWS for one resolution, or for one page of entitlements, the first one included.
        deadline: Seconds that a caller waits at most; the call goes on and its outcome is kept.
        max_concurrency: Threads that call AWS for registrations, and as many that read entitlements and agreements.
        max_waiting: Calls of either kind that wait for a thread; one more is refused, a registration with 503.
        cache_ttl: Seconds that a resolution is kept, by each worker and by what `cache_url` names; 0 turns it off.
        cache_size: Resolutions that are kept at most; as many entitlements, and as many agreements.
        cache_url: Redis or Valkey, to share resolutions between workers: redis://, rediss:// or unix://, as redis-py
            reads it. Needs the extra `redis`.
        session_cookie: Name of the registration session's cookies, between their prefix and the registration's id.
        session_max_age: Seconds that a buyer has to finish signing up.
        https_only: Send the cookies over HTTPS only, with the prefix that makes browsers see to it.
        session_domain: A domain to share the cookies with its subdomains. None, the safer one: this host only.
        max_body_size: Bytes of the registration POST; AWS's reference handler takes 16,384.

    Raises:
        SettingsError: Settings are missing or invalid; names all of them, and says how to fix each.
    """

    # Required, like product_codes. The defaults make our own sentence the error, and not that of a settings library,
    # which may quote the other settings with the key among them.
    secret_key: str = field(default="", repr=False)
    secret_key_fallbacks: tuple[str, ...] | str = field(default=(), repr=False)
    product_codes: tuple[str, ...] | str = ()
    legacy_product_codes: tuple[str, ...] | str = "*"
    registration_path: str = "/marketplace/register"
    signup_url: str = "/signup"
    product_name: str | None = None
    logo_url: str | None = None
    support_url: str | None = None
    region_name: str | None = None
    endpoint_url: str | None = None
    entitlement_endpoint_url: str | None = None
    agreement_endpoint_url: str | None = None
    profile_name: str | None = None
    role_arn: str | None = None
    role_external_id: str | None = None
    seller_account_id: str | None = None
    connect_timeout: float = 2.0
    read_timeout: float = 5.0
    max_attempts: int = 3
    deadline: float = 12.0
    max_concurrency: int = 16
    max_waiting: int = 256
    cache_ttl: float = 300.0
    cache_size: int = 10_000
    cache_url: str | None = field(default=None, repr=False)
    session_cookie: str = "marketplace"
    session_max_age: int = 3600
    https_only: bool = True
    session_domain: str | None = None
    max_body_size: int = 16_384

    def __post_init__(self) -> None:
        mistakes = list(self._mistakes())
        if mistakes:
            raise SettingsError.of(mistakes)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, prefix: str = "MARKETPLACE_", **arguments: object
    ) -> MarketplaceSettings:
        """Settings from environment variables: the prefix and the setting's name in upper case.

        Args:
            environ: The variables, `os.environ` when None. An empty one counts as not set.
            prefix: What their names begin with.
            **arguments: Settings by name, which win over the environment.

        Raises:
            SettingsError: Settings are missing or invalid; names the variables.
        """
        environ = os.environ if environ is None else environ
        variables = {each.name: prefix + each.name.upper() for each in fields(cls) if each.name not in arguments}
        values: dict[str, Any] = {}
        mistakes: list[Mistake] = []
        for setting in fields(cls):
            text = environ.get(variables.get(setting.name, ""))
            if text:
                parse = _PARSERS.get(str(setting.type), str)
                try:
                    values[setting.name] = parse(text)
                except ValueError:
                    kind = "true or false" if parse is _parse_bool else "a whole number" if parse is int else "a number"
                    mistakes.append(Mistake(setting.name, f"{variables[setting.name]} must be {kind}."))
        mistakes += _repeated_keys(values | arguments, variables)
        try:
            settings = cls(**values | arguments)
        except SettingsError as exc:
            known = {mistake.setting for mistake in mistakes}
            mistakes += [mistake.renamed(variables) for mistake in exc.mistakes if mistake.setting not in known]
        if mistakes:
            raise SettingsError.of(mistakes)
        return settings

    def _mistakes(self) -> Iterator[Mistake]:
        """What is wrong with each setting, the first of its rules that does not hold, once values have their form."""
        for setting in fields(self):
            name, value = setting.name, getattr(self, setting.name)
            is_of_kind, kind = _KINDS[str(setting.type)]
            if not is_of_kind(value):
                yield Mistake(name, f"{name} must be {kind}.")
                continue
            if name in _FORMS:
                value = _FORMS[name](value)
                object.__setattr__(self, name, value)
            for rule in _RULES.get(name, ()):
                if value is not None and not rule.holds(value, self):
                    yield Mistake(name, f"{name} {rule.says}.", rule.advice)
                    break


def accepts_product(settings: MarketplaceSettings, product_code: str) -> bool:
    """Whether `product_codes` lists `product_code`, or accepts all."""
    return "*" in settings.product_codes or product_code in settings.product_codes


def is_identified(settings: MarketplaceSettings, customer: MarketplaceCustomer) -> bool:
    """Whether the customer has a license, or is of a product for which `legacy_product_codes` asks for none."""
    legacy = settings.legacy_product_codes
    return customer.license_arn is not None or "*" in legacy or customer.product_code in legacy


def _is_strings(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, tuple | list) and all(isinstance(part, str) for part in value))


_KINDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "bool": (lambda value: isinstance(value, bool), "True or False"),
    "int": (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number"),
    "float": (lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number"),
    "str": (lambda value: isinstance(value, str), "a string"),
    "str | None": (lambda value: isinstance(value, str | None), "a string or None"),
    "tuple[str, ...] | str": (_is_strings, "a list of strings, or one string with commas"),
}


def _parse_bool(text: str) -> bool:
    values = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    try:
        return values[text.strip().lower()]
    except KeyError:
        raise ValueError(text) from None


_PARSERS: dict[str, Callable[[str], object]] = {"bool": _parse_bool, "int": int, "float": float}


def _repeated_keys(values: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[Mistake]:
    # Only of the environment: test suites write such keys in code.
    for name in ("secret_key", "secret_key_fallbacks"):
        text = str(values.get(name, ""))
        keys = [text] if name == "secret_key" else text.split(",")
        if name in variables and values.get("https_only", True) and any(len(set(key.strip())) == 1 for key in keys):
            yield Mistake(name, f"{variables[name]} must not be one repeated character.", _NEW_KEY)


def _is_product_code(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9/=:_.@-]+|\*", text))


def _is_path(text: str) -> bool:
    # '//host' and '/\host' are other hosts to a browser.
    return bool(re.fullmatch(r"/(?![/\\])[^\s\\]*", text))


def _is_url(text: str, *schemes: str) -> bool:
    if not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.netloc or (parts.scheme == "mailto" and parts.path))


def _is_image_url(text: str) -> bool:
    # Its host goes into the Content-Security-Policy of the pages, where ';' and ',' end a directive.
    return _is_url(text, "http", "https") and not set(urlsplit(text).netloc) & set(";,@'\"")


def _split(value: tuple[str, ...] | str) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) and value else value or ()
    return tuple(part.strip() for part in parts)


def _split_legacy(value: tuple[str, ...] | str) -> tuple[str, ...]:
    # In the environment, nothing would count as not set.
    codes = _split(value)
    return () if codes == ("none",) else codes


# What a value is turned into before its rules are looked at.
_FORMS: dict[str, Callable[[Any], object]] = {
    "secret_key_fallbacks": _split,
    "product_codes": _split,
    "legacy_product_codes": _split_legacy,
    "registration_path": lambda path: path.removesuffix("/"),
}


@dataclass(frozen=True, slots=True)
class _Rule:
    """What must hold for the value of a setting, unless that is None.

    Attributes:
        holds: Whether it does, given the value and all settings.
        says: What is wrong if it does not, after the name of the setting.
        advice: What to do.
    """

    holds: Callable[[Any, MarketplaceSettings], bool]
    says: str
    advice: str = ""


def _matches(pattern: str, says: str) -> _Rule:
    return _Rule(lambda value, _: bool(re.fullmatch(pattern, value)), says)


def _at_least(least: float) -> tuple[_Rule, ...]:
    return (_Rule(lambda value, _: least <= value < math.inf, f"must be a number of at least {least}"),)


_LIST_CODES = "List the product codes that you sell, separated by commas, or set * to accept every product."

_HTTP_URL = (_Rule(lambda url, _: _is_url(url, "http", "https"), "must be an http or https URL"),)

_RULES: dict[str, tuple[_Rule, ...]] = {
    "secret_key": (
        _Rule(lambda key, _: bool(key), "is missing", _NEW_KEY),
        _Rule(lambda key, _: len(key) >= _MIN_KEY_LENGTH, "must be at least 32 characters", _NEW_KEY),
        _Rule(
            lambda key, settings: not (settings.https_only and key in _PUBLISHED_KEYS),
            "must not be a key that is published in examples",
            _NEW_KEY,
        ),
    ),
    "secret_key_fallbacks": (
        _Rule(
            lambda keys, _: all(len(key) >= _MIN_KEY_LENGTH for key in keys),
            "must be at least 32 characters each",
            "Remove the key that is shorter.",
        ),
        _Rule(
            lambda keys, settings: not (settings.https_only and _PUBLISHED_KEYS.intersection(keys)),
            "must not be keys that are published in examples",
            "Remove them.",
        ),
    ),
    "product_codes": (
        _Rule(lambda codes, _: bool(codes), "is missing", _LIST_CODES),
        _Rule(
            lambda codes, _: all(map(_is_product_code, codes)),
            "must be product codes, separated by commas, or *",
            _LIST_CODES,
        ),
    ),
    "legacy_product_codes": (
        _Rule(
            lambda codes, _: all(map(_is_product_code, codes)) and "none" not in codes,
            "must be product codes, separated by commas, or * for every product, or none",
        ),
    ),
    "registration_path": (_matches("(/[^/?#\\s]+)+", "must be a path such as /marketplace/register"),),
    "signup_url": (
        _Rule(
            lambda url, _: _is_path(url) or _is_url(url, "http", "https"),
            "must be a path such as /signup, or an absolute http or https URL",
        ),
    ),
    "product_name": (_Rule(lambda name, _: name.isprintable() and bool(name.strip()), "must be one line of text"),),
    "logo_url": (
        _Rule(
            lambda url, _: _is_path(url) or _is_image_url(url),
            "must be a path such as /static/logo.svg, or an absolute http or https URL",
        ),
        _Rule(
            lambda _, settings: settings.product_name is not None,
            "needs product_name",
            "Set product_name, for those who do not see the logo.",
        ),
    ),
    "support_url": (
        _Rule(lambda url, _: _is_url(url, "http", "https", "mailto"), "must be an http, https or mailto URL"),
    ),
    "endpoint_url": _HTTP_URL,
    "entitlement_endpoint_url": _HTTP_URL,
    "agreement_endpoint_url": _HTTP_URL,
    "region_name": (_matches("[!-~]*", "must be the name of a region, such as us-east-1, without white space"),),
    "role_arn": (
        _matches("arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]+", "must look like arn:aws:iam::123456789012:role/name"),
    ),
    "role_external_id": (
        _Rule(
            lambda _, settings: settings.role_arn is not None,
            "needs role_arn",
            "Set role_arn to the role that asks for the external id.",
        ),
        _matches("[!-~]+", "must be the external id in the role's trust policy, without white space"),
    ),
    "seller_account_id": (
        _matches("[0-9]{12}", "must be the 12 digits of an AWS account id, in quotes: the first may be 0"),
    ),
    "cache_url": (_matches(r"(rediss?|unix)://\S+", "must be a redis://, rediss:// or unix:// URL"),),
    "connect_timeout": _at_least(0.001),
    "read_timeout": _at_least(0.001),
    "max_attempts": _at_least(1),
    "deadline": _at_least(0.001),
    "max_concurrency": _at_least(1),
    "max_waiting": _at_least(0),
    "cache_ttl": _at_least(0),
    "cache_size": _at_least(1),
    "session_cookie": (
        _matches("[A-Za-z0-9_-]{1,64}", "must be 1 to 64 letters, digits, '-' and '_'; the prefix is added"),
    ),
    "session_max_age": _at_least(1),
    "session_domain": (_matches("[A-Za-z0-9.-]+", "must be a domain such as example.com"),),
    "max_body_size": _at_least(1),
}
