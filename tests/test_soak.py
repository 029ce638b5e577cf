import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def soak(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.soak", "--seed", "3", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_a_soak_ends_and_tells_what_it_saw() -> None:
    ended = soak("--registrations", "150")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith("\nPASS\n")
    for line in (
        r"POST 303 +\d+",
        r"POST 503 JSON AWS_UNAVAILABLE +\d+",
        r"new-product 200 +\d+",
        r"disconnects +\d+",
        r"registrations +150",
        r"restarts of the marketplace +2",
    ):
        assert re.search(f"^  {line}$", ended.stdout, re.MULTILINE), line
    assert not re.search(r"^  \w+ 500", ended.stdout, re.MULTILINE)
    assert ended.stderr == ""


def test_a_soak_notices_what_a_host_does_wrong() -> None:
    ended = soak("--registrations", "120", "--sabotaged")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    _, _, told = ended.stdout.partition("\nFAIL\n")
    violations = [
        "a registration that AWS confirmed was lost",
        "a buyer saw the identity of another",
        "an answer that does not belong here",
        "the host's log has a traceback",
    ]
    if sys.platform == "linux":
        violations += ["too many objects", "too many KiB of memory"]
    for violation in violations:
        assert re.search(f"^  [0-9]+ x {violation}$", told, re.MULTILINE), told
