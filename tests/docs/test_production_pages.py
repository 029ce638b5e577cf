import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import botocore.session
import httpx2
import pytest
from fastapi import FastAPI
from moto import mock_aws
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from starlette_marketplace import Marketplace, MarketplaceMiddleware, MarketplaceSettings, get_registration
from starlette_marketplace.local import LocalMarketplace
from tests.docs.programs import ROOT, program, running, stored
from tests.example_app.browser import hidden_fields
from tests.support.hosts import LANDING, form

pytestmark = pytest.mark.slow

SEVERAL = (ROOT / "docs/several-products.md").read_text()
GOING_LIVE = (ROOT / "docs/going-live.md").read_text()
OWN_KEY = "o" * 32
FOREIGN = [
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://blog.shop.example"},
    {"Origin": "null"},
]

# Several products and accounts


@pytest.fixture
def shops(
    environment: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ModuleType:
    """docs/src/several_products.py, in an empty folder, with the variables that its page sets."""
    monkeypatch.chdir(tmp_path)
    exports = "".join(re.findall(r"^```sh\n(.+?)^```$", SEVERAL, re.MULTILINE | re.DOTALL))
    for name, value in re.findall(r"\b([A-Z_]+)=(\$\(.*\)|\S+)", exports):
        monkeypatch.setenv(name, name.lower().ljust(32) if value.startswith("$(") else value)
    return program("several_products")


def arrive(client: TestClient, shop: str, token: str) -> Any:
    return client.post(f"{shop}/marketplace/register", data=form(token))


def test_each_product_has_its_signup_page_and_legacy_and_new_ones_are_kept_side_by_side(
    shops: ModuleType, marketplace: LocalMarketplace
) -> None:
    arrivals = {
        ("/acme", "new-product"): "analytics",
        ("/acme", "second-agreement"): "analytics",
        ("/acme", "legacy-product"): "reports",
        ("/borealis", "wrong-product"): "forecast",
    }
    with TestClient(shops.app) as client:
        for (shop, scenario), page in arrivals.items():
            shown = arrive(client, shop, marketplace.issue_token(scenario))
            assert shown.url.path == f"{shop}/signup/{page}"
            assert f"Sign up for {page}" in shown.text
            answer = client.post(shown.url.path, data={"email": "a@b.example"} | hidden_fields(shown))
            assert answer.text == f"Welcome to {page}, a@b.example!"
        assert not client.cookies
        shown = arrive(client, "/acme", marketplace.issue_token("legacy-product"))
        again = client.post(shown.url.path, data={"email": "c@d.example"} | hidden_fields(shown))
        assert again.status_code == 409
    rows = stored("signups.db", "plan, customer_key")
    assert [plan for plan, _ in rows] == list(arrivals.values())
    keys = [key for _, key in rows]
    assert keys[2] == f"acmelegacy:{marketplace.buyer.account_id}"
    for key in (keys[0], keys[1], keys[3]):
        assert key.startswith("arn:aws:license-manager::")
    assert len(set(keys)) == 4


def test_who_does_not_come_from_aws_signs_up_for_a_product_that_there_is(shops: ModuleType) -> None:
    with TestClient(shops.app) as client:
        for path in ("/acme/signup/analytics", "/acme/signup/reports", "/borealis/signup/forecast"):
            assert hidden_fields(client.get(path)) == {}
            assert client.post(path, data={"email": "a@b.example"}).status_code == 200
        for path in ("/acme/signup/forecast", "/borealis/signup/analytics"):
            assert client.get(path).status_code == 404
            assert client.post(path, data={"email": "a@b.example"}).status_code == 404


def test_a_customer_of_one_product_gets_no_other_by_posting_to_its_page(
    shops: ModuleType, marketplace: LocalMarketplace
) -> None:
    with TestClient(shops.app) as client:
        reports = arrive(client, "/acme", marketplace.issue_token("legacy-product"))
        assert hidden_fields(client.get("/acme/signup/analytics")) == {}
        for page in ("/acme/signup/analytics", "/borealis/signup/forecast"):
            answer = client.post(page, data={"email": "a@b.example"} | hidden_fields(reports))
            assert answer.status_code == 400
    assert stored("signups.db") == []


def test_each_page_shows_the_registration_of_its_own_product_in_any_order_of_arrival(
    shops: ModuleType, marketplace: LocalMarketplace
) -> None:
    with TestClient(shops.app) as client:
        shown = [
            arrive(client, shop, marketplace.issue_token(scenario))
            for shop, scenario in (
                ("/acme", "legacy-product"),
                ("/borealis", "wrong-product"),
                ("/acme", "new-product"),
            )
        ]
        ids = [hidden_fields(page)["registration_id"] for page in shown]
        assert len(set(ids)) == 3
        assert [hidden_fields(client.get(page.url.path))["registration_id"] for page in shown] == ids
        assert {name.rpartition("-")[0] for name in client.cookies} == {"acme", "borealis"}


def test_a_product_of_the_other_account_is_refused(shops: ModuleType, marketplace: LocalMarketplace) -> None:
    with TestClient(shops.app) as client:
        assert arrive(client, "/acme", marketplace.issue_token("wrong-product")).status_code == 403
        assert arrive(client, "/borealis", marketplace.issue_token("new-product")).status_code == 403
        assert not client.cookies


@pytest.mark.parametrize("headers", FOREIGN)
def test_forms_of_other_sites_are_refused_by_the_shops(
    headers: dict[str, str], shops: ModuleType, marketplace: LocalMarketplace
) -> None:
    with TestClient(shops.app) as client:
        page = arrive(client, "/acme", marketplace.issue_token("new-product"))
        assert page.headers["cache-control"] == "no-store"
        fields = {"email": "a@b.example"} | hidden_fields(page)
        assert client.post(page.url.path, data=fields, headers=headers).status_code == 403
        assert stored("signups.db") == []
        assert client.post(page.url.path, data=fields, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_each_account_is_called_with_credentials_of_its_own(shops: ModuleType, marketplace: LocalMarketplace) -> None:
    with TestClient(shops.app) as client:
        arrive(client, "/acme", marketplace.issue_token("new-product"))
        arrive(client, "/borealis", marketplace.issue_token("wrong-product"))
    acme, borealis = [call.request.access_key_id for call in marketplace.resolve_calls]
    assert acme == "local"
    assert borealis is not None
    assert borealis.startswith("ASIA"), "the temporary credentials of a role"


def test_the_shops_get_ready_when_the_server_starts_and_can_be_started_again(
    shops: ModuleType, marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with TestClient(shops.app) as client:
            assert arrive(client, "/acme", marketplace.issue_token("new-product")).status_code == 200
    monkeypatch.setenv("BOREALIS_MARKETPLACE_PROFILE_NAME", "nobody")
    with pytest.raises(Exception, match="Set profile_name"), TestClient(program("several_products").app):
        pass


def two_marketplaces(settings: MarketplaceSettings, **other: Any) -> TestClient:
    """A browser at an app with two of them, whose settings differ by `other`."""
    values = {field: getattr(settings, field) for field in ("secret_key", "endpoint_url", "max_attempts")}
    values |= {"https_only": False, "product_codes": "acmeanalytics"}
    one, two = [Marketplace(MarketplaceSettings(**each)) for each in (values, values | other)]

    def seen(request: Request) -> Response:
        found = [[each.customer.product_code for each in it.get_registrations(request)] for it in (one, two)]
        return JSONResponse(found)

    app = Starlette(routes=[Mount("/one", routes=one.routes), Mount("/two", routes=two.routes), Route("/signup", seen)])
    return TestClient(app)


@pytest.mark.parametrize(
    ("other", "seen"),
    [
        ({}, [["acmeanalytics"], ["acmelegacy"]]),
        ({"product_codes": "*"}, [["acmeanalytics"], ["acmelegacy", "acmeanalytics"]]),
        ({"session_cookie": "two"}, [["acmeanalytics"], ["acmelegacy"]]),
        ({"secret_key": OWN_KEY}, [["acmeanalytics"], ["acmelegacy"]]),
        # A name that begins with the other's does no harm.
        ({"session_cookie": "marketplace-two"}, [["acmeanalytics"], ["acmelegacy"]]),
    ],
)
def test_what_two_marketplaces_of_one_app_read_of_each_other(
    other: dict[str, str], seen: list[list[str]], settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    with two_marketplaces(settings, **{"product_codes": "acmelegacy"} | other) as client:
        client.post("/one/register", data=form(marketplace.issue_token("new-product")))
        answer = client.post("/two/register", data=form(marketplace.issue_token("legacy-product")))
    assert answer.json() == seen


def test_one_agreement_in_two_marketplaces_with_one_cookie_name_and_two_keys_is_lost_to_the_first(
    settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    token = marketplace.issue_token("new-product")
    with two_marketplaces(settings, secret_key=OWN_KEY) as client:
        assert client.post("/one/register", data=form(token)).json() == [["acmeanalytics"], []]
        assert client.post("/two/register", data=form(token)).json() == [[], ["acmeanalytics"]]


class DictCache:
    """A shared cache for the marketplaces of one process."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        return self.values.get(key)

    def set(self, key: str, value: str, ttl: float) -> None:
        self.values[key] = value

    def lock(self, key: str) -> AbstractContextManager[object]:
        return nullcontext()


@pytest.mark.parametrize(("key", "calls"), [("k" * 32, 1), (OWN_KEY, 2)])
def test_one_shared_cache_for_two_accounts_needs_two_keys(
    key: str, calls: int, settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    cache = DictCache()
    token = marketplace.issue_token("new-product")
    for secret_key in (settings.secret_key, key):
        each = MarketplaceSettings(secret_key=secret_key, product_codes="*", endpoint_url=settings.endpoint_url)
        with TestClient(Marketplace(each, shared_cache=cache), follow_redirects=False) as client:
            assert client.post("/register", data=form(token)).status_code == 303
    assert len(marketplace.resolve_calls) == calls


@pytest.mark.parametrize("paths", [("/one", "/two"), ("/same", "/same")])
def test_with_the_middleware_twice_the_inner_one_is_asked_and_the_outer_one_answers_first(
    paths: tuple[str, str], settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    inner, outer = [
        Marketplace(
            MarketplaceSettings(
                secret_key=settings.secret_key,
                product_codes="*",
                endpoint_url=settings.endpoint_url,
                https_only=False,
                registration_path=path,
                session_cookie=name,
            )
        )
        for path, name in zip(paths, ("inner", "outer"), strict=True)
    ]
    app = FastAPI()
    app.add_middleware(MarketplaceMiddleware, inner)
    app.add_middleware(MarketplaceMiddleware, outer)

    @app.get("/signup")
    def show(request: Request) -> list[bool]:
        asked = get_registration(request), inner.get_registration(request), outer.get_registration(request)
        return [registration is not None for registration in asked]

    seen = {}
    for path in paths:
        with TestClient(app) as client:
            seen[path] = client.post(path, data=form(marketplace.issue_token("new-product"))).json()
    # By get_registration, the inner one, and the outer one.
    if paths[0] == paths[1]:
        assert seen == {"/same": [False, False, True]}
    else:
        assert seen == {"/one": [True, True, False], "/two": [False, False, True]}


# Going live


@pytest.fixture
def live(environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A browser at docs/src/going_live.py, over HTTPS."""
    monkeypatch.setenv("ALLOWED_HOSTS", "shop.example")
    monkeypatch.setenv("DATABASE", str(tmp_path / "signups.db"))
    monkeypatch.delenv("MARKETPLACE_HTTPS_ONLY")
    module = program("going_live")
    with TestClient(module.app, base_url="https://shop.example") as client:
        yield client


def test_the_program_for_production_signs_up_each_customer_once(
    live: TestClient, marketplace: LocalMarketplace
) -> None:
    token = marketplace.issue_token("new-product")
    for status in (200, 409):
        page = live.post(LANDING, data=form(token))
        assert page.url.path == "/signup"
        assert f"ending in {marketplace.buyer.account_id[-4:]}" in page.text
        assert [cookie.name[:19] for cookie in live.cookies.jar] == ["__Host-marketplace-"]
        answer = live.post("/signup", data={"email": "a@b.example"} | hidden_fields(page))
        assert answer.status_code == status
        assert (status == 200) or "<p>This AWS Marketplace subscription has an account already" in answer.text
        assert bool(live.cookies) == (status == 409), "what was not linked can still be linked otherwise"
    gone = live.post("/signup", data={"email": "a@b.example", "registration_id": "gone"})
    assert gone.status_code == 400


def test_the_signup_page_of_the_program_has_what_aws_wants_of_it(live: TestClient) -> None:
    page = live.get("/signup")
    assert 'name="email" type="email"' in page.text
    assert 'href="/login"' in page.text
    assert 'href="mailto:support@acme.example"' in page.text
    assert live.post("/signup", data={"email": "a@b.example"}).text == "Welcome, a@b.example!"
    assert 'href="mailto:support@acme.example"' in live.get(LANDING).text


def test_a_buyer_can_decline_a_subscription_of_somebody_else(live: TestClient, marketplace: LocalMarketplace) -> None:
    page = live.post(LANDING, data=form(marketplace.issue_token("new-product")))
    declined = live.post("/decline", data=hidden_fields(page))
    assert declined.url.path == "/signup"
    assert "AWS account" not in declined.text
    assert not live.cookies
    assert live.post("/decline", data={"registration_id": "gone"}).status_code == 200


@pytest.mark.parametrize("headers", FOREIGN)
def test_forms_of_other_sites_are_refused_and_that_of_aws_marketplace_is_not(
    headers: dict[str, str], live: TestClient, marketplace: LocalMarketplace
) -> None:
    page = live.post(LANDING, data=form(marketplace.issue_token("new-product")), headers=headers)
    assert page.url.path == "/signup"
    fields = {"email": "a@b.example"} | hidden_fields(page)
    for path in ("/signup", "/decline"):
        assert live.post(path, data=fields, headers=headers).status_code == 403
    for own in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": "https://shop.example"}):
        assert live.post("/decline", data=fields, headers=own).status_code == 200


def test_a_host_that_is_not_named_is_refused_before_aws_is_asked(
    live: TestClient, marketplace: LocalMarketplace
) -> None:
    answer = live.post(LANDING, data=form(marketplace.issue_token("new-product")), headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert not marketplace.resolve_calls


def test_behind_a_proxy_the_limit_is_that_of_each_buyer(
    environment: None, marketplace: LocalMarketplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "127.0.0.1")
    statuses = {}
    for trusted in ("127.0.0.0/8", "192.0.2.1"):
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", trusted)
        with running("going_live", tmp_path) as url, httpx2.Client(base_url=url, timeout=60) as proxy:
            buyers = ["203.0.113.1"] * 21 + ["203.0.113.2"]
            answers = [
                proxy.post(LANDING, data=form(f"junk-{number}"), headers={"X-Forwarded-For": buyer})
                for number, buyer in enumerate(buyers)
            ]
            statuses[trusted] = [answer.status_code for answer in answers[-2:]]
    assert statuses == {"127.0.0.0/8": [429, 400], "192.0.2.1": [429, 429]}


def policies() -> list[dict[str, Any]]:
    return [
        json.loads(text) for text in re.findall(r"^```json[^\n]*\n(.+?)^```$", GOING_LIVE, re.MULTILINE | re.DOTALL)
    ]


def variables(name: str) -> str:
    found = re.findall(rf"^export {name}=(\S+)(?: +#.*)?$", GOING_LIVE, re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


def test_the_policies_to_copy_allow_what_has_to_be_allowed_and_nothing_else() -> None:
    of_role, trust, of_app = [policy["Statement"] for policy in policies()]
    assert [policy["Version"] for policy in policies()] == ["2012-10-17"] * 3
    actions = [f"aws-marketplace:{name}" for name in ("ResolveCustomer", "GetEntitlements", "DescribeAgreement")]
    assert of_role == [{"Effect": "Allow", "Action": actions, "Resource": "*"}]
    assert re.findall(r"^\| `(aws-marketplace:\w+)` \|", GOING_LIVE, re.MULTILINE) == actions
    assert [statement["Action"] for statement in trust + of_app] == ["sts:AssumeRole"] * 2

    role_arn, external_id = variables("MARKETPLACE_ROLE_ARN"), variables("MARKETPLACE_ROLE_EXTERNAL_ID")
    assert of_app[0]["Resource"] == role_arn
    assert trust[0]["Condition"] == {"StringEquals": {"sts:ExternalId": external_id}}
    settings = MarketplaceSettings(
        secret_key=OWN_KEY, product_codes="*", role_arn=role_arn, role_external_id=external_id
    )
    app_account = trust[0]["Principal"]["AWS"].split(":")[4]
    assert settings.role_arn is not None
    assert settings.role_arn.split(":")[4] == variables("MARKETPLACE_SELLER_ACCOUNT_ID") != app_account


def test_the_actions_of_the_page_are_operations_that_aws_has() -> None:
    session = botocore.session.Session()
    actions = set(re.findall(r"\b(?:aws-marketplace|sts):(\w+)", GOING_LIVE)) - {"ExternalId"}
    services = ("meteringmarketplace", "marketplace-entitlement", "marketplace-agreement", "sts")
    operations = {name for service in services for name in session.get_service_model(service).operation_names}
    assert actions >= {"ResolveCustomer", "GetEntitlements", "DescribeAgreement", "AssumeRole"}
    assert actions <= operations


@mock_aws
def test_iam_takes_the_policies_to_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    of_role, trust, of_app = [json.dumps(policy) for policy in policies()]
    iam = boto3.client("iam", region_name="us-east-1")
    iam.create_role(RoleName="marketplace", AssumeRolePolicyDocument=trust)
    for name, policy in (("role", of_role), ("app", of_app)):
        iam.create_policy(PolicyName=name, PolicyDocument=policy)
