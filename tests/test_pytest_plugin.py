"""The pytest plugin in the projects of hosts, and the page that tells of it."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from botocore.loaders import Loader

from starlette_marketplace import MarketplaceSettings
from starlette_marketplace.local import PRODUCT_CODES, SCENARIOS
from starlette_marketplace.local.reading_troubles import READING_TROUBLES
from starlette_marketplace.testing import RunningMarketplace
from tests.support.aws_failures import FAILURES

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
PROJECT = ROOT / "docs/src/testing"
AFTER_REGISTRATION = ROOT / "docs/src/after_registration"
PAGE = (ROOT / "docs/testing.md").read_text()
THREE_FILES = ("app.py", "conftest.py", "test_app.py")
NO_ANYIO = ("-p", "no:anyio")
NO_ASYNCIO = ("-p", "no:asyncio")
# Without it, pytest-asyncio warns.
ASYNCIO = ("-o", "asyncio_default_fixture_loop_scope=function")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """The project of a host."""
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


def add_files(project: pytest.Pytester, *names: str) -> None:
    for name in names:
        shutil.copy(PROJECT / name, project.path)


def test_the_project_of_the_docs_passes_without_an_async_plugin(project: pytest.Pytester) -> None:
    add_files(project, *THREE_FILES, "test_failures.py", "test_resolver.py")
    project.runpytest_subprocess(*NO_ANYIO, *NO_ASYNCIO).assert_outcomes(passed=4 + 4 + 3)


@pytest.mark.parametrize("other", [NO_ASYNCIO, ASYNCIO], ids=["alone", "with pytest-asyncio"])
def test_the_project_of_the_docs_passes_with_anyio(project: pytest.Pytester, other: tuple[str, str]) -> None:
    add_files(project, *THREE_FILES, "test_anyio.py")
    project.runpytest_subprocess(*other).assert_outcomes(passed=4 + 2)  # On asyncio and on trio.


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_project_of_the_docs_passes_with_pytest_asyncio(project: pytest.Pytester, mode: str) -> None:
    add_files(project, *THREE_FILES, "test_pytest_asyncio.py")
    project.runpytest_subprocess(*NO_ANYIO, *ASYNCIO, f"--asyncio-mode={mode}").assert_outcomes(passed=5)


def test_the_unittest_of_the_docs_passes(project: pytest.Pytester) -> None:
    add_files(project, "app.py", "test_unittest.py")
    run = project.run(sys.executable, "-W", "error", "-m", "unittest", "test_unittest.py")
    run.stderr.fnmatch_lines("OK")


def test_the_project_of_the_docs_passes_with_one_environment_for_the_whole_run(project: pytest.Pytester) -> None:
    add_files(project, "app.py", "test_app.py")
    shutil.copy(PROJECT / "conftest_whole_run.py", project.path / "conftest.py")
    project.runpytest_subprocess(*NO_ANYIO, *NO_ASYNCIO).assert_outcomes(passed=4)


def test_the_tests_of_the_docs_for_subscriptions_pass(project: pytest.Pytester) -> None:
    for name in ("active.py", "test_subscriptions.py", "test_reader.py"):
        shutil.copy(AFTER_REGISTRATION / name, project.path)
    project.runpytest_subprocess(*NO_ANYIO, *NO_ASYNCIO).assert_outcomes(passed=6 + 2)


def test_every_test_has_the_same_server_and_a_clean_one(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import httpx2
        import pytest

        seen = []

        @pytest.mark.parametrize("number", range(3))
        def test(local_marketplace, number):
            assert local_marketplace.resolve_calls == []
            assert local_marketplace.marketplace.delay == 0
            local_marketplace.marketplace.delay = 0.01
            httpx2.post(local_marketplace.url, headers={"X-Amz-Target": "AWSMPMeteringService.ResolveCustomer"})
            assert len(local_marketplace.resolve_calls) == 1
            seen.append((local_marketplace.url, local_marketplace.account_id))

        def test_afterwards():
            urls, accounts = zip(*seen)
            assert len(set(urls)) == 1
            assert len(set(accounts)) == 3
        """
    )
    project.runpytest_inprocess(*NO_ASYNCIO).assert_outcomes(passed=4)


def test_the_environment_is_that_of_one_test(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "prod")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("MARKETPLACE_SECRET_KEY", "h" * 32)
    monkeypatch.setenv("MARKETPLACE_SIGNUP_URL", "/welcome")
    project.makepyfile(
        """
        import os
        from starlette_marketplace import MarketplaceSettings

        settings = []

        def test_before():
            before.update(os.environ)

        def test_with(local_marketplace):
            assert "AWS_PROFILE" not in os.environ
            assert os.environ["AWS_ACCESS_KEY_ID"] == "local"
            assert os.environ["AWS_ENDPOINT_URL_MARKETPLACE_METERING"] == local_marketplace.url
            settings.append(MarketplaceSettings.from_env())
            assert settings[0].secret_key == "h" * 32
            assert settings[0].signup_url == "/welcome"

        def test_after():
            mine = os.environ.copy()
            del before["PYTEST_CURRENT_TEST"], mine["PYTEST_CURRENT_TEST"]
            assert mine == before

        def test_with_once_more(local_marketplace):
            assert settings == [MarketplaceSettings.from_env()]

        before = {}
        """
    )
    project.runpytest_inprocess(*NO_ASYNCIO).assert_outcomes(passed=4)


def add_model_without_account_ids(models: Path) -> None:
    """What `aws configure add-model` does, with a model of the metering service that is not botocore's."""
    model = Loader().load_service_model("meteringmarketplace", "service-2")
    del model["shapes"]["ResolveCustomerResult"]["members"]["CustomerAWSAccountId"]
    folder = models / "meteringmarketplace" / "2016-01-14"
    folder.mkdir(parents=True)
    (folder / "service-2.json").write_text(json.dumps(model))


@pytest.mark.parametrize("models", [".aws/models", "models"])
def test_the_project_of_the_docs_passes_on_a_machine_set_up_for_aws(
    models: str, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_files(project, *THREE_FILES)
    add_model_without_account_ids(project.path / models)  # pytester's home is the project.
    (project.path / "config").write_text("[profile prod]\nregion = xx-nowhere-1\nuse_fips_endpoint = true\n")
    for name, value in {
        "AWS_CONFIG_FILE": "config",
        "AWS_DATA_PATH": "models",
        "AWS_DEFAULTS_MODE": "auto",
        "AWS_CA_BUNDLE": "",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_MAX_ATTEMPTS": "9",
        "AWS_PROFILE": "prod",
        "AWS_RETRY_MODE": "adaptive",
        "AWS_SESSION_TOKEN": "mine",
        "AWS_STS_REGIONAL_ENDPOINTS": "legacy",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "MARKETPLACE_ROLE_ARN": "arn:aws:iam::123456789012:role/seller",
        "NO_PROXY": "elsewhere.example",
    }.items():
        monkeypatch.setenv(name, value)
    project.runpytest_subprocess(*NO_ANYIO, *NO_ASYNCIO).assert_outcomes(passed=4)


def test_moto_still_replaces_the_other_services(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import boto3
        from moto import mock_aws
        from starlette_marketplace import MarketplaceSettings
        from starlette_marketplace.registration.resolver import AwsResolver

        @mock_aws
        def test_with(local_marketplace):
            mail = boto3.client("ses")
            mail.verify_email_identity(EmailAddress="ada@buyer.example")
            assert mail.list_identities()["Identities"] == ["ada@buyer.example"]
            customer = AwsResolver(MarketplaceSettings.from_env()).resolve(local_marketplace.issue_token())
            assert customer.aws_account_id == local_marketplace.account_id
        """
    )
    project.runpytest_subprocess(*NO_ASYNCIO).assert_outcomes(passed=1)


def test_the_fixture_is_here_too(local_marketplace: RunningMarketplace) -> None:
    """In this very run, which has other fixtures of the kind."""
    settings = MarketplaceSettings.from_env()
    assert settings.product_codes == PRODUCT_CODES
    assert settings.endpoint_url is None


def test_who_does_not_use_it_pays_nothing_for_it(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import sys
        import threading

        def test(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("starlette_marketplace")
            assert not {"starlette", "starlette_marketplace", "uvicorn", "jinja2", "boto3"} & sys.modules.keys()
            assert threading.active_count() == 1
        """
    )
    project.runpytest_subprocess(*NO_ASYNCIO).assert_outcomes(passed=1)


def test_without_the_extra_the_error_names_it(project: pytest.Pytester) -> None:
    project.makeconftest("import sys; sys.modules['uvicorn'] = None")
    project.makepyfile("def test(local_marketplace): pass")
    run = project.runpytest_subprocess(*NO_ASYNCIO)
    run.assert_outcomes(errors=1)
    run.stdout.fnmatch_lines('E *ImportError: *pip install "starlette-marketplace?local?"')


def test_the_page_has_every_failure_with_its_answer() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (\d{3}) \| `(\w+)` \| (.+) \|$", PAGE, re.MULTILINE)
    expected = [(name, str(failure.status), failure.code, failure.title) for name, failure in FAILURES.items()]
    assert sorted(rows) == sorted(expected)


def test_the_page_names_every_scenario_that_ends_well() -> None:
    ends_well = re.search(r"^These end well: (.+?)\.$", PAGE, re.MULTILINE | re.DOTALL)
    assert ends_well
    afterwards = {scenario.slug for scenario in READING_TROUBLES}
    assert set(re.findall(r"`([\w-]+)`", ends_well[1])) == SCENARIOS.keys() - FAILURES.keys() - afterwards


def test_the_example_of_the_page_is_three_lines() -> None:
    body = (PROJECT / "test_app.py").read_text().partition("def test_the_signup_page_shows_the_aws_account")[2]
    lines = body.partition("\n\n\n")[0].splitlines()[1:]
    assert len(lines) == 3
