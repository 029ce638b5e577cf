"""Finds the settings that the app really has."""

from __future__ import annotations

import difflib
import importlib
import inspect
import operator
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from ..errors import MarketplaceError, Mistake, SettingsError
from ..marketplace import Marketplace
from ..settings import MarketplaceSettings
from .case import Case
from .findings import Verdict, ok, problem, warning

_PREFIX = "MARKETPLACE_"
_NAMES = [field.name for field in fields(MarketplaceSettings)]
# What Kubernetes puts into every container of a namespace with a service named "marketplace".
_OF_KUBERNETES = re.compile(r"MARKETPLACE_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
_PLACEHOLDERS: dict[str, str] = {"secret_key": "-" * 32, "product_codes": "*"}
_EXPECTED = "Name settings, a Marketplace, or a function without arguments that gives one of them."


def check_settings(case: Case) -> Iterator[Verdict]:
    """Whether there are settings, and which of them are invalid."""
    mistakes: Sequence[Mistake] = ()
    if case.target:
        case.settings = settings_from(case.target)
    else:
        case.settings, mistakes, case.invalid = settings_from_env(case.environ)
    yield from tell(*mistakes)
    if not mistakes:
        yield ok(f"The settings {f'of {case.target}' if case.target else 'in the environment'} are valid.")


def tell(*mistakes: Mistake | MarketplaceError) -> Iterator[Verdict]:
    """A problem for each mistake, or each that a SettingsError has."""
    for mistake in mistakes:
        for each in getattr(mistake, "mistakes", ()) or [mistake]:
            yield problem(each.reason, each.advice or "Correct it where your app gets its settings.")


def settings_from_env(environ: Mapping[str, str]) -> tuple[MarketplaceSettings, Sequence[Mistake], frozenset[str]]:
    """The settings as `MarketplaceMiddleware` reads them, what is wrong with them, and which were left out for it.

    Raises:
        SettingsError: There are none.
    """
    variables = {name: _PREFIX + name.upper() for name in _NAMES}
    if not any(map(environ.get, variables.values())):
        raise SettingsError(
            "No setting is in the environment.",
            "Run doctor with the environment of your app, such as in its container, or name its settings with "
            f"--settings. Required are {' and '.join(variables[name] for name in _PLACEHOLDERS)}.",
        )
    mistakes: Sequence[Mistake] = ()
    invalid: frozenset[str] = frozenset()
    while True:
        rest = {variable: environ.get(variable, "") for name, variable in variables.items() if name not in invalid}
        placeholders = {name: value for name, value in _PLACEHOLDERS.items() if name in invalid}
        try:
            return MarketplaceSettings.from_env(rest, **placeholders), mistakes, invalid
        except SettingsError as error:
            # What is invalid only because another setting was left out is left out as well, and no mistake.
            mistakes = mistakes or error.mistakes
            invalid |= {mistake.setting for mistake in error.mistakes}


def settings_from(target: str) -> MarketplaceSettings:
    """The settings that `module:attribute` names; the current folder is importable.

    Raises:
        MarketplaceError: There are none, or they are invalid.
    """
    module, _, attribute = target.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    code = f"import {module}"
    try:
        imported = importlib.import_module(module)
        code += f"; {module}.{attribute}"
        named = operator.attrgetter(attribute)(imported)
        if _is_called_with_nothing(named):
            code += "()"
            named = named()
    except SettingsError:
        raise
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever the app's own code raises.
        raise _not_found(target, code, exc) from None
    if isinstance(named, Marketplace):
        named = named.settings
    if isinstance(named, MarketplaceSettings):
        return named
    if inspect.iscoroutine(named):
        named.close()
    raise SettingsError(f"{target} is not settings, but of the type {type(named).__name__}.", _EXPECTED)


def check_variables(case: Case) -> Iterator[Verdict]:
    """Whether every variable that looks like a setting is one."""
    known = [name.upper() for name in _NAMES]
    is_fine = True
    for name in sorted(case.environ):
        setting = name.removeprefix(_PREFIX)
        if setting == name or setting in known or _OF_KUBERNETES.fullmatch(name):
            continue
        # The prefix, which all have, would make any two of them alike.
        close = difflib.get_close_matches(setting, known, 1, 0.7)
        # Where the settings come from elsewhere, the prefix may be that of another program.
        if case.target and (not close or name.startswith(f"{_PREFIX}_")):
            continue
        is_fine = False
        yield warning(
            f"{name} is in the environment, and there is no such setting.",
            f"Did you mean {_PREFIX}{close[0]}?" if close else "Remove it, or see docs/settings.md for the settings.",
        )
    if is_fine:
        yield ok("No variable in the environment is misspelled.")


def _is_called_with_nothing(named: object) -> bool:
    if not callable(named):
        return False
    try:
        inspect.signature(named).bind()
    except (TypeError, ValueError):
        return False
    return True


def _not_found(target: str, code: str, exc: BaseException) -> SettingsError:
    # Not the text of the exception: settings libraries quote the settings in it, with the key among them.
    module, _, attribute = target.partition(":")
    passed_over = (str(Path(__file__).parent.parent), str(Path(os.__file__).parent), "<frozen ")
    passed = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(exc.__traceback__)]
    places = [f"{Path(file).name}, line {line}" for file, line in passed if not file.startswith(passed_over)]
    if isinstance(exc, ModuleNotFoundError):
        return SettingsError(
            f"{target} cannot be loaded: there is no module {exc.name}.",
            "Run doctor in the folder and the virtual environment that your app runs in.",
        )
    if isinstance(exc, AttributeError) and not places:
        return SettingsError(f"{target} cannot be loaded: {module} has no {attribute}.", _EXPECTED)
    where = f" at {places[-1]}" if places else ""
    return SettingsError(
        f"{target} cannot be loaded: {type(exc).__name__}{where}.",
        f"Run python -c '{code}' to see the whole error; its text may quote a secret, and is not shown here.",
    )
