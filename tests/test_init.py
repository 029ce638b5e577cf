import ast
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import starlette_marketplace

PACKAGE = Path(starlette_marketplace.__file__).parent
ARCHITECTURE = (Path(__file__).parents[1] / "docs/architecture.md").read_text()


def test_all_is_sorted_and_lists_everything_that_the_package_exports() -> None:
    exported = [
        name
        for name, value in vars(starlette_marketplace).items()
        if (not name.startswith("_") or name == "__version__")
        and not isinstance(value, ModuleType)
        and name != "TYPE_CHECKING"
    ]
    exported += starlette_marketplace._LATER

    assert starlette_marketplace.__all__ == sorted(exported)
    assert all(getattr(starlette_marketplace, name) for name in exported)
    assert set(exported) <= set(dir(starlette_marketplace))
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = starlette_marketplace.Nothing  # type: ignore[attr-defined]


def test_importing_the_package_loads_nothing_heavy_and_nothing_optional() -> None:
    script = "import sys, starlette_marketplace; print(*sys.modules)"
    imported = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()

    assert "starlette_marketplace.registration.resolver" in imported
    assert {"boto3", "botocore", "fastapi", "jinja2", "opentelemetry", "redis", "uvicorn"}.isdisjoint(imported)
    assert not [module for module in imported if module.startswith("starlette_marketplace.subscriptions")]


def test_the_architecture_shows_every_module() -> None:
    assert sorted(layers()) == sorted(map(module_of, PACKAGE.rglob("*.py")))


def test_a_module_imports_only_from_those_that_the_architecture_shows_above_it() -> None:
    above: set[str] = set()
    wrong = {}
    for module in layers():
        wrong[module] = imports_of(file_of(module)) - above
        above.add(module)

    assert {module: imports for module, imports in wrong.items() if imports} == {}


def test_a_wing_knows_the_common_ground_and_not_the_other_wings() -> None:
    for wing in ("registration", "subscriptions"):
        imported = set().union(*map(imports_of, (PACKAGE / wing).rglob("*.py")))
        assert {module.partition(".")[0] for module in imported if "." in module} == {wing}


def test_the_local_marketplace_imports_nothing_of_the_rest() -> None:
    imported = set().union(*map(imports_of, (PACKAGE / "local").rglob("*.py")))

    assert "local.marketplace" in imported
    assert {module for module in imported if not module.startswith("local.")} == set()


def layers() -> list[str]:
    """The modules in the order of the tree on the page; a package comes after what is in it, as it imports that."""
    found: list[str] = []
    package = ""
    for indent, name in re.findall(r"^(  |    )(\w+(?:\.py|/)) ", ARCHITECTURE, re.MULTILINE):
        if package and indent == "  ":
            found.append(package)
            package = ""
        if name.endswith("/"):
            package = name.removesuffix("/")
        else:
            found.append(".".join(filter(None, [package, name.removesuffix(".py")])))
    return [*found[: found.index("cli")], "", *found[found.index("cli") :]]


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def file_of(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith(PACKAGE.name) for alias in node.names), "imports are relative"
        elif isinstance(node, ast.ImportFrom) and node.level:
            package = file.relative_to(PACKAGE).parts[: -node.level]
            # `from . import errors` names modules, `from .errors import X` one.
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {".".join([*package, name]) for name in names}
    return found
