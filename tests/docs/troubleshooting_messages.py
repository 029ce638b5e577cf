"""Every text that the package can give to somebody, collected from its source and written as the page writes it.

What a message puts in is an ellipsis, but for constants, which are resolved. What the log fills in stays as it is in
its constant message. The doctor is left out: it has a page of its own, with a table of its findings.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import starlette_marketplace
from starlette_marketplace.local import CONDITIONS
from starlette_marketplace.settings import _RULES

PACKAGE = Path(starlette_marketplace.__file__).parent

SAID_ELSEWHERE = {
    "str(self._error)": "the middleware says again what the settings said",
    "text": "raised for from_env, which says it in another way",
    "f'{self.attribute} is {self.rule}, not {value!r}'": "a rule of CONDITIONS, which are collected as they are",
    "'not a resolution'": "raised for _get, which logs that the value was passed over",
    "f'module {__name__!r} has no attribute {name!r}'": "Python says the same of every module",
    "str(exc)": "the command prints an ImportError, which is collected",
    "'no buyer that is kept has this AWS account'": "the storefront says it in another way",
    "f'argument --{name}: {error}'": "the command prints a ValueError, which is collected",
    "f'argument --host: {exc}'": "the command prints a ValueError, which is collected",
    **dict.fromkeys(
        [
            "f'{name} is missing'",
            "f'{name} is not a string'",
            "'status is not a word'",
            "f'{name} is not a time'",
            "f'{name} is not a structure'",
            "f'{name} has another type'",
            "f'an entitlement has another {name}'",
            "'an entitlement is not a structure'",
            "'an entitlement does not say whose it is'",
            "'it is about another agreement'",
            "'resources are missing'",
        ],
        "a part of the IncompleteAnswerError, which is collected",
    ),
}
"""Expressions that are no message of their own, and why."""


SAY_THEMSELVES = {"local/actions.py", "local/changes.py", "local/ledger.py", "local/managing.py", "local/products.py"}
"""Modules whose messages say what to do to a test that asks the local marketplace for what cannot be."""


def messages() -> set[str]:
    """All of them."""
    found: set[str] = set()
    for file in PACKAGE.rglob("*.py"):
        if PACKAGE / "doctor" not in file.parents and str(file.relative_to(PACKAGE)) not in SAY_THEMSELVES:
            found.update(messages_of(ast.parse(file.read_text())))
    found.update(f"{condition.attribute} is {condition.rule}, not …" for condition in CONDITIONS)
    for setting, rules in _RULES.items():
        for rule in rules:
            is_least = rule.says.startswith("must be a number of at least ")
            found.add(
                "… must be a number of at least …." if is_least else f"{setting} {rule.says}. {rule.advice}".rstrip()
            )
    return found


def messages_of(module: ast.Module) -> Iterator[str]:
    """Those of one module.

    Raises:
        AssertionError: One of them can be anything, so that nobody can look it up.
    """
    constants = _Constants(module)
    for message in _expressions(module):
        if ast.unparse(message) not in SAID_ELSEWHERE:
            texts = constants.texts(message)
            assert "…" not in texts, f"line {message.lineno}: {ast.unparse(message)} is not constant"
            yield from (" ".join(text.split()) for text in texts)


def _expressions(module: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and (message := _said_by(node)):
            yield message
        elif isinstance(node, ast.FunctionDef) and node.name == "_refuse_browser":
            returned = [part for inner in ast.walk(node) if isinstance(inner, ast.Return) for part in ast.walk(inner)]
            yield from (part for part in returned if isinstance(part, ast.Constant) and isinstance(part.value, str))


def _said_by(call: ast.Call) -> ast.expr | None:
    """What a call says to somebody, None when it says nothing."""
    match call:
        case ast.Call(ast.Attribute(ast.Name("logger"), "log"), [_, message, *_]):
            return message
        case ast.Call(ast.Attribute(ast.Name("logger"), "info" | "warning" | "error"), [message, *_]):
            return message
        case ast.Call(ast.Name("Mistake"), [_, _, ast.Attribute(_, "advice")]):
            return None  # A rule of settings: those are collected as they are.
        case ast.Call(ast.Name("Mistake"), [_, message]):
            return message
        case ast.Call(ast.Name("Mistake"), [_, reason, advice]):
            return _joined(reason, advice)
        case ast.Call(ast.Attribute(ast.Name("parser"), "error") | ast.Name("_fail"), [message, *_]):
            return message
        case ast.Call(ast.Name("refuse"), [message, _]):
            return message
        case ast.Call(ast.Name("RefusedError")):
            return None  # An answer of the local marketplace in the place of AWS.
        case ast.Call(ast.Name(name) | ast.Attribute(_, name), [reason, advice]) if name.endswith("Error"):
            return _joined(reason, advice)
        case ast.Call(ast.Name(name) | ast.Attribute(_, name), [message, *_]) if name.endswith("Error"):
            return message
    return None


def _joined(reason: ast.expr, advice: ast.expr) -> ast.expr:
    parts: list[ast.expr] = [ast.FormattedValue(reason, -1), ast.Constant(" "), ast.FormattedValue(advice, -1)]
    return ast.copy_location(ast.JoinedStr(parts), reason)


class _Constants:
    """The constants of a module, by the names that they are assigned to."""

    def __init__(self, module: ast.Module) -> None:
        self._assigned: dict[str, list[ast.expr]] = defaultdict(list)
        for node in ast.walk(module):
            match node:
                case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), _, ast.expr() as value):
                    self._assigned[name].append(value)
                case ast.Assign([ast.Tuple(targets)], value):
                    for target in targets:
                        if isinstance(target, ast.Name):
                            self._assigned[target.id].append(value)

    def texts(self, value: ast.expr) -> list[str]:
        """What an expression can be; an ellipsis where it can be anything."""
        match value:
            case ast.Constant(constant):
                return [str(constant)]
            case ast.IfExp(_, body, orelse):
                return self.texts(body) + self.texts(orelse)
            case ast.FormattedValue(inner):
                return self.texts(inner)
            case ast.Name(name) if self._assigned[name]:
                texts = [text for assigned in self._assigned[name] for text in self.texts(assigned)]
                return ["…"] if "…" in texts else texts
            case ast.Subscript(ast.Name(name)) if self._assigned[name]:
                return [text for assigned in self._assigned[name] for text in self._values_of(assigned)]
            case ast.JoinedStr(parts):
                return ["".join(texts).replace("……", "…") for texts in product(*(self.texts(part) for part in parts))]
        return ["…"]

    def _values_of(self, table: ast.expr) -> list[str]:
        """The texts among the values of a dict, alone or in a tuple."""
        found = []
        for value in table.values if isinstance(table, ast.Dict) else []:
            for part in value.elts if isinstance(value, ast.Tuple) else [value]:
                found += [part.value] if isinstance(part, ast.Constant) and isinstance(part.value, str) else []
        return found or ["…"]
