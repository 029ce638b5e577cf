"""The package that people install: looked into, installed in clean environments, and tested there.

`make package` builds dist/ first. It ends with exit code 1 at the first thing that is wrong. The environments are made
by uv in a temporary folder; none of them sees this checkout:

- `bare` has the wheel alone, without extras and test tools;
- `oldest` has the lowest versions that pyproject.toml allows, of all extras too, registers a buyer, and runs the core
  tests;
- `newest` has the newest versions, runs the core tests, and is where pyright looks at the types.
"""

import os
import re
import shutil
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.environments import (
    EXTRAS,
    ROOT,
    TEST_TOOLS,
    CommandError,
    core_tests,
    environment,
    pip_configuration,
    run,
    say,
    uv,
)

from .contents import check_sdist, check_wheel

DIST = ROOT / "dist"
# The first FastAPI that allows Starlette 1.0.
OLDEST_FASTAPI = "fastapi==0.133.0"
# The plugin of AnyIO 4.14 for pytest warns under the next one, and warnings are errors.
OLDEST_PYTEST = "pytest<9.2"


def main() -> int:
    began = time.monotonic()
    os.environ.update(pip_configuration() | os.environ)
    try:
        [wheel], [sdist] = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
        check_wheel(wheel)
        check_sdist(sdist)
        run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
        with TemporaryDirectory(prefix="starlette-marketplace-") as folder, ThreadPoolExecutor() as pool:
            jobs = [pool.submit(job, wheel, sdist, Path(folder)) for job in (oldest, newest, bare)]
            try:
                for job in jobs:
                    say(job.result())
            finally:
                pool.shutdown(cancel_futures=True)
    except (AssertionError, CommandError) as exc:
        say(f"{exc}\nThe package is not fit to be installed.")
        return 1
    say(f"{wheel.name} and {sdist.name} are fit to be installed, {time.monotonic() - began:.0f} s")
    return 0


def bare(wheel: Path, sdist: Path, folder: Path) -> str:
    """What a user has who installs no extra."""
    python = environment(folder / "bare", str(wheel))
    script = ROOT / "tests/package/bare.py"
    return f"bare: {run(python, '-I', '-W', 'error', script, cwd=folder)}"


def oldest(wheel: Path, sdist: Path, folder: Path) -> str:
    """A buyer and the core tests on the lowest versions."""
    options = ("--quiet", "--all-extras", "--no-deps", "--no-header", "--no-annotate")
    lowest = uv("pip", "compile", "--resolution", "lowest-direct", *options, ROOT / "pyproject.toml").split()
    [boto3] = [version for version in lowest if version.startswith("boto3==")]
    constraints = folder / "lowest.txt"
    # boto3 allows every later botocore of its series, and the model of the metering service is botocore's.
    constraints.write_text("\n".join([*lowest, boto3.replace("boto3", "botocore")]))
    python = environment(
        folder / "oldest", f"{wheel}[{EXTRAS}]", *TEST_TOOLS, OLDEST_FASTAPI, OLDEST_PYTEST, "--constraint", constraints
    )
    found = run(python, "-I", "-W", "error", ROOT / "tests/package/floor.py", cwd=folder)
    # From here on it knows what AWS answers today, which the tests compare. The old file is uv's cache as well.
    model = metering_model(python)
    model.unlink()
    shutil.copy(metering_model(sys.executable), model)
    return f"oldest, {' '.join(lowest)}: {found}; {tested(python, sdist)}"


def newest(wheel: Path, sdist: Path, folder: Path) -> str:
    """The core tests on the newest versions, and the types as a user's type checker sees them."""
    python = environment(folder / "newest", f"{wheel}[{EXTRAS}]", *TEST_TOOLS, "fastapi")
    pyright = (sys.executable, "-m", "pyright")
    # It verifies the package that the first Python in PATH has, whatever --pythonpath says.
    path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
    verified = run(*pyright, "--verifytypes", "starlette_marketplace", "--ignoreexternal", cwd=folder, PATH=path)
    checkout = unpacked(sdist, folder / "typing")
    run(*pyright, "--pythonpath", python, checkout / "tests/typing", cwd=folder)
    [score] = re.findall("Type completeness score: .*", verified)
    return f"newest: {score}; {tested(python, sdist)}"


def metering_model(python: str | Path) -> Path:
    """The model of the service that resolves tokens, in the botocore of `python`."""
    where = "import botocore, pathlib; print(pathlib.Path(botocore.__file__).parent)"
    return Path(run(python, "-c", where), "data/meteringmarketplace/2016-01-14/service-2.json.gz")


def tested(python: Path, sdist: Path) -> str:
    """How the core tests of the sdist ended on the package that `python` has."""
    checkout = unpacked(sdist, python.parents[1] / "sdist")
    options = ("-q", "-p", "tests.package.installed", "-p", "no:cacheprovider")
    return run(python, "-m", "pytest", *options, *core_tests(checkout), cwd=checkout).splitlines()[-1]


def unpacked(sdist: Path, folder: Path) -> Path:
    """What is in `sdist` without the package, so that only the installed one can be imported."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [checkout] = folder.iterdir()
    shutil.rmtree(checkout / "starlette_marketplace")
    (checkout / "pytest_starlette_marketplace.py").unlink()
    return checkout


if __name__ == "__main__":
    sys.exit(main())
