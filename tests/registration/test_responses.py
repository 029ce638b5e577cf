"""What the pages that buyers see say of the seller. Which page an answer has is in test_registration.py."""

import re
from dataclasses import dataclass, replace
from html import escape
from itertools import chain, repeat

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from starlette_marketplace import Marketplace, MarketplaceSettings, ThrottledError
from tests.support.fakes import FakeResolver
from tests.support.hosts import LANDING, browser, fastapi_middleware, form

pytestmark = pytest.mark.anyio

ACME = "Acme <Analytics> & Co"


@dataclass
class Pages:
    """The page of a visit, of a token that is not accepted, and of an outage."""

    texts: list[str]
    policies: list[str]


async def pages_of(app: ASGIApp, *, at: str = LANDING, root_path: str = "") -> Pages:
    async with browser(app, root_path=root_path) as buyer:
        pages = [await buyer.get(at)]
        pages += [await buyer.post(at, data=form(token)) for token in ("unknown", "throttled")]
    assert [page.status_code for page in pages] == [200, 400, 503]
    return Pages([page.text for page in pages], [page.headers["content-security-policy"] for page in pages])


def host(settings: MarketplaceSettings, **changes: str | None) -> ASGIApp:
    resolver = FakeResolver({"throttled": ThrottledError("too many")})
    return fastapi_middleware(settings=replace(settings, **changes), resolver=resolver)  # type: ignore[arg-type]


async def test_without_more_settings_the_pages_name_nobody(settings: MarketplaceSettings) -> None:
    pages = await pages_of(host(settings, support_url=None))
    for text, policy in zip(pages.texts, pages.policies, strict=True):
        assert re.search("<title>([^<]+)</title>.*<h1>\\1</h1>", text, re.DOTALL)
        assert '<p class="eyebrow">AWS Marketplace</p>' in text
        assert "<img" not in text
        assert "upport" not in text
        assert "img-src 'none'" in policy
    assert "This address completes subscriptions that were bought on AWS Marketplace." in pages.texts[0]
    assert "Choose this product, then" in pages.texts[1]


async def test_the_product_is_named_in_the_title_above_the_heading_and_in_the_steps(
    settings: MarketplaceSettings,
) -> None:
    pages = await pages_of(host(settings, product_name=ACME))
    for text in pages.texts:
        assert ACME not in text, "it is not escaped"
        heading = re.search("<h1>(.+)</h1>", text)
        assert heading
        assert f"<title>{heading[1]} - {escape(ACME)}</title>" in text
        assert f'<p class="eyebrow">{escape(ACME)} on AWS Marketplace</p>' in text
    assert f"This address completes subscriptions to {escape(ACME)} that were bought" in pages.texts[0]
    assert f"Choose <strong>{escape(ACME)}</strong>, then" in pages.texts[1]


@pytest.mark.parametrize(
    ("logo_url", "source", "let_in"),
    [
        ("/static/logo.svg?v=1&w=2", "/static/logo.svg?v=1&amp;w=2", "'self'"),
        ("https://cdn.acme.example:8443/logo.svg", "https://cdn.acme.example:8443/logo.svg", None),
        ("http://127.0.0.1:8000/logo.svg", "http://127.0.0.1:8000/logo.svg", None),
    ],
)
async def test_the_logo_is_shown_and_the_policy_lets_in_its_origin_alone(
    settings: MarketplaceSettings, logo_url: str, source: str, let_in: str | None
) -> None:
    pages = await pages_of(host(settings, product_name=ACME, logo_url=logo_url))
    origin = let_in or logo_url.removesuffix("/logo.svg")
    for text, policy in zip(pages.texts, pages.policies, strict=True):
        assert f'<img class="logo" src="{source}" alt="">' in text
        assert f"; img-src {origin}; " in policy


@pytest.mark.parametrize("root_path", ["", "/eu"])
async def test_a_logo_of_the_host_is_asked_for_below_the_root_path(
    settings: MarketplaceSettings, root_path: str
) -> None:
    changed = replace(settings, product_name=ACME, logo_url="/logo.svg")
    resolver = FakeResolver({"throttled": ThrottledError("too many")})
    mounted = Starlette(routes=[Mount("/marketplace", Marketplace(changed, resolver=resolver))])
    for app in (mounted, fastapi_middleware(settings=changed, resolver=resolver)):
        pages = await pages_of(app, at=root_path + LANDING, root_path=root_path)
        assert all(f'src="{root_path}/logo.svg"' in text for text in pages.texts)


@pytest.mark.parametrize(
    ("support_url", "link"),
    [
        ("https://acme.example/help?a=1&b=2", '<a href="https://acme.example/help?a=1&amp;b=2">Contact support</a>'),
        ("mailto:help@acme.example", 'Support: <a href="mailto:help@acme.example">help@acme.example</a>'),
        (
            "mailto:help%2Baws@acme.example?subject=AWS",
            'Support: <a href="mailto:help%2Baws@acme.example?subject=AWS">help+aws@acme.example</a>',
        ),
    ],
)
async def test_support_is_at_the_foot_of_every_page(settings: MarketplaceSettings, support_url: str, link: str) -> None:
    pages = await pages_of(host(settings, support_url=support_url))
    references = chain(["<footer><p>"], repeat("<footer><p>Reference <code>"))
    for text, beginning in zip(pages.texts, references, strict=False):
        foot = text[text.index("<footer>") :]
        assert foot.startswith(beginning)
        assert link in foot
