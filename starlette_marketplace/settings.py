"""`MarketplaceSettings`: everything that can be set, with its default, its unit and its limits."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .errors import SettingsError

if TYPE_CHECKING:
    from .customer import MarketplaceCustomer

_MIN_KEY_LENGTH = 32
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
        profile_name: A profile of the AWS configuration files.
        role_arn: A role in the seller account to call AWS with, refreshed by itself.
        role_external_id: The external id that the role asks for.
        seller_account_id: The AWS account that published the product; `starlette-marketplace doctor` compares it with
            the account that the calls are made from.
        connect_timeout: Seconds for a connection to AWS.
        read_timeout: Seconds between two reads from AWS.
        max_attempts: Calls to AWS for one resolution, the first one included.
        deadline: Seconds that a buyer waits at most; the resolution goes on and is kept.
        max_concurrency: Threads that call AWS.
        max_waiting: Resolutions that wait for a thread; one more is refused with 503.
        cache_ttl: Seconds that a resolution is kept, by each worker and by what `cache_url` names; 0 turns it off.
        cache_size: Resolutions that are kept at most.
        cache_url: Redis or Valkey, to share resolutions between workers: redis://, rediss:// or unix://, as redis-py
            reads it. Needs the extra `redis`.
        session_cookie: Name of the registration session's cookies, between their prefix and the registration's id.
        session_max_age: Seconds that a buyer has to finish signing up.
        https_only: Send the cookies over HTTPS only, with the prefix that makes browsers see to it.
        session_domain: A domain to share the cookies with its subdomains. None, the safer one: this host only.
        max_body_size: Bytes of the registration POST; AWS's reference handler takes 16,384.

    Raises:
        SettingsError: A setting is missing or makes no sense; says which one and what to do.
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
    profile_name: str | None = None
    role_arn: str | None = None
    role_external_id: str | None = None
    seller_account_id: str | None = None
    connect_timeout: float = 2.0
    read_timeout: float = 5.0
    max_attempts: int = 3
    deadline: float = 12.0
    max_concurrency: int = 32
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
        for setting in fields(self):
            holds, kind = _KINDS[str(setting.type)]
            self._check(holds(getattr(self, setting.name)), f"{setting.name} must be {kind}")
        self._split("secret_key_fallbacks")
        self._split("product_codes")
        self._split("legacy_product_codes")
        self._check(
            all(len(key) >= _MIN_KEY_LENGTH for key in (self.secret_key, *self.secret_key_fallbacks)),
            "secret_key and secret_key_fallbacks must be at least 32 characters each: "
            'make one with python -c "import secrets; print(secrets.token_urlsafe(32))"',
        )
        self._check(
            not (self.https_only and _PUBLISHED_KEYS & {self.secret_key, *self.secret_key_fallbacks}),
            "secret_key and secret_key_fallbacks must not be keys that are published in examples: "
            'make one with python -c "import secrets; print(secrets.token_urlsafe(32))"',
        )
        self._check(
            bool(self.product_codes) and all(map(_is_product_code, self.product_codes)),
            "product_codes must list the AWS Marketplace product codes that you sell, separated by commas, "
            "or be * to accept every product",
        )
        if self.legacy_product_codes == ("none",):
            # An empty variable counts as not set.
            object.__setattr__(self, "legacy_product_codes", ())
        self._check(
            all(map(_is_product_code, self.legacy_product_codes)) and "none" not in self.legacy_product_codes,
            "legacy_product_codes must list product codes, separated by commas, or be * for every product, or none",
        )
        self._check(
            bool(re.fullmatch("(/[^/?#\\s]+)+/?", self.registration_path)),
            "registration_path must be a path such as /marketplace/register",
        )
        object.__setattr__(self, "registration_path", self.registration_path.removesuffix("/"))
        self._check(
            _is_path(self.signup_url) or _is_url(self.signup_url, "http", "https"),
            "signup_url must be a path such as /signup, or an absolute http or https URL",
        )
        self._check(
            self.product_name is None or (self.product_name.isprintable() and bool(self.product_name.strip())),
            "product_name must be one line of text",
        )
        self._check(
            self.logo_url is None or _is_path(self.logo_url) or _is_image_url(self.logo_url),
            "logo_url must be a path such as /static/logo.svg, or an absolute http or https URL",
        )
        self._check(
            self.logo_url is None or self.product_name is not None,
            "logo_url needs product_name, for those who do not see the logo",
        )
        self._check(
            self.support_url is None or _is_url(self.support_url, "http", "https", "mailto"),
            "support_url must be an http, https or mailto URL",
        )
        self._check(
            self.endpoint_url is None or _is_url(self.endpoint_url, "http", "https"),
            "endpoint_url must be an http or https URL",
        )
        self._check(
            self.region_name is None or bool(re.fullmatch("[!-~]*", self.region_name)),
            "region_name must be the name of a region, such as us-east-1, without white space",
        )
        self._check(
            self.role_arn is None or bool(re.fullmatch("arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]+", self.role_arn)),
            "role_arn must look like arn:aws:iam::123456789012:role/name",
        )
        self._check(
            self.role_external_id is None or self.role_arn is not None,
            "role_external_id needs role_arn, the role that asks for it",
        )
        self._check(
            self.role_external_id is None or bool(re.fullmatch("[!-~]+", self.role_external_id)),
            "role_external_id must be the external id in the role's trust policy, without white space",
        )
        self._check(
            self.seller_account_id is None or bool(re.fullmatch("[0-9]{12}", self.seller_account_id)),
            "seller_account_id must be the 12 digits of an AWS account id, in quotes: the first may be 0",
        )
        self._check(
            self.cache_url is None or bool(re.fullmatch(r"(rediss?|unix)://\S+", self.cache_url)),
            "cache_url must be a redis://, rediss:// or unix:// URL",
        )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            self._check(math.isfinite(value) and value >= least, f"{name} must be a number of at least {least}")
        self._check(
            bool(re.fullmatch("[A-Za-z0-9_-]{1,64}", self.session_cookie)),
            "session_cookie must be 1 to 64 letters, digits, '-' and '_'; the prefix is added",
        )
        self._check(
            self.session_domain is None or bool(re.fullmatch("[A-Za-z0-9.-]+", self.session_domain)),
            "session_domain must be a domain such as example.com",
        )

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
            SettingsError: A setting is missing or makes no sense.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for setting in fields(cls):
            text = environ.get(prefix + setting.name.upper())
            if text and setting.name not in arguments:
                parse = _PARSERS.get(str(setting.type), str)
                try:
                    values[setting.name] = parse(text)
                except ValueError:
                    kind = "true or false" if parse is _parse_bool else "a number"
                    raise SettingsError(f"{prefix}{setting.name.upper()} must be {kind}") from None
        keys = [values.get("secret_key", ""), *values.get("secret_key_fallbacks", "").split(",")]
        try:
            settings = cls(**values | arguments)
            # Only of the environment: test suites write such keys in code.
            settings._check(
                not (settings.https_only and any(len(set(key.strip())) == 1 for key in keys)),
                "secret_key and secret_key_fallbacks must not be one repeated character: "
                'make one with python -c "import secrets; print(secrets.token_urlsafe(32))"',
            )
        except SettingsError as exc:
            raise SettingsError(f"{exc} (in the environment the names begin with {prefix})") from None
        return settings

    def _split(self, name: str) -> None:
        value = getattr(self, name)
        parts = value.split(",") if isinstance(value, str) and value else value or ()
        object.__setattr__(self, name, tuple(part.strip() for part in parts))

    @staticmethod
    def _check(holds: bool, sentence: str) -> None:
        if not holds:
            raise SettingsError(sentence)


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

_LEAST: dict[str, float] = {
    "connect_timeout": 0.001,
    "read_timeout": 0.001,
    "max_attempts": 1,
    "deadline": 0.001,
    "max_concurrency": 1,
    "max_waiting": 0,
    "cache_ttl": 0,
    "cache_size": 1,
    "session_max_age": 1,
    "max_body_size": 1,
}


def _parse_bool(text: str) -> bool:
    values = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    try:
        return values[text.strip().lower()]
    except KeyError:
        raise ValueError(text) from None


_PARSERS: dict[str, Callable[[str], object]] = {"bool": _parse_bool, "int": int, "float": float}


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
