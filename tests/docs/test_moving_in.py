"""The programs of docs/moving-in: what those before do wrong, and that those after do not."""

import csv
import json
import logging
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import boto3
import httpx2
import pytest
from playwright.sync_api import Page
from starlette.testclient import TestClient

from starlette_marketplace.local import LocalMarketplace
from tests.docs.programs import ROOT, program, running
from tests.example_app.browser import hidden_fields
from tests.example_app.steps import set_up_account
from tests.support.hosts import LANDING, form
from tests.support.network import Fault, Network

pytestmark = pytest.mark.slow

SOURCES = ROOT / "docs/src/moving_in"
PASSWORD = "correct horse battery staple"
TOKEN_FIELD = "x-amzn-marketplace-token"

FOREIGN = [
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"},
    {"Origin": "https://sister.example"},
    {"Origin": "null"},
]
OWN = [{"Sec-Fetch-Site": "same-origin", "Origin": "null"}, {"Origin": "http://testserver"}, {}]

Product = Callable[[str], ModuleType]


@pytest.fixture
def folder(environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the programs run, with what the pages tell to set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_SECRET", "s" * 32)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("MARKETPLACE_MAX_ATTEMPTS", "1")
    return tmp_path


@pytest.fixture
def product(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Product]:
    """Starts docs/src/moving_in/<name>.py anew, on the database of those before it."""
    monkeypatch.syspath_prepend(SOURCES)

    def start(name: str) -> ModuleType:
        sys.modules.pop("members", None)
        return program(f"moving_in/{name}")

    yield start
    sys.modules.pop("members", None)


def visitor(app: Any) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


def arrive(client: TestClient, token: str) -> httpx2.Response:
    """Come by a cross-site POST, which takes no SameSite=Lax cookie along, and go on as a browser does."""
    response = TestClient(client.app, raise_server_exceptions=False, follow_redirects=False).post(
        LANDING, data=form(token)
    )
    client.cookies.extract_cookies(response)
    return client.get(response.headers["location"]) if response.has_redirect_location else response


def sign_up(client: TestClient, page: httpx2.Response, email: str) -> httpx2.Response:
    return client.post("/signup", data={"email": email, "password": PASSWORD} | hidden_fields(page))


def log_in(client: TestClient, email: str) -> None:
    assert f"logged in as {email}" in client.post("/login", data={"email": email, "password": PASSWORD}).text


def user_of(client: TestClient) -> str | None:
    home = client.get("/").text
    return home.partition("logged in as ")[2].rstrip(".") or None


def rows(folder: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(folder / "product.db")) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("SELECT * FROM subscription ORDER BY rowid")]


# The endpoint: each fault that the page numbers, before and after.


@pytest.fixture
def held_aws(to_aws: Network, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setenv("AWS_ENDPOINT_URL_MARKETPLACE_METERING", to_aws.url)
    to_aws.suffer(Fault.SILENCE)
    return to_aws


def test_while_aws_thinks_the_endpoint_before_answers_nobody(
    held_aws: Network, folder: Path, marketplace: LocalMarketplace
) -> None:
    token = marketplace.issue_token("legacy-product")
    with running("moving_in/endpoint_before", folder) as url, ThreadPoolExecutor() as threads:
        buyer = threads.submit(httpx2.post, f"{url}{LANDING}", data=form(token), timeout=60)
        held_aws.held.acquire()
        with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) as other:
            other.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            held_aws.mend()
            assert other.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
        assert buyer.result().status_code == 303
    assert answered(folder) == ["POST", "GET"]


def test_while_aws_thinks_the_endpoint_after_answers_others(
    held_aws: Network, folder: Path, marketplace: LocalMarketplace
) -> None:
    token = marketplace.issue_token("legacy-product")
    with running("moving_in/endpoint_after", folder) as url, ThreadPoolExecutor() as threads:
        buyer = threads.submit(httpx2.post, f"{url}{LANDING}", data=form(token), timeout=60)
        held_aws.held.acquire()
        assert httpx2.get(url, timeout=60).status_code == 200
        held_aws.mend()
        assert buyer.result().status_code == 303
    assert answered(folder) == ["GET", "POST"]


def answered(folder: Path) -> list[str]:
    """The methods in the access log, in the order of the answers."""
    return [line.partition('"')[2].partition(" ")[0] for line in (folder / "stdout").read_text().splitlines()]


@pytest.mark.parametrize(("name", "status"), [("endpoint_before", 405), ("endpoint_after", 200)])
def test_a_get_is_answered_after(product: Product, name: str, status: int) -> None:
    assert visitor(product(name).app).get(LANDING).status_code == status


@pytest.mark.parametrize(("name", "is_there"), [("endpoint_before", True), ("endpoint_after", False)])
def test_the_token_is_in_the_log_before(
    product: Product, marketplace: LocalMarketplace, caplog: pytest.LogCaptureFixture, name: str, is_there: bool
) -> None:
    caplog.set_level(logging.INFO)
    token = marketplace.issue_token("legacy-product")
    assert arrive(visitor(product(name).app), token).url.path == "/signup"
    assert "egistration" in caplog.text
    assert (token in caplog.text) is is_there


@pytest.mark.parametrize(("name", "status"), [("endpoint_before", 400), ("endpoint_after", 503)])
@pytest.mark.parametrize("scenario", ["throttled", "expired-credentials"])
def test_our_own_trouble_is_told_as_the_buyers_before(
    product: Product, marketplace: LocalMarketplace, scenario: str, name: str, status: int
) -> None:
    response = arrive(visitor(product(name).app), marketplace.issue_token(scenario))
    assert response.status_code == status
    assert ("subscribe again" in response.text) is (name == "endpoint_before")


@pytest.mark.parametrize(("name", "status"), [("endpoint_before", 500), ("endpoint_after", 200)])
def test_a_customer_of_a_new_product_is_an_error_before(
    product: Product, marketplace: LocalMarketplace, name: str, status: int
) -> None:
    assert arrive(visitor(product(name).app), marketplace.issue_token("new-product")).status_code == status


def test_two_customers_of_a_new_product_get_two_accounts_after(
    product: Product, marketplace: LocalMarketplace, folder: Path
) -> None:
    app = product("endpoint_after").app
    agreements = [marketplace.issue_token(scenario) for scenario in ("new-product", "second-agreement")]
    for number, token in enumerate(agreements):
        client = visitor(app)
        page = arrive(client, token)
        assert f"ending in {marketplace.buyer.account_id[-4:]}" in page.text
        assert sign_up(client, page, f"{number}@b.example").status_code == 200
        assert user_of(client) == f"{number}@b.example"
        assert not [name for name in client.cookies if name.startswith("marketplace-")]
    assert len({row["customer_key"] for row in rows(folder)}) == 2


@pytest.mark.parametrize(("name", "user"), [("endpoint_before", "old@b.example"), ("endpoint_after", None)])
def test_whoever_holds_a_token_is_logged_in_as_the_owner_before(
    product: Product, marketplace: LocalMarketplace, name: str, user: str | None
) -> None:
    app, token = product(name).app, marketplace.issue_token("legacy-product")
    owner, stranger = visitor(app), visitor(app)
    sign_up(owner, arrive(owner, token), "old@b.example")
    assert user_of(owner) == "old@b.example"
    page = arrive(stranger, token)
    assert user_of(stranger) == user
    assert ("has an account already" in page.text) is (user is None)


@pytest.mark.parametrize(("name", "user"), [("endpoint_before", None), ("endpoint_after", "old@b.example")])
def test_a_user_who_is_logged_in_is_logged_out_by_arriving_before(
    product: Product, marketplace: LocalMarketplace, name: str, user: str | None
) -> None:
    client = visitor(product(name).app)
    sign_up(client, client.get("/signup"), "old@b.example")
    assert user_of(client) == "old@b.example"
    arrive(client, marketplace.issue_token("legacy-product"))
    assert user_of(client) == user


@pytest.mark.parametrize(("name", "status"), [("endpoint_before", 200), ("endpoint_after", 403)])
def test_a_customer_of_another_product_may_sign_up_before(
    product: Product, marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch, name: str, status: int
) -> None:
    monkeypatch.setenv("MARKETPLACE_PRODUCT_CODES", "acmeanalytics")
    page = arrive(visitor(product(name).app), marketplace.issue_token("legacy-product"))
    assert page.status_code == status
    assert bool(hidden_fields(page) or "Sign up" in page.text) is (status == 200)


@pytest.mark.parametrize(("name", "linked"), [("endpoint_before", "other"), ("endpoint_after", "shown")])
def test_the_form_of_one_tab_signs_up_the_customer_of_another_before(
    product: Product, marketplace: LocalMarketplace, folder: Path, name: str, linked: str
) -> None:
    client = visitor(product(name).app)
    accounts = {"shown": marketplace.buyer.account_id}
    page = arrive(client, marketplace.issue_token("legacy-product"))
    marketplace.shop_as_another_buyer()
    accounts["other"] = marketplace.buyer.account_id
    arrive(client, marketplace.issue_token("legacy-product"))
    sign_up(client, page, "a@b.example")
    assert [row["aws_account_id"] for row in rows(folder)] == [accounts[linked]]


@pytest.mark.parametrize("name", ["endpoint_after", "endpoint_between"])
def test_who_does_not_come_from_aws_signs_up_and_a_lost_registration_is_told(product: Product, name: str) -> None:
    if name == "endpoint_between":
        product("endpoint_before")
        migrate()
    client = visitor(product(name).app)
    page = client.get("/signup")
    assert page.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert sign_up(client, page, "a@b.example").status_code == 200
    assert user_of(client) == "a@b.example"
    assert sign_up(visitor(client.app), page, "a@b.example").status_code == 409
    lost = client.post("/signup", data={"email": "c@d.example", "password": PASSWORD, "registration_id": "gone"})
    assert lost.status_code == 400


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("endpoint_after", "/signup"),
        ("endpoint_after", "/decline"),
        ("endpoint_between", "/signup"),
        ("endpoint_between", "/link"),
        ("endpoint_between", "/decline"),
        ("token_in_url_after", "/signup"),
        ("token_in_url_after", "/decline"),
    ],
)
def test_forms_of_other_origins_are_refused(product: Product, name: str, path: str) -> None:
    data = {"email": "e@f.example", "password": PASSWORD, "registration_id": "any"}
    client = visitor(product(name).app)
    for headers in FOREIGN:
        assert client.post(path, data=data, headers=headers).status_code == 403


@pytest.mark.parametrize("name", ["endpoint_after", "endpoint_between", "token_in_url_after"])
@pytest.mark.parametrize("headers", OWN)
def test_who_is_not_of_that_account_says_so_and_signs_up_without_it(
    product: Product, marketplace: LocalMarketplace, name: str, headers: dict[str, str]
) -> None:
    if name == "endpoint_between":
        product("endpoint_before")
        migrate()
    client = visitor(product(name).app)
    page = arrive(client, marketplace.issue_token("new-product"))
    assert page.headers["cache-control"] == "no-store"
    assert 'action="/decline"' in page.text
    assert "Not mine" in page.text
    after = client.post("/decline", data=hidden_fields(page), headers=headers)
    assert after.url.path == "/signup"
    assert not hidden_fields(after)
    assert not client.cookies
    assert client.post("/signup", data={"email": "a@b.example", "password": PASSWORD}).status_code == 200
    assert client.post("/decline", data=hidden_fields(page), headers=headers).url.path == "/signup"


# The data: rows that the endpoint before has written.


Record = tuple[str, str, str, str]
COLUMNS = ("customer_identifier", "product_code", "aws_account_id", "license_arn")


def migrate(records: list[Record] | None = None, *, columns: tuple[str, ...] = COLUMNS, encoding: str = "utf-8") -> str:
    command = [sys.executable, "-W", "error", str(SOURCES / "endpoint_migration.py")]
    if records is not None:
        with Path("records.csv").open("w", newline="", encoding=encoding) as file:
            csv.writer(file).writerows([columns, *records])
        command.append("records.csv")
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def change(folder: Path, statement: str, *values: str | None) -> None:
    with closing(sqlite3.connect(folder / "product.db")) as database, database:
        database.execute(statement, values)


@pytest.fixture
def old_customer(product: Product, marketplace: LocalMarketplace) -> str:
    """The registration token of a customer who signed up at the endpoint before."""
    client = visitor(product("endpoint_before").app)
    token = marketplace.issue_token("legacy-product")
    sign_up(client, arrive(client, token), "old@b.example")
    return token


@pytest.mark.parametrize("blank", ["aws_account_id", "customer_identifier"])
def test_an_old_customer_who_comes_again_finds_the_old_account(
    old_customer: str, product: Product, folder: Path, blank: str
) -> None:
    change(folder, f"UPDATE subscription SET {blank} = NULL")
    assert migrate() == migrate() == "1 rows wait for their customer to come\n"
    client = visitor(product("endpoint_between").app)
    page = arrive(client, old_customer)
    assert "Your company has an account" in page.text
    assert "old@b.example" not in page.text
    assert "Sign up" not in page.text
    [(registration_name, _)] = client.cookies.items()
    registration_id = registration_name.removeprefix("marketplace-")
    anew = {"email": "new@b.example", "password": PASSWORD, "registration_id": registration_id}
    assert client.post("/signup", data=anew).status_code == 409
    assert client.post("/link", data=anew).status_code == 400, "nobody is logged in"

    log_in(client, "old@b.example")
    page = client.get("/signup")
    assert client.post("/link", data=hidden_fields(page)).text.endswith("Linked.")
    [row] = rows(folder)
    assert row["email"] == "old@b.example"
    assert row["customer_key"] == f"acmelegacy:{row['aws_account_id']}"
    assert migrate().startswith("0 rows")

    again = visitor(product("endpoint_after").app)
    assert "has an account already" in arrive(again, old_customer).text


def test_the_endpoint_before_goes_on_beside_the_one_in_between(
    old_customer: str, product: Product, folder: Path, marketplace: LocalMarketplace
) -> None:
    migrate()
    marketplace.shop_as_another_buyer()
    token = marketplace.issue_token("legacy-product")
    client = visitor(product("endpoint_before").app)
    sign_up(client, arrive(client, token), "late@b.example")
    client = visitor(product("endpoint_between").app)
    arrive(client, token)
    log_in(client, "late@b.example")
    client.post("/link", data=hidden_fields(client.get("/signup")))
    assert [(row["email"], row["customer_key"] is None) for row in rows(folder)] == [
        ("old@b.example", True),
        ("late@b.example", False),
    ]


def test_an_account_that_is_not_the_old_one_is_not_linked(old_customer: str, product: Product, folder: Path) -> None:
    migrate()
    client = visitor(product("endpoint_between").app)
    sign_up(client, client.get("/signup"), "other@b.example")
    page = arrive(client, old_customer)
    assert "Is this the subscription of" not in page.text
    [registration_name] = [name for name in client.cookies if name.startswith("marketplace-")]
    data = {"registration_id": registration_name.removeprefix("marketplace-")}
    assert client.post("/link", data=data).status_code == 409
    assert [row["customer_key"] for row in rows(folder)] == [None]


def test_the_link_is_made_to_the_account_that_the_page_has_named(
    old_customer: str, product: Product, folder: Path
) -> None:
    migrate()
    client = visitor(product("endpoint_between").app)
    sign_up(client, client.get("/signup"), "twin@b.example")
    columns = "email, product_code, aws_account_id"
    change(
        folder,
        f"INSERT INTO subscription ({columns}) SELECT ?, product_code, aws_account_id FROM subscription",
        "twin@b.example",
    )
    log_in(client, "old@b.example")
    arrive(client, old_customer)
    page = client.get("/signup")
    log_in(client, "twin@b.example")
    assert client.post("/link", data=hidden_fields(page)).status_code == 409
    assert [row["customer_key"] for row in rows(folder)] == [None, None]
    assert client.post("/link", data=hidden_fields(client.get("/signup"))).text.endswith("Linked.")
    assert [row["customer_key"] is None for row in rows(folder)] == [True, False]


@pytest.fixture
def old_row_of_a_new_product(old_customer: str, folder: Path, marketplace: LocalMarketplace) -> None:
    """The row of a product whose answers have no CustomerIdentifier any more, and a licence instead."""
    change(folder, "UPDATE subscription SET product_code = 'acmeanalytics', customer_identifier = 'from-before'")
    migrate()


def test_two_agreements_of_an_old_customer_are_not_merged(
    old_row_of_a_new_product: None, product: Product, folder: Path, marketplace: LocalMarketplace
) -> None:
    app = product("endpoint_between").app
    tokens = [marketplace.issue_token(scenario) for scenario in ("new-product", "second-agreement")]
    client = visitor(app)
    assert "another subscription" in arrive(client, tokens[0]).text
    log_in(client, "old@b.example")
    page = client.get("/signup")
    assert "Is this the subscription of old@b.example?" in page.text
    client.post("/link", data=hidden_fields(page))
    page = arrive(client, tokens[1])
    assert "Is this the subscription of" not in page.text
    sign_up(client, page, "second@b.example")
    first, second = rows(folder)
    assert (first["email"], second["email"]) == ("old@b.example", "second@b.example")
    assert first["customer_key"] != second["customer_key"]
    assert "has an account already" in arrive(client, tokens[0]).text


def test_the_second_agreement_may_come_before_the_old_one(
    old_row_of_a_new_product: None, product: Product, folder: Path, marketplace: LocalMarketplace
) -> None:
    app = product("endpoint_between").app
    client = visitor(app)
    sign_up(client, arrive(client, marketplace.issue_token("second-agreement")), "second@b.example")
    client = visitor(app)
    assert "Your company has an account" in arrive(client, marketplace.issue_token("new-product")).text
    log_in(client, "old@b.example")
    client.post("/link", data=hidden_fields(client.get("/signup")))
    old, second = rows(folder)
    assert None not in {old["customer_key"], second["customer_key"]}
    assert old["customer_key"] != second["customer_key"]


def test_a_customer_without_a_customer_identifier_signs_up_in_between(
    old_customer: str, product: Product, folder: Path, marketplace: LocalMarketplace
) -> None:
    migrate()
    app = product("endpoint_between").app
    for scenario in ("new-product", "second-agreement"):
        client = visitor(app)
        page = arrive(client, marketplace.issue_token(scenario))
        assert "Your company has an account" not in page.text
        assert sign_up(client, page, f"{scenario}@b.example").status_code == 200
    old, *new = rows(folder)
    assert old["customer_key"] is None
    assert [row["customer_identifier"] for row in new] == [None, None]


@pytest.fixture
def old_rows(product: Product, folder: Path) -> Callable[..., None]:
    """Adds a row that the endpoint before has written, or with a key one that the program in between has."""
    product("endpoint_before")
    migrate()

    def add(name: str, account: str | None = None, *, code: str = "acmelegacy", key: str | None = None) -> None:
        columns = "(email, customer_identifier, product_code, aws_account_id, customer_key)"
        change(
            folder, f"INSERT INTO subscription {columns} VALUES (?, ?, ?, ?, ?)", f"{name}@b", name, code, account, key
        )

    return add


def license_of(name: str) -> str:
    return f"arn:aws:license-manager::111122223333:license:l-{name}"


def known_of(folder: Path) -> dict[str, tuple[str | None, str | None]]:
    return {row["customer_identifier"]: (row["aws_account_id"], row["customer_key"]) for row in rows(folder)}


OURS, OTHER, ZERO = "1" * 12, "2" * 12, "012345678901"
NO_ACCOUNT, NO_LICENSE = "left alone: an AWS account that has not 12 digits", "left alone: a licence that is none"

# Of each customer: the account that is stored, what the records say, what is stored then, and what is told.
RECORDS: dict[str, tuple[str | None, list[tuple[str, str]], str | None, str | None, str]] = {
    "empty": (None, [(OURS, license_of("1"))], OURS, license_of("1"), "has its key"),
    "blank": ("", [(OURS, license_of("2"))], OURS, license_of("2"), "has its key"),
    "same": (OURS, [(OURS, license_of("3"))], OURS, license_of("3"), "has its key"),
    "no-account": (OURS, [("", "")], OURS, None, NO_ACCOUNT),
    "no-zero": (ZERO, [(ZERO.lstrip("0"), license_of("4"))], ZERO, None, NO_ACCOUNT),
    "no-zero-yet": (None, [(ZERO.lstrip("0"), license_of("5"))], None, None, NO_ACCOUNT),
    "other-account": (ZERO, [(OURS, license_of("6"))], ZERO, None, "left alone: the row has another AWS account"),
    "two-accounts": (None, [(OURS, license_of("7")), (OTHER, license_of("7"))], None, None,
                     "left alone: several AWS accounts"),
    "no-license": (None, [(OURS, "")], OURS, None, "waits: no licence"),
    "bad-license": (None, [(OURS, "l-8")], None, None, NO_LICENSE),
    "one-bad-of-two": (None, [(OURS, license_of("9")), (OURS, "arn:L1")], None, None, NO_LICENSE),
    "two-licenses": (None, [(OURS, license_of("10")), (OURS, license_of("11"))], OURS, None,
                     "waits: several licences, of which the customer chooses by coming"),
    "signed-up-anew": (None, [(OURS, license_of("anew"))], OURS, None,
                       "waits for you: another row has this licence, as the customer has signed up anew"),
    "twin": (None, [(OURS, license_of("12"))], None, None, "left alone: a licence of several customers"),
    "twin-too": (None, [(OTHER, license_of("12"))], None, None, "left alone: a licence of several customers"),
    "last": (None, [(OTHER, license_of("13"))], OTHER, license_of("13"), "has its key"),
}  # fmt: skip


def test_records_of_aws_fill_what_is_empty_and_leaves_no_choice_and_the_rest_is_told(
    old_rows: Callable[..., None], folder: Path
) -> None:
    old_rows("came-before", OTHER, key=license_of("anew"))
    records = []
    for name, (stored, agreements, *_) in RECORDS.items():
        old_rows(name, stored)
        records += [(name, "acmelegacy", *agreement) for agreement in agreements]
    *outcomes, waiting = migrate([*records, ("nobody", "acmelegacy", OURS, "")]).splitlines()
    found = known_of(folder)
    assert found.pop("came-before") == (OTHER, license_of("anew"))
    assert found == {name: (account, key) for name, (_, _, account, key, _) in RECORDS.items()}
    told = [f"{name} acmelegacy: {outcome}" for name, (*_, outcome) in RECORDS.items()]
    assert outcomes == [*told, "nobody acmelegacy: no row waits"]
    assert waiting == f"{len([key for _, key in found.values() if key is None])} rows wait for their customer to come"


def test_records_of_one_product_give_no_row_of_another_its_licence(
    old_rows: Callable[..., None], product: Product, folder: Path, marketplace: LocalMarketplace
) -> None:
    old_rows("from-before")
    client = visitor(product("endpoint_between").app)
    page = arrive(client, marketplace.issue_token("new-product"))
    sign_up(client, page, "new@b.example")
    marketplace.shop_as_another_buyer()
    token = marketplace.issue_token("new-product")
    client = visitor(client.app)
    arrive(client, token)
    [cookie] = client.cookies.values()
    customer = decoded(cookie)
    record = ("from-before", "acmeanalytics", customer["aws_account_id"], customer["license_arn"])
    assert migrate([record]).startswith("from-before acmeanalytics: no row waits\n")
    assert known_of(folder)["from-before"] == (None, None)
    assert sign_up(client, client.get("/signup"), "b@b.example").status_code == 200


@pytest.mark.parametrize("keys", [[], ["acmelegacy:222222222222"], [license_of("0"), "acmelegacy:222222222222"]])
def test_no_licence_becomes_a_key_where_the_answers_of_aws_may_have_none(
    old_rows: Callable[..., None], folder: Path, keys: list[str]
) -> None:
    old_rows("elsewhere", OTHER, code="acmeanalytics", key=license_of("2"))
    for number, key in enumerate(keys):
        old_rows(f"came-{number}", OTHER, key=key)
    old_rows("old")
    assert "old acmelegacy: waits: it is not proven" in migrate([("old", "acmelegacy", OURS, license_of("1"))])
    assert known_of(folder)["old"] == (OURS, None)


def test_the_licence_of_a_customer_who_signed_up_anew_stops_no_other_record(
    old_row_of_a_new_product: None, product: Product, folder: Path, marketplace: LocalMarketplace
) -> None:
    client = visitor(product("endpoint_between").app)
    sign_up(client, arrive(client, marketplace.issue_token("new-product")), "anew@b.example")
    old, anew = rows(folder)
    record = ("from-before", "acmeanalytics", old["aws_account_id"], anew["customer_key"])
    told, waiting = migrate([record]).splitlines()
    assert told.startswith("from-before acmeanalytics: waits for you")
    assert waiting.startswith("1 rows")
    assert rows(folder) == [old, anew]


def test_a_row_that_its_customer_links_during_the_migration_keeps_what_the_customer_chose(
    old_rows: Callable[..., None], product: Product, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_rows("came-before", OTHER, key=license_of("0"))
    old_rows("old")
    migration = product("endpoint_migration")
    transaction = migration.transaction
    came: list[str] = []

    def come(statement: str) -> None:
        # The migration has read the row, and is about to write.
        if statement.startswith("BEGIN") and not came:
            came.append(statement)
            change(folder, "UPDATE subscription SET customer_key = ? WHERE email = 'old@b'", license_of("chosen"))

    @contextmanager
    def watched() -> Iterator[sqlite3.Connection]:
        with transaction() as database:
            database.set_trace_callback(come)
            yield database

    monkeypatch.setattr(migration, "transaction", watched)
    assert migration.fill(("old", "acmelegacy"), {(OURS, license_of("1"))}) == "no row waits"
    assert came
    assert known_of(folder)["old"] == (None, license_of("chosen"))


def test_records_with_a_byte_order_mark_are_read(old_rows: Callable[..., None], folder: Path) -> None:
    old_rows("old")
    migrate([("old", "acmelegacy", OURS, "")], encoding="utf-8-sig")
    assert known_of(folder) == {"old": (OURS, None)}


def test_records_without_a_column_are_told(old_rows: Callable[..., None]) -> None:
    columns = ("customer_identifier;product_code", "aws_account_id", "license_arn")
    with pytest.raises(AssertionError, match=r"^records\.csv has no column customer_identifier, product_code\n"):
        migrate([], columns=columns)


# A token in the URL.


@pytest.fixture
def token_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JWT_SECRET", "j" * 32)
    return folder


class Seen:
    """What a browser showed and sent on its way from the storefront to the signup form."""

    def __init__(self, page: Page, storefront: str, url: str) -> None:
        with page.expect_request(f"{url}/acme.css") as style:
            set_up_account(page, storefront, "new-product")
        page.get_by_label("E-mail").fill("a@b.example")
        self.address = page.url
        self.referer = style.value.all_headers().get("referer", "")
        page.get_by_role("button", name="Sign up").click()
        page.wait_for_load_state()
        self.answer = page.locator("body").inner_text()


@pytest.mark.parametrize(("name", "is_there"), [("token_in_url_before", True), ("token_in_url_after", False)])
def test_the_token_is_in_address_access_log_and_referer_before(
    token_folder: Path, page: Page, storefront: str, marketplace: LocalMarketplace, name: str, is_there: bool
) -> None:
    with running(f"moving_in/{name}", token_folder) as url:
        marketplace.registration_url = url + LANDING
        seen = Seen(page, storefront, url)
    log = (token_folder / "stdout").read_text()
    assert len(marketplace.resolve_calls) == 1
    assert seen.answer == "Welcome, a@b.example!"
    for where in (seen.address, seen.referer, log):
        assert "/signup" in where
        assert (f"{TOKEN_FIELD}=" in where) is is_there


def test_whoever_finds_the_address_in_a_log_takes_the_account_over_before(
    token_folder: Path, marketplace: LocalMarketplace
) -> None:
    for name in ("token_in_url_before", "jwt_in_url_before"):
        module = program(f"moving_in/{name}")
        link = visitor(module.app).post(LANDING, data=form(marketplace.issue_token("new-product"))).url
        with TestClient(module.app) as finder:
            data = {"email": "thief@b.example", "token": parse_qs(link.query.decode()).get(TOKEN_FIELD, [""])[0]}
            for email in ("a@b.example", "thief@b.example"):
                answer = finder.post(str(link), data=data | {"email": email})
                assert answer.text == f"Welcome, {email}!"
        assert list(module.accounts.values()) == ["thief@b.example"]


def test_the_address_is_worth_nothing_to_a_finder_after(token_folder: Path, marketplace: LocalMarketplace) -> None:
    app = program("moving_in/token_in_url_after").app
    buyer, finder = visitor(app), visitor(app)
    page = arrive(buyer, marketplace.issue_token("new-product"))
    assert page.url.query == b""
    assert hidden_fields(page)
    assert not hidden_fields(finder.get(str(page.url)))
    assert finder.post("/signup", data={"email": "thief@b.example"} | hidden_fields(page)).status_code == 400
    assert buyer.post("/signup", data={"email": "a@b.example"} | hidden_fields(page)).status_code == 200
    page = arrive(buyer, marketplace.issue_token("new-product"))
    assert buyer.post("/signup", data={"email": "a@b.example"} | hidden_fields(page)).status_code == 409
    assert buyer.post("/signup", data={"email": "c@d.example"}).status_code == 200


@pytest.mark.parametrize("parameter", [TOKEN_FIELD, "token"])
def test_an_old_link_leads_to_help_on_an_address_without_the_token(
    token_folder: Path, marketplace: LocalMarketplace, parameter: str
) -> None:
    client = visitor(program("moving_in/token_in_url_after").app)
    token = marketplace.issue_token("new-product")
    page = client.get("/signup", params={parameter: token})
    assert page.url.path == "/signup/old-link"
    assert page.url.query == b""
    assert "once more: that gives you a new link" in page.text
    assert not marketplace.resolve_calls


def test_an_old_link_goes_on_while_it_lives_where_that_is_asked_for(
    token_folder: Path, marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSWERS_OLD_LINKS", "true")
    client = visitor(program("moving_in/token_in_url_after").app)
    page = client.get("/signup", params={TOKEN_FIELD: marketplace.issue_token("new-product")})
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert "acme.css" not in page.text
    page = client.post(LANDING, data=hidden_fields(page))
    assert f"ending in {marketplace.buyer.account_id[-4:]}" in page.text
    hostile = client.get("/signup", params={TOKEN_FIELD: '"><script>alert(1)</script>'})
    assert "<script>" not in hostile.text


@pytest.mark.parametrize("answers_old_links", ["true", "false"])
def test_below_a_root_path_all_addresses_are_below_it(
    token_folder: Path, marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch, answers_old_links: str
) -> None:
    monkeypatch.setenv("ANSWERS_OLD_LINKS", answers_old_links)
    client = TestClient(program("moving_in/token_in_url_after").app, root_path="/shop")
    token = marketplace.issue_token("new-product")
    page = client.get("/shop/signup", params={TOKEN_FIELD: token})
    if answers_old_links == "true":
        assert actions(page) == ["/shop/marketplace/register"]
        page = client.post(actions(page)[0], data=hidden_fields(page))
        assert f"ending in {marketplace.buyer.account_id[-4:]}" in page.text
        assert actions(page) == ["/shop/decline"]
        assert client.post(actions(page)[0], data=hidden_fields(page)).url.path == "/shop/signup"
    else:
        assert (page.url.path, page.status_code) == ("/shop/signup/old-link", 200)
    assert 'href="/shop/acme.css"' in page.text
    assert client.get("/shop/acme.css").status_code == 200


def actions(page: httpx2.Response) -> list[str]:
    return re.findall('action="([^"]*)"', page.text)


# The Lambda function.

LAMBDA = """
import json
import sys

sys.path.insert(0, {folder!r})
import lambda_app

handler = lambda_app.Mangum(lambda_app.app) if {has_lifespan} else lambda_app.handler
for event in sys.stdin:
    print(json.dumps(handler(json.loads(event), None)), flush=True)
"""


class Environment:
    """An execution environment of Lambda: one process that handles one event at a time, and is frozen in between."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.cookies: dict[str, str] = {}

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def handle(self, event: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(event) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def ask(
        self, method: str, path: str, data: dict[str, str] | None = None, more_headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """By a REST API behind CloudFront, as the sample has one."""
        host = "abcde12345.execute-api.us-east-1.amazonaws.com"
        headers = {"Host": host, "X-Forwarded-Proto": "https"} | (more_headers or {})
        if data is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self.handle(
            {
                "resource": "/{proxy+}",
                "path": path,
                "httpMethod": method,
                "headers": headers,
                "multiValueHeaders": {name: [value] for name, value in headers.items()},
                "queryStringParameters": None,
                "multiValueQueryStringParameters": None,
                "requestContext": {"stage": "Prod", "path": f"/Prod{path}", "identity": {"sourceIp": "192.0.2.1"}},
                "body": None if data is None else urlencode(data),
                "isBase64Encoded": False,
            }
        )
        set_cookie = answer["headers"].get("set-cookie")
        if set_cookie:
            name, _, value = set_cookie.partition(";")[0].partition("=")
            self.cookies[name] = value.strip('"')
            if "Max-Age=0" in set_cookie:
                del self.cookies[name]
        return answer


@contextmanager
def environment_of_lambda(*, has_lifespan: bool = False) -> Iterator[Environment]:
    code = LAMBDA.format(folder=str(SOURCES), has_lifespan=has_lifespan)
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Environment(process)
            process.communicate()
        finally:
            process.kill()


@pytest.fixture
def table(moto: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The sample's table of subscribers, and the environment variables of the function."""
    for name, value in {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_DYNAMODB": moto,
        "SUBSCRIBERS_TABLE": "AWSMarketplaceSubscribers",
        "PUBLIC_HOST": "acme.example",
        "MARKETPLACE_HTTPS_ONLY": "true",
    }.items():
        monkeypatch.setenv(name, value)
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    with closing(session.client("dynamodb", endpoint_url=moto)) as dynamodb:
        dynamodb.create_table(
            TableName="AWSMarketplaceSubscribers",
            AttributeDefinitions=[{"AttributeName": "customerIdentifier", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "customerIdentifier", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )
        yield dynamodb
        dynamodb.delete_table(TableName="AWSMarketplaceSubscribers")


PERSON = {"company": "Globex", "person": "Hank", "phone": "1", "email": "a@b.example"}


def items(table: Any) -> list[dict[str, Any]]:
    return [
        {name: next(iter(value.values())) for name, value in item.items()}
        for item in table.scan(TableName="AWSMarketplaceSubscribers")["Items"]
    ]


@pytest.mark.parametrize("has_lifespan", [False, True])
def test_in_lambda_a_customer_signs_up_once_and_what_an_event_wrote_stays(
    table: Any, marketplace: LocalMarketplace, has_lifespan: bool
) -> None:
    token = marketplace.issue_token("new-product")
    with environment_of_lambda(has_lifespan=has_lifespan) as function:
        assert function.ask("GET", LANDING)["statusCode"] == 200
        assert "In AWS Marketplace, open Manage subscriptions" in function.ask("GET", "/signup")["body"]
        for status in (200, 409):
            answer = function.ask("POST", LANDING, form(token))
            assert (answer["statusCode"], answer["headers"]["location"]) == (303, "/signup")
            page = function.ask("GET", "/signup")
            assert page["headers"]["cache-control"] == "no-store"
            assert f"ending in {marketplace.buyer.account_id[-4:]}" in page["body"]
            hidden = hidden_fields(httpx2.Response(200, text=page["body"]))
            if status == 200:
                identity = decoded(function.cookies[f"__Host-marketplace-{hidden['registration_id']}"])
                key = {"customerIdentifier": {"S": identity["license_arn"]}}
                event = {":yes": {"BOOL": True}}
                table.update_item(
                    TableName="AWSMarketplaceSubscribers",
                    Key=key,
                    UpdateExpression="SET successfully_subscribed = :yes",
                    ExpressionAttributeValues=event,
                )
            assert function.ask("POST", "/signup", PERSON | hidden)["statusCode"] == status
        assert function.cookies, "what was not linked can still be"
    [item] = items(table)
    assert item["customerIdentifier"] == identity["license_arn"]
    assert (item["contactEmail"], item["successfully_subscribed"]) == ("a@b.example", True)
    assert len(marketplace.resolve_calls) == 1


# What src/register-new-subscriber.js writes: in the sample's version with SNS topics, and in that with EventBridge.
FORM = {"companyName", "contactPerson", "contactPhone", "contactEmail"}
OF_SNS = FORM | {"customerIdentifier", "productCode", "customerAWSAccountID", "created"}
OF_EVENTBRIDGE = FORM | {
    "customerIdentifier",
    "productCode",
    "customerAwsAccountId",
    "successfully_registered",
    "updated_at",
}


@pytest.mark.parametrize("has_handlers", [False, True])
def test_an_item_has_the_attributes_that_the_sample_gives_it(
    table: Any, marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch, has_handlers: bool
) -> None:
    monkeypatch.setenv("HAS_SNS_HANDLERS", str(has_handlers).lower())
    with environment_of_lambda() as function:
        assert register(function, marketplace.issue_token("legacy-product")) == 200
    [item] = items(table)
    assert set(item) == (OF_SNS if has_handlers else OF_EVENTBRIDGE)
    account = item["customerAWSAccountID" if has_handlers else "customerAwsAccountId"]
    assert (account, item["productCode"]) == (marketplace.buyer.account_id, "acmelegacy")
    if has_handlers:
        assert re.fullmatch("[0-9]{13}", item["created"])
    else:
        assert item["successfully_registered"] is True
        assert re.fullmatch(r"[0-9-]{10}T[0-9:]{8}\.[0-9]{3}Z", item["updated_at"])


def register(function: Environment, token: str) -> int:
    """Come with `token`, send the form, and return the status of the answer."""
    function.ask("POST", LANDING, form(token))
    [name] = function.cookies
    hidden = {"registration_id": name.removeprefix("__Host-marketplace-")}
    status: int = function.ask("POST", "/signup", PERSON | hidden)["statusCode"]
    return status


@pytest.mark.parametrize("had_handlers", [True, False])
def test_a_customer_who_is_registered_under_one_key_is_not_registered_under_the_other(
    table: Any, marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch, had_handlers: bool
) -> None:
    token = marketplace.issue_token("legacy-product")
    monkeypatch.setenv("HAS_SNS_HANDLERS", str(had_handlers).lower())
    with environment_of_lambda() as function:
        assert register(function, token) == 200
    [before] = items(table)
    monkeypatch.setenv("HAS_SNS_HANDLERS", str(not had_handlers).lower())
    with environment_of_lambda() as function:
        assert register(function, token) == 409
    assert items(table) == [before]


def test_an_old_item_that_only_an_event_has_written_keeps_nobody_from_registering(
    table: Any, marketplace: LocalMarketplace
) -> None:
    token = marketplace.issue_token("legacy-product")
    with environment_of_lambda() as function:
        function.ask("POST", LANDING, form(token))
        identifier = decoded(next(iter(function.cookies.values())))["customer_identifier"]
        old = {"customerIdentifier": {"S": identifier}, "successfully_subscribed": {"BOOL": True}}
        table.put_item(TableName="AWSMarketplaceSubscribers", Item=old)
        assert register(function, token) == 200
    assert {item["customerIdentifier"] for item in items(table)} == {
        identifier,
        f"acmelegacy:{marketplace.buyer.account_id}",
    }


def test_a_registration_after_the_event_is_a_change_in_the_stream_and_no_new_item(
    table: Any, moto: str, marketplace: LocalMarketplace
) -> None:
    token = marketplace.issue_token("new-product")
    with environment_of_lambda() as function:
        function.ask("POST", LANDING, form(token))
        key = decoded(next(iter(function.cookies.values())))["license_arn"]
        table.put_item(TableName="AWSMarketplaceSubscribers", Item={"customerIdentifier": {"S": key}})
        assert register(function, token) == 200
    by_event, by_buyer = stream(table, moto)
    assert (by_event["eventName"], by_buyer["eventName"]) == ("INSERT", "MODIFY")
    assert "contactEmail" not in by_buyer["dynamodb"]["OldImage"]
    assert by_buyer["dynamodb"]["NewImage"]["contactEmail"] == {"S": "a@b.example"}


def stream(table: Any, moto: str) -> list[dict[str, Any]]:
    """The records of the table's stream, as grant-revoke-access-to-product.js gets them."""
    arn = table.describe_table(TableName="AWSMarketplaceSubscribers")["Table"]["LatestStreamArn"]
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    with closing(session.client("dynamodbstreams", endpoint_url=moto)) as streams:
        [shard] = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records: list[dict[str, Any]] = streams.get_records(ShardIterator=iterator)["Records"]
        return records


def test_in_lambda_forms_of_other_origins_are_refused_whatever_api_gateway_is_called(
    table: Any, marketplace: LocalMarketplace
) -> None:
    with environment_of_lambda() as function:
        function.ask("POST", LANDING, form(marketplace.issue_token("new-product")))
        page = function.ask("GET", "/signup")
        hidden = hidden_fields(httpx2.Response(200, text=page["body"]))
        for path in ("/signup", "/decline"):
            for headers in FOREIGN:
                answer = function.ask("POST", path, PERSON | hidden, headers)
                assert (answer["statusCode"], "another site" in answer["body"]) == (403, True)
        assert items(table) == []
        assert function.ask("POST", "/signup", PERSON | hidden, {"Origin": "https://acme.example"})["statusCode"] == 200


def test_in_lambda_who_is_not_of_that_account_says_so(table: Any, marketplace: LocalMarketplace) -> None:
    with environment_of_lambda() as function:
        function.ask("POST", LANDING, form(marketplace.issue_token("new-product")))
        page = function.ask("GET", "/signup")
        assert page["headers"]["content-security-policy"] == "frame-ancestors 'none'"
        assert '<form method="post" action="decline">' in page["body"], "there may be a stage in front of it"
        hidden = hidden_fields(httpx2.Response(200, text=page["body"]))
        for _ in range(2):
            answer = function.ask("POST", "/decline", hidden, {"Sec-Fetch-Site": "same-origin"})
            assert "We have forgotten" in answer["body"]
            assert not function.cookies
    assert items(table) == []


@pytest.mark.parametrize("has_handlers", [False, True])
def test_where_sns_messages_still_come_the_item_is_the_one_that_they_name(
    table: Any, marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch, has_handlers: bool
) -> None:
    monkeypatch.setenv("HAS_SNS_HANDLERS", str(has_handlers).lower())
    with environment_of_lambda() as function:
        for scenario in ("legacy-product", "new-product"):
            function.ask("POST", LANDING, form(marketplace.issue_token(scenario)))
            [(name, cookie)] = function.cookies.items()
            customer = decoded(cookie)
            hidden = {"registration_id": name.removeprefix("__Host-marketplace-")}
            assert function.ask("POST", "/signup", PERSON | hidden)["statusCode"] == 200
            legacy_key = f"acmelegacy:{marketplace.buyer.account_id}"
            expected = customer["license_arn"] or (customer["customer_identifier"] if has_handlers else legacy_key)
            assert expected in {item["customerIdentifier"] for item in items(table)}


def decoded(cookie: str) -> dict[str, Any]:
    payload = cookie.partition(".")[0]
    customer: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=="))["customer"]
    return customer


def test_an_http_api_works_as_well(table: Any, marketplace: LocalMarketplace) -> None:
    body = urlencode(form(marketplace.issue_token("new-product"))).encode()
    http = {"method": "POST", "path": LANDING, "sourceIp": "192.0.2.1"}
    with environment_of_lambda() as function:
        answer = function.handle(
            {
                "version": "2.0",
                "rawPath": LANDING,
                "rawQueryString": "",
                "headers": {"host": "acme.example", "content-type": "application/x-www-form-urlencoded"},
                "requestContext": {"http": http},
                "body": b64encode(body).decode(),
                "isBase64Encoded": True,
            }
        )
    assert answer["statusCode"] == 303
    assert answer["cookies"][0].startswith("__Host-marketplace-")


def test_a_resolution_that_was_frozen_does_not_keep_the_buyer_from_trying_again(
    table: Any, to_aws: Network, marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_MARKETPLACE_METERING", to_aws.url)
    monkeypatch.setenv("MARKETPLACE_DEADLINE", "0.5")
    to_aws.suffer(Fault.SILENCE)
    token = marketplace.issue_token("new-product")
    with environment_of_lambda() as function:
        answer = function.ask("POST", LANDING, form(token))
        assert answer["statusCode"] == 503
        assert "Try again" in answer["body"]
        function.freeze()
        to_aws.mend()
        function.thaw()
        while answer["statusCode"] == 503:
            answer = function.ask("POST", LANDING, form(token))
        assert answer["statusCode"] == 303


def test_each_environment_of_lambda_asks_aws_by_itself(table: Any, marketplace: LocalMarketplace) -> None:
    token = marketplace.issue_token("new-product")
    for calls in (1, 2):
        with environment_of_lambda() as function:
            for _ in range(2):
                assert function.ask("POST", LANDING, form(token))["statusCode"] == 303
        assert len(marketplace.resolve_calls) == calls
