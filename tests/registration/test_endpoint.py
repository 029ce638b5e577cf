"""The answers of the landing URL, row by row of the table in the design, on every host and on both event loops."""

import logging
import re
from dataclasses import replace
from html.parser import HTMLParser

import anyio
import anyio.to_thread
import httpx2
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message, Receive

from starlette_marketplace import MarketplaceSettings, ThrottledError
from starlette_marketplace.local import LocalMarketplace
from tests.support.fakes import CUSTOMER, FakeResolver, said
from tests.support.hosts import HOSTS, LANDING, Host, browser, fastapi_middleware, form, status_in_the_end
from tests.support.servers import serve
from tests.support.sockets import connect, post_of

pytestmark = pytest.mark.anyio


@pytest.fixture(params=HOSTS, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest) -> Host:
    made: Host = request.param
    return made


def page_of(response: httpx2.Response) -> str:
    """The text of a page for buyers, once what every one of them must have has been checked."""
    headers = response.headers
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "base-uri 'none'; frame-ancestors 'none'" in policy
    assert "set-cookie" not in headers
    assert "<script" not in response.text
    assert not re.search(r"\b(src|srcset|href)=\"(?!mailto:support@acme\.example)", response.text)
    assert response.request.method == "HEAD" or 'href="mailto:support@acme.example"' in response.text
    return response.text


def reference_of(response: httpx2.Response) -> str:
    found = re.search(r"Reference <code>([0-9A-F]{8})</code>", response.text)
    assert found
    return found[1]


async def post_by_hand(app: ASGIApp, receive: Receive) -> list[Message]:
    """What the app sends to a POST whose body the test gives piece by piece."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": LANDING,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/x-www-form-urlencoded")],
    }
    await app(scope, receive, send)
    return sent


class _Form(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.method: str | None = None
        self.fields: dict[str | None, str | None] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "form":
            assert "action" not in values, "the form must go to the address that it came from"
            self.method = values["method"]
        if tag == "input":
            self.fields[values["name"]] = values["value"]


_hint_texts = st.text(
    st.sampled_from('a"\\\\é\U0001f600\x7f ') | st.characters(exclude_categories=["Cs"]), max_size=500
)


@given(st.lists(st.tuples(st.sampled_from(["offer-type", "a", "b" * 200, *"cdefg"]), _hint_texts), max_size=40))
@hypothesis_settings(deadline=None)
def test_the_cookie_stays_below_1200_bytes_whatever_is_posted(hints: list[tuple[str, str]]) -> None:
    # As long as AWS's identifiers are.
    customer = replace(
        CUSTOMER,
        product_code="a" * 25,
        license_arn=f"arn:aws:license-manager::294406891311:license:l-{'0' * 32}",
        agreement_id=f"agmt-{'0' * 25}",
    )
    settings = MarketplaceSettings(secret_key="k" * 32, product_codes="*")
    fields = {"x-amzn-marketplace-token": "good", **{f"x-amzn-marketplace-{name}": text for name, text in hints}}

    async def post() -> httpx2.Response:
        async with browser(fastapi_middleware(settings=settings, resolver=FakeResolver({"good": customer}))) as buyer:
            return await buyer.post(LANDING, data=fields)

    response = anyio.run(post)
    [cookie] = response.headers.get_list("set-cookie") or [""]
    assert len(cookie.partition(";")[0]) < 1200
    assert response.status_code in (303, 413)


async def test_a_good_token_sends_the_buyer_to_signup_with_one_signed_cookie(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    token = marketplace.issue_token("new-product")
    async with browser(host(settings=settings)) as buyer:
        response = await buyer.post(LANDING, data=form(token))

        assert (response.status_code, response.headers["location"]) == (303, "/signup")
        assert response.headers["cache-control"] == "no-store"
        [cookie] = response.headers.get_list("set-cookie")
        assert re.fullmatch(
            r"__Host-marketplace-[0-9a-f]{24}=[\w.-]+; HttpOnly; Max-Age=3600; Path=/; SameSite=lax; Secure", cookie
        )
        assert token not in str(response.headers)
        assert marketplace.buyer.account_id not in str(response.headers)

        registration = (await buyer.get("/signup")).json()
        assert registration["customer"]["aws_account_id"] == marketplace.buyer.account_id
        assert registration["customer"]["product_code"] == "acmeanalytics"
        assert registration["customer"]["license_arn"].startswith("arn:aws:license-manager::")
        assert registration["customer"]["agreement_id"].startswith("agmt-")
        assert registration["customer"]["customer_identifier"] is None
        assert registration["free_trial"] is False


async def test_a_finished_registration_is_gone_from_the_browser(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    async with browser(host(settings=settings)) as buyer:
        await buyer.post(LANDING, data=form(marketplace.issue_token("legacy-product")))
        registration = (await buyer.get("/signup")).json()
        assert registration["customer"]["customer_identifier"]
        finished = await buyer.post(f"/signup/{registration['id']}")
        assert finished.json() == registration
        assert (await buyer.get("/signup")).json() is None
        assert (await buyer.post(f"/signup/{registration['id']}")).json() is None


async def test_a_buyer_who_does_not_come_from_aws_has_no_registration(
    host: Host, settings: MarketplaceSettings
) -> None:
    async with browser(host(settings=settings)) as buyer:
        assert (await buyer.get("/signup")).json() is None


async def test_the_form_tells_of_a_free_trial_and_of_other_hints(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    fields = form(marketplace.issue_token("free-trial"), offer_type="free-trial", product_id="prod-1")
    async with browser(host(settings=settings)) as buyer:
        await buyer.post(LANDING, files={name: (None, value) for name, value in fields.items()})
        registration = (await buyer.get("/signup")).json()
    assert registration["free_trial"] is True
    assert registration["hints"]["x-amzn-marketplace-product-id"] == "prod-1"
    assert fields["x-amzn-marketplace-token"] not in str(registration)


async def test_the_same_post_again_has_the_same_answer_and_asks_aws_no_more(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    token = marketplace.issue_token("new-product")
    async with browser(host(settings=settings)) as buyer:
        first, second = [await buyer.post(LANDING, data=form(token)) for _ in range(2)]
        assert second.status_code == first.status_code == 303
        assert second.headers["location"] == first.headers["location"]
        assert list(second.cookies) == list(first.cookies)
    assert len(marketplace.resolve_calls) == 1


async def test_a_hundred_posts_of_one_token_at_once_ask_aws_once(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    marketplace.delay = 0.1
    token = marketplace.issue_token("new-product")
    statuses = []

    async def post() -> None:
        statuses.append((await buyer.post(LANDING, data=form(token))).status_code)

    async with browser(host(settings=settings)) as buyer, anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(post)
    assert statuses == [303] * 100
    assert len(marketplace.resolve_calls) == 1


async def test_aws_is_asked_once_also_when_the_first_of_a_hundred_callers_leaves(
    host: Host, settings: MarketplaceSettings
) -> None:
    resolver = FakeResolver()
    statuses = []

    async def post(client: httpx2.AsyncClient) -> None:
        statuses.append((await client.post(LANDING, data=form("good"))).status_code)

    async with browser(host(settings=settings, resolver=resolver)) as buyer:
        async with anyio.create_task_group() as others:
            with resolver.held():
                async with anyio.create_task_group() as first:
                    first.start_soon(post, buyer)
                    await anyio.to_thread.run_sync(resolver.called.acquire)
                    for _ in range(99):
                        others.start_soon(post, buyer)
                    await anyio.wait_all_tasks_blocked()
                    first.cancel_scope.cancel()
                assert statuses == []
        assert statuses == [303] * 99
        assert resolver.calls == {"good": 1}


def test_a_buyer_who_closes_the_tab_while_aws_is_asked_finds_the_answer_on_coming_back(
    host: Host, settings: MarketplaceSettings
) -> None:
    resolver = FakeResolver()
    with serve(host(settings=settings, resolver=resolver)) as url:
        with resolver.held(), connect(url) as connection:
            connection.sendall(post_of(b"x-amzn-marketplace-token=good"))
            resolver.called.acquire()
        response = httpx2.post(url + LANDING, data=form("good"))
    assert response.status_code == 303
    assert resolver.calls == {"good": 1}


async def test_the_host_answers_others_while_aws_takes_its_time(host: Host, settings: MarketplaceSettings) -> None:
    resolver = FakeResolver()
    answered = []

    async def register() -> None:
        answered.append((await buyer.post(LANDING, data=form("good"))).status_code)

    async with browser(host(settings=settings, resolver=resolver)) as buyer, anyio.create_task_group() as tasks:
        with resolver.held():
            tasks.start_soon(register)
            await anyio.to_thread.run_sync(resolver.called.acquire)
            assert (await buyer.get("/signup")).status_code == 200
            assert answered == []
    assert answered == [303]


@pytest.mark.parametrize("sends_json", [True, False])
async def test_a_client_that_wants_json_gets_the_envelope(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace, sends_json: bool
) -> None:
    async def post(client: httpx2.AsyncClient, token: str) -> httpx2.Response:
        if sends_json:
            return await client.post(LANDING, json={"RegistrationToken": token})
        return await client.post(LANDING, data=form(token), headers={"Accept": "application/json"})

    async with browser(host(settings=settings)) as buyer:
        response = await post(buyer, marketplace.issue_token("new-product"))
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-store"
        envelope = response.json()
        assert envelope["success"] is True
        assert envelope["data"]["redirect_url"] == "/signup"
        assert envelope["data"]["customer"]["aws_account_id"] == marketplace.buyer.account_id
        assert envelope["data"]["id"] == (await buyer.get("/signup")).json()["id"]

        response = await post(buyer, marketplace.issue_token("expired"))
        assert response.status_code == 400
        assert response.headers["cache-control"] == "no-store"
        envelope = response.json()
        assert envelope["success"] is False
        assert envelope["error"].keys() == {"code", "message"}
        assert envelope["error"]["code"] == "EXPIRED_TOKEN"

        response = await post(buyer, marketplace.issue_token("throttled"))
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert response.json()["error"]["code"] == "THROTTLED"


async def test_a_browser_gets_pages_although_it_takes_anything(host: Host, settings: MarketplaceSettings) -> None:
    accept = "text/html,application/xhtml+xml,application/json;q=0.9,*/*;q=0.8"
    async with browser(host(settings=settings)) as buyer:
        assert "Set up your account" in page_of(await buyer.post(LANDING, data={}, headers={"Accept": accept}))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_get_explains_what_this_address_is(host: Host, settings: MarketplaceSettings, method: str) -> None:
    async with browser(host(settings=settings)) as buyer:
        response = await buyer.request(method, LANDING)
    assert response.status_code == 200
    assert page_of(response) == "" if method == "HEAD" else "Manage subscriptions" in page_of(response)


async def test_other_methods_are_told_which_are_allowed(host: Host, settings: MarketplaceSettings) -> None:
    async with browser(host(settings=settings)) as buyer:
        options = await buyer.options(LANDING)
        assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
        for method in ("PUT", "PATCH", "DELETE", "TRACE"):
            response = await buyer.request(method, LANDING)
            assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "MISSING_TOKEN"),
        ("x-amzn-marketplace-offer-type=free-trial", "MISSING_TOKEN"),
        ("x-amzn-marketplace-token=", "MISSING_TOKEN"),
        ("x-amzn-marketplace-token=a&x-amzn-marketplace-token=b", "MALFORMED_REQUEST"),
        ("x-amzn-marketplace-token=%ff%fe", "MALFORMED_REQUEST"),
        ("x-amzn-marketplace-token=%00", "MALFORMED_REQUEST"),
    ],
)
async def test_a_post_without_one_proper_token_is_refused_and_aws_is_not_asked(
    host: Host, settings: MarketplaceSettings, caplog: pytest.LogCaptureFixture, body: str, code: str
) -> None:
    resolver = FakeResolver()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    async with browser(host(settings=settings, resolver=resolver)) as buyer:
        response = await buyer.post(LANDING, content=body, headers=headers)
        assert response.status_code == 400
        assert "Manage subscriptions" in page_of(response)
        assert f"({code}, reference {reference_of(response)})" in said(caplog)[-1].getMessage()
        response = await buyer.post(LANDING, content=body, headers=headers | {"Accept": "application/json"})
        assert response.json()["error"]["code"] == code
    assert not resolver.calls


async def test_a_body_over_the_limit_is_refused_without_reading_the_rest(
    host: Host, settings: MarketplaceSettings
) -> None:
    app = host(settings=replace(settings, max_body_size=100))
    received = 0

    async def receive() -> Message:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    sent = await post_by_hand(app, receive)
    assert sent[0]["status"] == 413
    assert received == 2


async def test_a_body_that_is_neither_form_nor_json_is_refused(host: Host, settings: MarketplaceSettings) -> None:
    async with browser(host(settings=settings)) as buyer:
        response = await buyer.post(LANDING, content="<token/>", headers={"Content-Type": "application/xml"})
        assert response.status_code == 415
        page_of(response)


@pytest.mark.parametrize(
    ("scenario", "heading"), [("invalid", "This link cannot be used"), ("expired", "This link has expired")]
)
async def test_a_refused_token_gets_a_page_on_how_to_get_a_fresh_link(
    host: Host,
    settings: MarketplaceSettings,
    marketplace: LocalMarketplace,
    caplog: pytest.LogCaptureFixture,
    scenario: str,
    heading: str,
) -> None:
    token = marketplace.issue_token(scenario)
    async with browser(host(settings=settings)) as buyer:
        for _ in range(2):
            response = await buyer.post(LANDING, data=form(token))
            assert response.status_code == 400
            page = page_of(response)
            assert f"<h1>{heading}</h1>" in page
            assert "Manage subscriptions" in page
            assert "Set up your account" in page
            assert "subscribe again" not in page
            assert token not in page
            assert reference_of(response) in said(caplog)[-1].getMessage()
            assert said(caplog)[-1].levelno == logging.WARNING
            assert "form-action 'none'" in response.headers["content-security-policy"]
    assert len(marketplace.resolve_calls) == 1, "a reload costs no call"


async def test_another_sellers_product_is_refused_and_the_log_says_which_code_came(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace, caplog: pytest.LogCaptureFixture
) -> None:
    async with browser(host(settings=settings)) as buyer:
        response = await buyer.post(LANDING, data=form(marketplace.issue_token("wrong-product")))
    assert response.status_code == 403
    assert "another product" in page_of(response)
    assert "someoneelse" not in response.text
    [record] = said(caplog)
    assert record.levelno == logging.WARNING
    assert "product code someoneelse, which product_codes does not list" in record.getMessage()
    assert reference_of(response) in record.getMessage()


@pytest.mark.parametrize("product_code", ["acmeanalytics2", "acmeanalytic", "AcmeAnalytics", "acme,acmelegacy"])
async def test_a_product_code_that_is_only_like_ours_is_not_ours(
    host: Host, settings: MarketplaceSettings, product_code: str
) -> None:
    resolver = FakeResolver({"good": replace(CUSTOMER, product_code=product_code)})
    async with browser(host(settings=settings, resolver=resolver)) as buyer:
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 403


async def test_a_star_accepts_every_product(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    async with browser(host(settings=replace(settings, product_codes="*"))) as buyer:
        response = await buyer.post(LANDING, data=form(marketplace.issue_token("wrong-product")))
        assert response.status_code == 303


async def try_again(buyer: httpx2.AsyncClient, response: httpx2.Response, token: str) -> httpx2.Response:
    """Check the page of an error that passes by itself, and press its button."""
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert "form-action http: https:" in response.headers["content-security-policy"]
    page = _Form(page_of(response))
    assert page.method == "post"
    assert page.fields["x-amzn-marketplace-token"] == token
    return await buyer.post(str(response.url), data={str(name): str(value) for name, value in page.fields.items()})


async def test_a_throttled_call_offers_to_try_again(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace, caplog: pytest.LogCaptureFixture
) -> None:
    token = marketplace.issue_token("throttled")
    async with browser(host(settings=settings)) as buyer:
        response = await buyer.post(LANDING, data=form(token))
        assert (await try_again(buyer, response, token)).status_code == 503
    assert len(marketplace.resolve_calls) == 2, "our own failures are not kept"
    assert said(caplog)[0].levelno == logging.WARNING
    assert "ThrottlingException" in said(caplog)[0].getMessage()
    assert reference_of(response) in said(caplog)[0].getMessage()


async def test_trying_again_loses_nothing_of_the_form(host: Host, settings: MarketplaceSettings) -> None:
    resolver = FakeResolver({"good": ThrottledError("too often")})
    fields = form("good", offer_type="free-trial", product_id='"><b>')
    async with browser(host(settings=settings, resolver=resolver)) as buyer:
        response = await buyer.post(LANDING, data=fields)
        assert _Form(response.text).fields == fields
        resolver.answers = {"good": CUSTOMER}
        assert (await try_again(buyer, response, "good")).status_code == 303
        registration = (await buyer.get("/signup")).json()
    assert registration["free_trial"] is True
    assert registration["hints"]["x-amzn-marketplace-product-id"] == '"><b>'


async def test_aws_out_of_reach_offers_to_try_again(
    host: Host, settings: MarketplaceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    unreachable = replace(settings, endpoint_url="http://127.0.0.1:1")
    async with browser(host(settings=unreachable)) as buyer:
        response = await buyer.post(LANDING, data=form("a+b/c=="))
        assert (await try_again(buyer, response, "a+b/c==")).status_code == 503
    assert "AWS was not reached" in caplog.text


async def test_a_passed_deadline_offers_to_try_again_which_finds_the_answer(
    host: Host, settings: MarketplaceSettings
) -> None:
    resolver = FakeResolver()
    async with browser(host(settings=replace(settings, deadline=0.5), resolver=resolver)) as buyer:
        with resolver.held():
            response = await buyer.post(LANDING, data=form("good"))
        await try_again(buyer, response, "good")
        assert await status_in_the_end(buyer, "good") == 303
    assert resolver.calls == {"good": 1}


def test_the_deadline_is_for_all_of_it_the_body_and_aws(host: Host, settings: MarketplaceSettings) -> None:
    resolver = FakeResolver()
    app = host(settings=settings, resolver=resolver)

    async def receive() -> Message:
        await anyio.sleep(5)
        return {"type": "http.request", "body": b"x-amzn-marketplace-token=good", "more_body": False}

    async def post() -> float:
        with resolver.held():
            sent = await post_by_hand(app, receive)
            assert sent[0]["status"] == 503
            return anyio.current_time()

    clock = trio.testing.MockClock(autojump_threshold=0)
    began = clock.current_time()
    assert trio.run(post, clock=clock) - began == pytest.approx(settings.deadline)


async def test_one_too_many_waiting_is_refused_at_once(host: Host, settings: MarketplaceSettings) -> None:
    resolver = FakeResolver()
    small = replace(settings, max_concurrency=1, max_waiting=1)
    async with browser(host(settings=small, resolver=resolver)) as buyer, anyio.create_task_group() as tasks:
        with resolver.held():
            tasks.start_soon(lambda: buyer.post(LANDING, data=form("good")))
            await anyio.to_thread.run_sync(resolver.called.acquire)
            with anyio.move_on_after(0.05):
                await buyer.post(LANDING, data=form("second"))
            response = await buyer.post(LANDING, data=form("third"))
            assert "Many people" in page_of(response)
        assert (await try_again(buyer, response, "third")).status_code in (400, 503)
    assert resolver.calls["good"] == 1


async def test_our_own_expired_credentials_are_the_sellers_problem_and_not_the_buyers(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace, caplog: pytest.LogCaptureFixture
) -> None:
    async with browser(host(settings=settings)) as buyer:
        response = await buyer.post(LANDING, data=form(marketplace.issue_token("expired-credentials")))
    assert response.status_code == 503
    assert response.headers["retry-after"] == "60"
    page = page_of(response)
    assert "expired" not in page
    assert "problem on our side" in page
    [record] = said(caplog)
    assert record.levelno == logging.ERROR
    assert "AWS rejected our credentials" in record.getMessage()
    assert "Renew them, and check this machine's clock" in record.getMessage()
    assert reference_of(response) in record.getMessage()


async def test_a_failing_hook_reaches_the_hosts_error_handling_and_a_retry_works(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace
) -> None:
    failures = [OSError("the database is down")]

    async def on_resolved(_: object) -> None:
        if failures:
            raise failures.pop()

    token = marketplace.issue_token("new-product")
    async with browser(host(settings=settings, on_resolved=on_resolved), raise_app_exceptions=False) as buyer:
        response = await buyer.post(LANDING, data=form(token))
        assert (response.status_code, response.text) == (500, "Internal Server Error")
        assert "set-cookie" not in response.headers
        assert (await buyer.post(LANDING, data=form(token))).status_code == 303
    assert len(marketplace.resolve_calls) == 1


async def test_a_successful_registration_is_logged_with_the_account_masked(
    host: Host, settings: MarketplaceSettings, marketplace: LocalMarketplace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "starlette_marketplace")
    token = marketplace.issue_token("new-product")
    async with browser(host(settings=settings)) as buyer:
        await buyer.post(LANDING, data=form(token))
    records = [record for record in said(caplog) if record.name == "starlette_marketplace"]
    [record] = records
    assert f"********{marketplace.buyer.account_id[-4:]}, product acmeanalytics" in record.getMessage()
    assert "registration begun" in record.getMessage()
    assert marketplace.buyer.account_id not in str(record.__dict__)
    assert token not in str(record.__dict__)


@pytest.mark.parametrize(
    ("signup_url", "location"),
    [
        ("/join?from=aws", "/join?from=aws"),
        ("https://accounts.example/new", "https://accounts.example/new"),
    ],
)
async def test_signup_may_be_elsewhere(
    host: Host, settings: MarketplaceSettings, signup_url: str, location: str
) -> None:
    app = host(settings=replace(settings, signup_url=signup_url), resolver=FakeResolver())
    async with browser(app) as buyer:
        assert (await buyer.post(LANDING, data=form("good"))).headers["location"] == location


async def test_one_trailing_slash_makes_no_difference(host: Host, settings: MarketplaceSettings) -> None:
    async with browser(host(settings=settings, resolver=FakeResolver())) as buyer:
        assert (await buyer.post(LANDING + "/", data=form("good"))).status_code == 303
        assert (await buyer.get(LANDING + "/")).status_code == 200


async def test_a_page_escapes_what_comes_from_outside(host: Host, settings: MarketplaceSettings) -> None:
    hostile = '"><b>&'
    app = host(settings=replace(settings, endpoint_url="http://127.0.0.1:1"))
    async with browser(app) as buyer:
        response = await buyer.post(LANDING, data=form(hostile))
    assert "<b>" not in response.text
    assert _Form(response.text).fields == {"x-amzn-marketplace-token": hostile}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"x-amzn-marketplace-token=kept&a=%ff"),
        ("application/x-www-form-urlencoded", b"x-amzn-marketplace-token=kept&a=\xff"),
        ("application/json", b'{"RegistrationToken": "kept"'),
        ("application/json", b'{"RegistrationToken": "kept", "a": "\xff"}'),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; title="a"\r\n\r\nkept\r\n--x--'),
    ],
)
async def test_the_error_that_a_hook_gets_does_not_lead_to_the_parsers_which_holds_the_body(
    settings: MarketplaceSettings, content_type: str, body: bytes
) -> None:
    errors: list[BaseException] = []
    app = fastapi_middleware(
        settings=settings, resolver=FakeResolver(), on_error=lambda event: errors.append(event.error)
    )
    async with browser(app) as buyer:
        response = await buyer.post(LANDING, content=body, headers={"Content-Type": content_type})
    assert response.status_code == 400
    [error] = errors
    assert (error.__cause__, error.__context__, error.__traceback__) == (None, None, None)


async def test_a_buyer_whose_license_is_not_there_yet_tries_again_and_gets_one_key(
    host: Host, settings: MarketplaceSettings
) -> None:
    without = replace(CUSTOMER, license_arn=None, customer_identifier="c-1")
    resolver = FakeResolver({"good": without})
    app = host(settings=replace(settings, legacy_product_codes="acmelegacy"), resolver=resolver)
    async with browser(app) as buyer:
        response = await buyer.post(LANDING, data=form("good"))
        assert response.status_code == 503
        assert "Your subscription is still being prepared" in page_of(response)
        assert (await buyer.get("/signup")).json() is None
        resolver.answers = {"good": CUSTOMER}
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 303
        assert (await buyer.get("/signup")).json()["customer"]["license_arn"] == CUSTOMER.license_arn
    assert resolver.calls["good"] == 2, "an answer without a license is not kept"


async def test_a_legacy_product_needs_no_license(host: Host, settings: MarketplaceSettings) -> None:
    legacy = replace(CUSTOMER, product_code="acmelegacy", license_arn=None, customer_identifier="c-1")
    app = host(settings=replace(settings, legacy_product_codes="acmelegacy"), resolver=FakeResolver({"good": legacy}))
    async with browser(app) as buyer:
        assert (await buyer.post(LANDING, data=form("good"))).status_code == 303
        assert (await buyer.get("/signup")).json()["customer"]["customer_identifier"] == "c-1"
