"""Finding the settings that a host really has."""

from __future__ import annotations

import difflib
import importlib
import inspect
import operator
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from ..errors import SettingsError
from ..marketplace import Marketplace
from ..settings import MarketplaceSettings
from .findings import Finding, problem, warning

_PREFIX = "MARKETPLACE_"
_NAMES = [field.name for field in fields(MarketplaceSettings)]
# What Kubernetes puts into every container of a namespace with a service named "marketplace".
_OF_KUBERNETES = re.compile(r"MARKETPLACE_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
_REQUIRED: dict[str, str] = {"secret_key": "-" * 32, "product_codes": "*"}
_NEEDS = {"role_external_id": "role_arn"}
_EXPECTED = "settings, a Marketplace, or a function without arguments that gives one of them"


def settings_from_env(environ: Mapping[str, str]) -> MarketplaceSettings | list[Finding]:
    """The settings as `MarketplaceMiddleware` reads them, or a problem for each that is wrong."""
    try:
        return MarketplaceSettings.from_env(environ)
    except SettingsError as exc:
        whole = problem("settings", f"{exc}.", "Correct the environment of the host.")
    if not any(environ.get(_variable(name)) for name in _NAMES):
        return [
            problem(
                "settings",
                "No setting is in the environment.",
                "Run doctor with the environment of the host, such as in its container, or name what has its settings "
                f"with --settings. Required are {' and '.join(map(_variable, _REQUIRED))}.",
            )
        ]
    return list(_mistakes(environ)) or [whole]


def settings_from(target: str) -> MarketplaceSettings | list[Finding]:
    """The settings that `module:attribute` names; the current folder is importable."""
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
    except SettingsError as exc:
        return [problem("settings", f"{exc}.", f"Correct {target}.")]
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever the host's own code raises.
        return [_not_had(target, code, exc)]
    if isinstance(named, Marketplace):
        named = named.settings
    if isinstance(named, MarketplaceSettings):
        return named
    if inspect.iscoroutine(named):
        named.close()
    found = f"{target} is no settings, but of the type {type(named).__name__}."
    return [problem("settings", found, f"Name {_EXPECTED}.")]


def unknown_variables(environ: Mapping[str, str], *, all_are_ours: bool) -> Iterator[Finding]:
    """A warning for each variable that looks like a setting and is none.

    Args:
        environ: The variables.
        all_are_ours: Whether all with our prefix are meant for us; else only those that are nearly one of ours.
    """
    known = [name.upper() for name in _NAMES]
    for name in sorted(environ):
        setting = name.removeprefix(_PREFIX)
        if setting == name or setting in known or _OF_KUBERNETES.fullmatch(name):
            continue
        # The prefix, which all have, would make any two of them alike.
        close = difflib.get_close_matches(setting, known, 1, 0.7)
        if not all_are_ours and (not close or name.startswith(f"{_PREFIX}_")):
            continue
        advice = (
            f"Did you mean {_PREFIX}{close[0]}?" if close else "Remove it, or see docs/settings.md for those there are."
        )
        yield warning("variables", f"{name} is in the environment, and there is no such setting.", advice)


def _is_called_with_nothing(named: object) -> bool:
    if not callable(named):
        return False
    try:
        inspect.signature(named).bind()
    except (TypeError, ValueError):
        return False
    return True


def _mistakes(environ: Mapping[str, str]) -> Iterator[Finding]:
    # One setting at a time, so that all mistakes are found in one run.
    wrong = set()
    for name in _NAMES:
        needed = _NEEDS.get(name, name)
        sentence = None if needed in wrong else _mistake(environ, name, needed)
        if sentence is None:
            continue
        wrong.add(name)
        variable = _variable(name)
        if environ.get(variable):
            yield problem("settings", f"{sentence}.", f"Correct {variable} in the environment of the host.")
        else:
            yield problem("settings", f"{variable} is not set.", f"{sentence}.")


def _mistake(environ: Mapping[str, str], name: str, needed: str) -> str | None:
    """What is wrong with one setting, beside the one that it needs and right ones for those that are required."""
    alone = {_variable(each): environ.get(_variable(each), "") for each in (name, needed)}
    others = {other: value for other, value in _REQUIRED.items() if other != name}
    try:
        MarketplaceSettings.from_env(alone, **others)
    except SettingsError as exc:
        return str(exc).removesuffix(f" (in the environment the names begin with {_PREFIX})")
    return None


def _variable(name: str) -> str:
    return _PREFIX + name.upper()


def _not_had(target: str, code: str, exc: BaseException) -> Finding:
    # Not the text of the exception: settings libraries quote the settings in it, with the key among them.
    module, _, attribute = target.partition(":")
    if isinstance(exc, ModuleNotFoundError):
        return problem(
            "settings",
            f"{target} cannot be had: there is no module {exc.name}.",
            "Run doctor in the folder and the virtual environment that the host runs in.",
        )
    if isinstance(exc, AttributeError) and not _frames(exc):
        return problem("settings", f"{target} cannot be had: {module} has no {attribute}.", f"Name {_EXPECTED}.")
    places = _frames(exc)
    where = f" at {places[-1]}" if places else ""
    return problem(
        "settings",
        f"{target} cannot be had: {type(exc).__name__}{where}.",
        f"Run python -c '{code}' to see the whole error; its text may quote a secret, and is not shown here.",
    )


def _frames(exc: BaseException) -> list[str]:
    """The lines of the host's code that led to an exception."""
    traceback, places = exc.__traceback__, []
    ours = (str(Path(__file__).parent.parent), str(Path(os.__file__).parent), "<frozen ")
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith(ours):
            places.append(f"{Path(file).name}, line {traceback.tb_lineno}")
        traceback = traceback.tb_next
    return places
