import re
from html import escape

import pytest
from starlette.applications import Starlette

import starlette_marketplace
from starlette_marketplace import MarketplaceError, MarketplaceMiddleware, RequestError
from starlette_marketplace.hooks import RegistrationRequested
from starlette_marketplace.local import LocalMarketplace
from tests.docs.programs import ROOT, program
from tests.example_app.browser import hidden_fields
from tests.support.aws_failures import FAILURES
from tests.support.hosts import LANDING, browser, form

pytestmark = pytest.mark.anyio

GERMAN = {"Accept-Language": "de-DE,de;q=0.9,en;q=0.8"}
KEPT = ("cache-control", "referrer-policy", "x-content-type-options", "retry-after", "content-type")


def words(german: dict[type[MarketplaceError], tuple[str, str]], code: str) -> tuple[str, str]:
    [kind] = [
        kind
        for kind in vars(starlette_marketplace).values()
        if isinstance(kind, type) and issubclass(kind, MarketplaceError) and kind.code == code
    ]
    return next(texts for parent, texts in german.items() if issubclass(kind, parent))


@pytest.mark.parametrize("scenario", sorted(set(FAILURES) - {"hanging-headers", "hanging-body"}))
async def test_the_program_has_a_german_page_for_every_failure_that_keeps_what_ours_has(
    environment: None, marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch, scenario: str
) -> None:
    monkeypatch.setenv("MARKETPLACE_MAX_ATTEMPTS", "1")
    pages = program("buyer_pages")
    token = marketplace.issue_token(scenario)
    async with browser(pages.app) as buyer:
        ours = await buyer.post(LANDING, data=form(token))
        german = await buyer.post(LANDING, data=form(token), headers=GERMAN)
        as_json = await buyer.post(LANDING, data=form(token), headers=GERMAN | {"Accept": "application/json"})
    title, message = words(pages.GERMAN, FAILURES[scenario].code)
    assert f"<h1>{escape(title)}</h1>" in german.text
    assert message in german.text
    assert re.search("Referenz <code>[0-9A-F]{8}</code>", german.text)
    assert german.status_code == ours.status_code
    assert [german.headers.get(name) for name in KEPT] == [ours.headers.get(name) for name in KEPT]
    assert "frame-ancestors 'none'" in german.headers["content-security-policy"]
    assert hidden_fields(german) == hidden_fields(ours)
    assert ("neuen Link" in german.text) != ("Noch einmal versuchen" in german.text)
    assert as_json.json()["error"]["code"] == FAILURES[scenario].code


async def test_the_button_of_the_german_page_leads_on(
    environment: None, marketplace: LocalMarketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = marketplace.issue_token("no-license-yet")
    async with browser(program("buyer_pages").app) as buyer:
        page = await buyer.post(LANDING, data=form(token), headers=GERMAN)
        assert page.status_code == 503
        again = await buyer.post(LANDING, data=hidden_fields(page), headers=GERMAN)
        assert (again.status_code, again.headers["location"]) == (303, "/signup")


async def test_the_program_tells_visitors_in_german_what_the_address_is(environment: None) -> None:
    async with browser(program("buyer_pages").app) as visitor:
        german = await visitor.get(LANDING, headers=GERMAN)
        assert german.status_code == 200
        assert "<h1>Konto für Acme Analytics einrichten</h1>" in german.text
        assert "Set up your account from AWS Marketplace" in (await visitor.get(LANDING)).text
        style = await visitor.get("/static/style.css")
        assert style.headers["content-type"].startswith("text/css")


async def test_a_request_that_cannot_be_read_has_a_german_page_too(environment: None) -> None:
    pages = program("buyer_pages")
    async with browser(pages.app) as buyer:
        page = await buyer.post(LANDING, data=form(""), headers=GERMAN)
    assert page.status_code == 400
    assert pages.GERMAN[RequestError][0] in page.text


class TooManyTriesError(MarketplaceError):
    code = "TOO_MANY_TRIES"
    status = 429
    title = "Too many tries"


def refuse(_: RegistrationRequested) -> None:
    raise TooManyTriesError("too many")


async def test_an_error_that_the_host_raises_itself_has_no_german_text_of_another(environment: None) -> None:
    pages = program("buyer_pages")
    async with browser(MarketplaceMiddleware(Starlette(), on_request=refuse, on_error=pages.show_failure)) as buyer:
        page = await buyer.post(LANDING, data=form("any"), headers=GERMAN)
    assert page.status_code == 429
    assert "<h1>Too many tries</h1>" in page.text


def test_the_page_shows_every_template() -> None:
    root = ROOT / "docs"
    page = (root / "buyer-pages.md").read_text()
    for file in (root / "src/buyer_pages").rglob("*.*"):
        assert f'--8<-- "{file.relative_to(root / "src")}"' in page
