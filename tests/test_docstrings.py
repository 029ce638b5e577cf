"""What editors show: a sentence for every public name, and for all that can be asked of what it names."""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from types import FunctionType, ModuleType
from typing import get_origin, is_typeddict

import pytest

PUBLIC = [
    "pytest_starlette_marketplace",
    "starlette_marketplace",
    "starlette_marketplace.customer",
    "starlette_marketplace.doctor",
    "starlette_marketplace.errors",
    "starlette_marketplace.hooks",
    "starlette_marketplace.local",
    "starlette_marketplace.registration.redis",
    "starlette_marketplace.registration.resolver",
    "starlette_marketplace.settings",
    "starlette_marketplace.registration.shared_cache",
    "starlette_marketplace.testing",
]
# Names that have nothing to say: the package's version, loggers, type variables.
SELF_EXPLANATORY = {"__version__", "logger", "E", "R"}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_sentence(name: str) -> None:
    assert [path for path, text in documented(importlib.import_module(name)) if not is_sentence(text)] == []


def documented(module: ModuleType) -> Iterator[tuple[str, str]]:
    """The public names of `module`, those of its classes too, each with what an editor shows of it."""
    yield module.__name__, module.__doc__ or ""
    for name in public_names(module):
        value = getattr(module, name)
        if inspect.isclass(value):
            yield from documented_class(value)
        elif callable(value) and get_origin(value) is None:  # Python takes Literal[...] for something to call.
            yield name, value.__doc__ or ""
        else:
            yield name, doc_of_constant(module, name)


def public_names(module: ModuleType) -> list[str]:
    if hasattr(module, "__all__"):
        return sorted(set(module.__all__) - SELF_EXPLANATORY)
    own = [node for node in tree_of(module).body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return sorted({name for node in own for name in names_of(node) if not name.startswith("_")} - SELF_EXPLANATORY)


def documented_class(cls: type) -> Iterator[tuple[str, str]]:
    # A dataclass without a docstring has its signature for one.
    doc = cls.__doc__ or ""
    yield cls.__name__, "" if doc.startswith(f"{cls.__name__}(") else doc
    if is_typeddict(cls):
        return  # Its keys are the arguments of what its docstring names.
    ours = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "starlette_marketplace"]
    attributes = dict(pair for base in reversed(ours) for pair in described_attributes(base))
    for base in ours:
        for name, member in vars(base).items():
            if name.startswith("_"):
                continue
            if isinstance(member, FunctionType | property | classmethod | staticmethod | cached_property):
                yield f"{cls.__name__}.{name}", member.__doc__ or ""
        for name in attributes_of(base):
            if not isinstance(vars(base).get(name), property):
                yield f"{cls.__name__}.{name}", attributes.get(name, "")


def attributes_of(cls: type) -> set[str]:
    """The public attributes that the class has in its body, and those that its constructor gives to `self`."""
    [body] = [
        node for node in ast.parse(textwrap.dedent(inspect.getsource(cls))).body if isinstance(node, ast.ClassDef)
    ]
    found = {name for node in body.body if isinstance(node, ast.Assign | ast.AnnAssign) for name in names_of(node)}
    for method in body.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            targets = [
                target
                for node in ast.walk(method)
                if isinstance(node, ast.Assign | ast.AnnAssign)
                for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            ]
            found |= {target.attr for target in targets if isinstance(target, ast.Attribute)}
    return {name for name in found if not name.startswith("_")}


def described_attributes(cls: type) -> Iterator[tuple[str, str]]:
    """What the section `Attributes` of the docstring says of each."""
    section = re.search(r"^Attributes:\n((?:    .*\n?|\n)+)", inspect.cleandoc(cls.__doc__ or ""), re.MULTILINE)
    for text in re.split(r"^    (?=\w+: )", section[1] if section else "", flags=re.MULTILINE)[1:]:
        name, _, description = text.partition(": ")
        yield name, description


def doc_of_constant(module: ModuleType, name: str) -> str:
    """The string below the assignment, in the module that makes it."""
    tree = tree_of(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            return doc_of_constant(importlib.import_module(f"{'.' * node.level}{node.module}", module.__name__), name)
    for node, below in pairwise(tree.body):
        if name in names_of(node) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            return str(below.value.value)
    return ""


def names_of(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Assign():
            return [target.id for target in node.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def tree_of(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def is_sentence(text: str) -> bool:
    first = inspect.cleandoc(text).partition("\n\n")[0]
    return first.endswith((".", ":")) and (first[0].isupper() or first[0] == "`")
