import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import starlette_marketplace

PACKAGE = Path(starlette_marketplace.__file__).parent
# A module imports only from those before it.
LAYERS = (
    "_version",
    "errors",
    "customer",
    "settings",
    "clocks",
    "keys",
    "threads",
    "form",
    "session",
    "hooks",
    "aws_errors",
    "aws",
    "telemetry",
    "resolver",
    "otel",
    "shared_cache",
    "redis",
    "resolution",
    "responses",
    "registration",
    "marketplace",
    "middleware",
    "local",
    "testing",
)
DOCTOR = (
    "findings",
    "patience",
    "host",
    "keys",
    "configuration",
    "cache",
    "aws",
    "credentials",
    "calls",
    "client",
    "answers",
    "landing",
)
MODULES = sorted({path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "cli"})


def test_all_is_sorted_and_lists_everything_that_the_package_exports() -> None:
    exported = [
        name
        for name, value in vars(starlette_marketplace).items()
        if (not name.startswith("_") or name == "__version__") and not isinstance(value, ModuleType)
    ]

    assert starlette_marketplace.__all__ == sorted(exported)


def test_importing_the_package_loads_nothing_heavy_and_nothing_optional() -> None:
    script = "import sys, starlette_marketplace; print(*sys.modules)"
    imported = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()

    assert "starlette_marketplace.resolver" in imported
    assert {"boto3", "botocore", "fastapi", "jinja2", "opentelemetry", "redis", "uvicorn"}.isdisjoint(imported)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_those_above_it(module: str) -> None:
    above = LAYERS[: LAYERS.index(module)]

    assert imports_of(module) - set(above) == set()


@pytest.mark.parametrize("module", DOCTOR)
def test_a_module_of_the_doctor_imports_from_those_above_it_and_the_doctor_is_on_top_of_all(module: str) -> None:
    above = {*LAYERS, *DOCTOR[: DOCTOR.index(module)]}

    assert imports_of(f"doctor/{module}") - above == set()


def test_every_module_of_the_doctor_has_its_layer() -> None:
    assert sorted(path.stem for path in (PACKAGE / "doctor").glob("*.py")) == sorted([*DOCTOR, "__init__"])


def imports_of(module: str) -> set[str]:
    """The modules of the package that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("starlette_marketplace")}
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith(PACKAGE.name)):
            names = [alias.name for alias in node.names]
            # `from . import errors` names modules, `from .errors import X` one.
            found |= {node.module.removeprefix(f"{PACKAGE.name}.")} if node.module else set(names)
    return found
