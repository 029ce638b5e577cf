"""The keys that sign registrations: whether they look random."""

from __future__ import annotations

import itertools
import re

from ..settings import MarketplaceSettings
from .findings import Finding, ok, problem, warning

# Nothing shorter: in a random key of 43 characters, four given letters turn up once in some ten thousand keys.
_PLACEHOLDERS = re.compile(
    "change.?me|secret|example|password|passwort|placeholder|replace|insecure|default|sample|your[-_ ]|"
    "never[-_ ]use|demo[-_ ]|test[-_ ]|dummy[-_ ]|qwerty|letmein|foobar",
    re.IGNORECASE,
)
_PARTS = re.compile("[A-Z]?[a-z]+|[A-Z]|[0-9]+")
_VOWEL = re.compile("[aeiouy]", re.IGNORECASE)
_MIN_WORD = 4
_MIN_LENGTH = 32
_MIN_VARIETY = 8
_NEW_KEY = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'


def check_secret_key(settings: MarketplaceSettings) -> Finding:
    """Whether `secret_key` and the older ones can be guessed."""
    check = "secret_key"
    keys = {"secret_key": settings.secret_key}
    keys |= {f"secret_key_fallbacks, number {n}": key for n, key in enumerate(settings.secret_key_fallbacks, 1)}
    for name, key in keys.items():
        weakness = _weakness(key)
        if weakness:
            return problem(
                check,
                f"{name} can be guessed: {weakness}. Who guesses it can forge a registration of any AWS account.",
                f"Make a random one with {_NEW_KEY}, and do not keep the old one in secret_key_fallbacks.",
            )
    if len(set(keys.values())) < len(keys):
        return warning(
            check,
            "The same key is more than once in secret_key and secret_key_fallbacks.",
            "Put the new key into secret_key and the one before it into secret_key_fallbacks, or leave the latter out.",
        )
    return ok(check, f"secret_key has {len(settings.secret_key)} characters, and nothing speaks against it.")


def _weakness(key: str) -> str | None:
    """Why a key is not random, as far as it shows; never a part of it."""
    # Something random with a word before it, such as the name of an environment, is as good as without.
    rest = max(_PLACEHOLDERS.split(key), key=len)
    steps = [abs(ord(one) - ord(other)) for one, other in itertools.pairwise(rest)]
    if len(rest) < _MIN_LENGTH:
        return "it has the words of a placeholder"
    if len(set(rest)) < _MIN_VARIETY:
        return f"it has only {len(set(rest))} different characters"
    if _repeats_itself(rest):
        return "it repeats itself"
    # Of half the steps, one random key in fifty thousand is made: 32 hexadecimal digits have few characters.
    if sum(step <= 1 for step in steps) > len(steps) * 2 / 3:
        return "its characters follow one another"
    if _is_made_of_words(rest):
        return "it is made of words"
    return None


def _is_made_of_words(key: str) -> bool:
    """Whether it is words and numbers, by separators or CamelCase. Random letters make shorter ones, and digits."""
    parts = _PARTS.findall(key)
    words = [part for part in parts if part.isalpha()]
    return (
        len(words) > 1
        and re.fullmatch("[A-Za-z0-9 _.,-]+", key) is not None
        and len("".join(words)) >= max(_MIN_WORD * len(words), len(key) * 2 / 3)
        and all(map(_VOWEL.search, words))
        and all(len(part) > 1 for part in parts if part.isdigit())
    )


def _repeats_itself(key: str) -> bool:
    """Whether a part is there at least twice in a row, from end to end, but for a few changes."""
    pairs = (list(zip(key, key[period:], strict=False)) for period in range(1, len(key) // 2 + 1))
    return any(sum(one == other for one, other in pair) > len(pair) * 2 / 3 for pair in pairs)
