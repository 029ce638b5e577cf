import importlib
import sys
from collections.abc import Iterator

import pytest

from starlette_marketplace.local import LocalMarketplace
from tests.example_app.browser import Browser
from tests.support.servers import serve


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    monkeypatch.delitem(sys.modules, "example_app.starlette_app", raising=False)
    app = importlib.import_module("example_app.starlette_app").app
    with serve(app) as base_url:
        browser = Browser(base_url)
        yield browser
        browser.close()


def test_a_buyer_signs_up_once(browser: Browser, marketplace: LocalMarketplace) -> None:
    arrival = browser.arrive(marketplace, "new-product")
    assert (arrival.status_code, arrival.headers["location"]) == (303, "/signup")
    page = browser.get("/signup")
    assert f"ending in {marketplace.buyer.account_id[-4:]}" in page.text
    assert browser.submit(page, "/signup", email="hank@globex.example").text == "Welcome, hank@globex.example!"
    assert browser.cookie_names == set()

    browser.arrive(marketplace, "new-product")
    assert browser.submit(page, "/signup", email="other@globex.example").status_code == 409


def test_without_a_registration_it_says_where_to_start(browser: Browser) -> None:
    assert "Set up your account" in browser.get("/signup").text
    typed = {"registration_id": "unknown", "email": "hank@globex.example"}
    assert browser.post("/signup", typed).status_code == 400
