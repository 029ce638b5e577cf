import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx2
import pytest
from itsdangerous import TimestampSigner
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from example_app.app import create_app
from example_app.models import Subscription, User, Workspace
from starlette_marketplace.local import LocalMarketplace
from tests.example_app.browser import Browser, hidden_fields, typed_fields
from tests.support.servers import serve

pytestmark = pytest.mark.slow

PASSWORD = "correct horse"
GLOBEX = {"company": "Globex", "email": "hank@globex.example", "password": PASSWORD}
INITECH = {"company": "Initech", "email": "bill@initech.example", "password": PASSWORD}


def sign_up(browser: Browser, typed: dict[str, str]) -> None:
    response = browser.submit(browser.get("/signup"), "/signup", **typed)
    assert (response.status_code, response.headers["location"]) == (303, "/dashboard")


def log_in(browser: Browser, typed: dict[str, str]) -> httpx2.Response:
    return browser.post("/login", {"email": typed["email"], "password": typed["password"]})


def count(database: Session, model: type[Workspace | User | Subscription]) -> int:
    return database.scalar(select(func.count()).select_from(model)) or 0


def masked(marketplace: LocalMarketplace) -> str:
    return f"•••• •••• {marketplace.buyer.account_id[-4:]}"


# Signing up


def test_a_buyer_arrives_signs_up_and_finds_the_subscription_on_the_dashboard(
    browser: Browser, marketplace: LocalMarketplace, database: Session
) -> None:
    arrival = browser.arrive(marketplace, "free-trial")
    assert (arrival.status_code, arrival.headers["location"]) == (303, "/signup")

    page = browser.get("/signup")
    assert masked(marketplace) in page.text
    assert marketplace.buyer.account_id not in page.text
    assert "Acme Analytics" in page.text
    assert "Free trial" in page.text
    assert "mailto:support@acme.example" in page.text

    response = browser.submit(page, "/signup", **GLOBEX)
    assert (response.status_code, response.headers["location"]) == (303, "/dashboard")
    assert browser.cookie_names == {"session"}

    dashboard = browser.get("/dashboard")
    assert "Globex" in dashboard.text
    assert masked(marketplace) in dashboard.text
    assert "Free trial" in dashboard.text
    subscription = database.scalars(select(Subscription)).one()
    assert subscription.aws_account_id == marketplace.buyer.account_id
    assert subscription.customer_key == subscription.license_arn
    assert subscription.customer_identifier is None
    assert subscription.agreement_id
    assert subscription.agreement_id in dashboard.text
    assert subscription.was_active is True


def test_a_buyer_of_a_legacy_product_signs_up_without_a_license(
    browser: Browser, marketplace: LocalMarketplace, database: Session
) -> None:
    browser.arrive(marketplace, "legacy-product")
    sign_up(browser, GLOBEX)
    subscription = database.scalars(select(Subscription)).one()
    assert subscription.customer_key == f"acmelegacy:{marketplace.buyer.account_id}"
    assert subscription.license_arn is None
    assert subscription.customer_identifier


def test_signing_up_works_without_aws(browser: Browser, database: Session) -> None:
    assert "AWS account" not in browser.get("/signup").text
    sign_up(browser, GLOBEX)
    assert "Free" in browser.get("/dashboard").text
    assert count(database, Subscription) == 0


def test_passwords_are_stored_as_argon2_hashes(browser: Browser, database: Session) -> None:
    sign_up(browser, GLOBEX)
    assert database.scalars(select(User)).one().password_hash.startswith("$argon2id$")


def test_two_tabs_that_sign_up_at_once_make_one_account(
    open_browser: Callable[[], Browser], marketplace: LocalMarketplace, database: Session
) -> None:
    # One token, two browsers: two tabs would also share the session cookie of the faster one, which hides the race.
    browsers = [open_browser(), open_browser()]
    for each in browsers:
        each.arrive(marketplace, "new-product")
    pages = [each.get("/signup") for each in browsers]
    at_once = Barrier(2)

    def submit(number: int) -> str:
        at_once.wait()
        typed = {**GLOBEX, "email": f"hank{number}@globex.example"}
        return browsers[number].submit(pages[number], "/signup", **typed).headers["location"]

    with ThreadPoolExecutor() as threads:
        assert sorted(threads.map(submit, range(2))) == ["/dashboard", "/login"]
    assert [count(database, model) for model in (Workspace, User, Subscription)] == [1, 1, 1]


def test_a_double_click_on_sign_up_ends_on_the_dashboard(
    browser: Browser, marketplace: LocalMarketplace, database: Session
) -> None:
    browser.arrive(marketplace, "new-product")
    page = browser.get("/signup")
    browser.submit(page, "/signup", **GLOBEX)
    browser.submit(page, "/signup", **GLOBEX)
    assert browser.open("/login").url.path == "/dashboard"
    assert count(database, User) == 1


def test_what_is_linked_is_the_registration_that_the_page_showed_not_the_newest(
    browser: Browser, marketplace: LocalMarketplace, database: Session
) -> None:
    browser.arrive(marketplace, "new-product")
    page = browser.get("/signup")
    browser.arrive(marketplace, "legacy-product")
    browser.submit(page, "/signup", **GLOBEX)
    assert database.scalars(select(Subscription)).one().product_code == "acmeanalytics"

    dashboard = browser.get("/dashboard")
    assert "is waiting to be linked" in dashboard.text
    browser.submit(browser.get("/link"), "/link")
    assert set(database.scalars(select(Subscription.product_code))) == {"acmeanalytics", "acmelegacy"}
    assert "is waiting to be linked" not in browser.get("/dashboard").text


def test_a_form_that_showed_no_registration_links_none(
    browser: Browser, marketplace: LocalMarketplace, database: Session
) -> None:
    page = browser.get("/signup")
    browser.arrive(marketplace, "new-product")
    browser.submit(page, "/signup", **GLOBEX)
    assert count(database, User) == 1
    assert count(database, Subscription) == 0


def test_an_expired_registration_makes_no_account_and_says_how_to_start_again(
    browser: Browser, marketplace: LocalMarketplace, database: Session
) -> None:
    browser.arrive(marketplace, "new-product")
    page = browser.get("/signup")
    browser.forget_registrations()

    response = browser.submit(page, "/signup", **GLOBEX)
    assert response.status_code == 400
    assert "has expired" in response.text
    assert "Manage subscriptions" in response.text
    assert "Set up your account" in response.text
    assert typed_fields(response) == {**GLOBEX, "password": ""}

    # Sending it once more must not sign up without AWS either.
    assert browser.submit(response, "/signup", **GLOBEX).status_code == 400
    assert count(database, User) == 0

    # Setting the same agreement up again has the same id, so the form that is still open works.
    browser.arrive(marketplace, "new-product")
    assert browser.submit(response, "/signup", **GLOBEX).headers["location"] == "/dashboard"
    assert count(database, Subscription) == 1


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"company": ""}, "Enter your company"),
        ({"company": "   "}, "Enter your company"),
        ({"company": "x" * 101}, "Enter your company"),
        ({"company": "Glo\0bex"}, "Enter your company"),
        ({"email": ""}, "Enter an e-mail address"),
        ({"email": "hank"}, "Enter an e-mail address"),
        ({"email": "hank@globex"}, "Enter an e-mail address"),
        ({"password": ""}, "10 to 200 characters"),
        ({"password": "x" * 9}, "10 to 200 characters"),
        ({"password": "x" * 201}, "10 to 200 characters"),
    ],
)
def test_a_mistake_on_the_signup_form_is_explained_and_keeps_the_rest(
    browser: Browser, marketplace: LocalMarketplace, database: Session, typed: dict[str, str], message: str
) -> None:
    browser.arrive(marketplace, "new-product")
    page = browser.get("/signup")
    response = browser.submit(page, "/signup", **(GLOBEX | typed))
    assert response.status_code == 400
    assert message in response.text
    assert 'aria-invalid="true"' in response.text
    # A NUL cannot be in HTML: the parser of the browser, and of this test, reads U+FFFD.
    shown = {**GLOBEX, **typed, "password": ""}
    assert {name: value.replace("\ufffd", "\0") for name, value in typed_fields(response).items()} == shown
    assert hidden_fields(response) == hidden_fields(page)
    assert masked(marketplace) in response.text
    assert count(database, User) == 0


def test_a_form_without_any_field_is_a_page_and_not_json(browser: Browser) -> None:
    for path in ("/signup", "/login"):
        response = browser.post(path, {})
        assert response.status_code == 400
        assert response.headers["content-type"].startswith("text/html")


def test_what_was_typed_is_escaped(browser: Browser) -> None:
    typed = {**GLOBEX, "company": '"><script>alert(1)</script>', "email": ""}
    response = browser.post("/signup", typed)
    assert "<script>" not in response.text
    assert typed_fields(response)["company"] == typed["company"]


@pytest.mark.parametrize("email", ["hank@globex.example", "Hank@Globex.Example", "  hank@globex.example "])
def test_an_email_that_is_taken_is_refused_and_keeps_the_form(
    open_browser: Callable[[], Browser], marketplace: LocalMarketplace, database: Session, email: str
) -> None:
    sign_up(open_browser(), GLOBEX)
    browser = open_browser()
    browser.arrive(marketplace, "new-product")
    page = browser.get("/signup")
    response = browser.submit(page, "/signup", **{**INITECH, "email": email})
    assert response.status_code == 409
    assert "has an account" in response.text
    assert typed_fields(response) == {**INITECH, "email": email, "password": ""}
    assert count(database, Workspace) == 1
    assert count(database, Subscription) == 0

    assert browser.submit(response, "/signup", **INITECH).headers["location"] == "/dashboard"
    assert count(database, Subscription) == 1


# Logging in


@pytest.mark.parametrize(
    "typed", [{"email": "nobody@globex.example"}, {"email": "hank"}, {"email": ""}, {"password": "wrong password"}]
)
def test_a_wrong_login_says_the_same_whatever_was_wrong_and_keeps_the_email(
    open_browser: Callable[[], Browser], typed: dict[str, str]
) -> None:
    sign_up(open_browser(), GLOBEX)
    browser = open_browser()
    response = log_in(browser, GLOBEX | typed)
    assert response.status_code == 400
    assert "E-mail address or password is wrong." in response.text
    assert typed_fields(response) == {"email": (GLOBEX | typed)["email"], "password": ""}
    assert browser.get("/dashboard").headers["location"] == "/login"


def test_logging_in_replaces_the_session_and_logging_out_ends_it(browser: Browser) -> None:
    sign_up(browser, GLOBEX)
    assert browser.post("/logout", {}).headers["location"] == "/"
    assert browser.get("/dashboard").headers["location"] == "/login"
    assert log_in(browser, GLOBEX).headers["location"] == "/link"
    assert browser.open("/link").url.path == "/dashboard"


def test_nothing_of_the_session_before_survives_a_login(browser: Browser) -> None:
    sign_up(browser, GLOBEX)
    signer = TimestampSigner("s" * 32)
    planted = signer.sign(b64encode(b'{"planted": true}')).decode()
    response = httpx2.post(
        f"{browser.base_url}/login",
        data={key: GLOBEX[key] for key in ("email", "password")},
        cookies={"session": planted},
    )
    assert list(json.loads(b64decode(signer.unsign(response.cookies["session"])))) == ["user_id"]


def test_the_second_arrival_of_a_customer_goes_to_login_and_from_there_to_the_dashboard(
    open_browser: Callable[[], Browser], marketplace: LocalMarketplace
) -> None:
    first = open_browser()
    first.arrive(marketplace, "new-product")
    sign_up(first, GLOBEX)

    browser = open_browser()
    assert browser.arrive(marketplace, "new-product").headers["location"] == "/login"
    assert "has a workspace already" in browser.get("/login").text
    assert browser.get("/signup").headers["location"] == "/login"
    log_in(browser, GLOBEX)
    assert browser.open("/link").url.path == "/dashboard"
    assert browser.cookie_names == {"session"}


def test_a_customer_who_is_logged_in_goes_straight_to_the_dashboard(
    browser: Browser, marketplace: LocalMarketplace
) -> None:
    browser.arrive(marketplace, "new-product")
    sign_up(browser, GLOBEX)
    assert browser.arrive(marketplace, "new-product").headers["location"] == "/login"
    assert browser.open("/login").url.path == "/dashboard"
    assert browser.cookie_names == {"session"}


# Linking


@pytest.mark.parametrize("is_logged_in", [True, False])
def test_an_existing_user_links_only_after_confirming(
    browser: Browser, marketplace: LocalMarketplace, database: Session, is_logged_in: bool
) -> None:
    sign_up(browser, GLOBEX)
    if not is_logged_in:
        browser.post("/logout", {})
    assert browser.arrive(marketplace, "new-product").headers["location"] == "/signup"
    if is_logged_in:
        assert browser.get("/signup").headers["location"] == "/link"
    else:
        assert log_in(browser, GLOBEX).headers["location"] == "/link"

    page = browser.get("/link")
    assert "Link this AWS account to Globex" in page.text
    assert masked(marketplace) in page.text
    assert count(database, Subscription) == 0

    response = browser.submit(page, "/link")
    assert (response.status_code, response.headers["location"]) == (303, "/dashboard")
    assert browser.cookie_names == {"session"}
    assert database.scalars(select(Subscription)).one().aws_account_id == marketplace.buyer.account_id


def test_confirming_twice_links_once(browser: Browser, marketplace: LocalMarketplace, database: Session) -> None:
    sign_up(browser, GLOBEX)
    browser.arrive(marketplace, "new-product")
    page = browser.get("/link")
    browser.submit(page, "/link")
    browser.arrive(marketplace, "new-product")
    assert browser.submit(page, "/link").headers["location"] == "/dashboard"
    assert count(database, Subscription) == 1


def test_a_workspace_can_hold_several_agreements(
    browser: Browser, marketplace: LocalMarketplace, database: Session
) -> None:
    browser.arrive(marketplace, "new-product")
    sign_up(browser, GLOBEX)
    browser.arrive(marketplace, "free-trial")
    browser.submit(browser.get("/link"), "/link")
    dashboard = browser.get("/dashboard")
    agreements = database.scalars(select(Subscription.agreement_id)).all()
    assert len(agreements) == 2
    assert all(agreement and agreement in dashboard.text for agreement in agreements)


def test_what_is_confirmed_is_the_registration_that_the_page_showed_not_the_newest(
    browser: Browser, marketplace: LocalMarketplace, database: Session
) -> None:
    sign_up(browser, GLOBEX)
    browser.arrive(marketplace, "new-product")
    page = browser.get("/link")
    browser.arrive(marketplace, "legacy-product")
    browser.submit(page, "/link")
    assert database.scalars(select(Subscription)).one().product_code == "acmeanalytics"


def test_nothing_is_linked_to_another_workspace_than_the_page_showed(
    browser: Browser, marketplace: LocalMarketplace, database: Session
) -> None:
    sign_up(browser, GLOBEX)
    browser.arrive(marketplace, "new-product")
    page = browser.get("/link")
    browser.post("/logout", {})
    browser.post("/signup", INITECH)

    response = browser.submit(page, "/link")
    assert response.status_code == 409
    assert "Link this AWS account to Initech" in response.text
    assert count(database, Subscription) == 0
    assert browser.submit(response, "/link").headers["location"] == "/dashboard"


def test_an_expired_registration_links_nothing(
    browser: Browser, marketplace: LocalMarketplace, database: Session
) -> None:
    sign_up(browser, GLOBEX)
    browser.arrive(marketplace, "new-product")
    page = browser.get("/link")
    browser.forget_registrations()
    response = browser.submit(page, "/link")
    assert response.status_code == 400
    assert "Manage subscriptions" in response.text
    assert browser.get("/link").headers["location"] == "/dashboard"
    assert count(database, Subscription) == 0


def test_a_subscription_of_another_workspace_is_refused_with_a_contact(
    open_browser: Callable[[], Browser], marketplace: LocalMarketplace, database: Session
) -> None:
    browser = open_browser()
    sign_up(browser, INITECH)
    browser.arrive(marketplace, "new-product")
    page = browser.get("/link")

    other = open_browser()
    other.arrive(marketplace, "new-product")
    sign_up(other, GLOBEX)

    for response, status_code in ((browser.get("/link"), 200), (browser.submit(page, "/link"), 409)):
        assert response.status_code == status_code
        assert "This subscription is in use" in response.text
        assert "mailto:support@acme.example" in response.text
        assert "Globex" not in response.text
    assert database.scalars(select(Subscription)).one().workspace.name == "Globex"
    assert "is waiting to be linked" not in browser.get("/dashboard").text


@pytest.mark.parametrize("path", ["/link", "/dashboard"])
def test_pages_of_a_workspace_ask_to_log_in_first(browser: Browser, path: str) -> None:
    assert browser.get(path).headers["location"] == "/login"


def test_linking_asks_to_log_in_first(browser: Browser, marketplace: LocalMarketplace, database: Session) -> None:
    sign_up(browser, GLOBEX)
    browser.arrive(marketplace, "new-product")
    page = browser.get("/link")
    browser.post("/logout", {})
    assert browser.submit(page, "/link").headers["location"] == "/login"
    assert count(database, Subscription) == 0


# Declining


def test_the_question_says_whose_account_pays_for_what_and_why_it_is_asked(
    browser: Browser, marketplace: LocalMarketplace
) -> None:
    sign_up(browser, GLOBEX)
    browser.arrive(marketplace, "new-product")
    page = browser.get("/link").text
    assert masked(marketplace) in page
    assert marketplace.buyer.account_id not in page
    assert "Acme Analytics" in page
    assert "will pay for <strong>Globex</strong>" in page
    assert "We ask because any page on the web can send you here" in page


def test_a_user_declines_what_somebody_else_has_sent(
    browser: Browser, marketplace: LocalMarketplace, database: Session
) -> None:
    sign_up(browser, GLOBEX)
    browser.arrive(marketplace, "new-product")
    page = browser.get("/link")
    assert browser.submit(page, "/decline").headers["location"] == "/link"
    assert browser.open("/link").url.path == "/dashboard"
    assert "is waiting to be linked" not in browser.get("/dashboard").text
    assert browser.cookie_names == {"session"}
    assert count(database, Subscription) == 0

    # It was not theirs to click away for good: who set it up can come back.
    browser.arrive(marketplace, "new-product")
    assert masked(marketplace) in browser.get("/link").text


def test_a_visitor_declines_and_signs_up_without_aws(
    browser: Browser, marketplace: LocalMarketplace, database: Session
) -> None:
    browser.arrive(marketplace, "new-product")
    page = browser.get("/signup")
    response = browser.submit(page, "/decline")
    assert (response.status_code, response.headers["location"]) == (303, "/signup")
    assert browser.cookie_names == set()
    assert "AWS account" not in browser.get("/signup").text
    sign_up(browser, GLOBEX)
    assert count(database, Subscription) == 0

    # The form that showed it is still open in another tab, and may link it no more.
    browser.post("/logout", {})
    assert browser.submit(page, "/signup", **INITECH).status_code == 400
    assert count(database, User) == 1


def test_only_what_the_page_showed_is_declined(
    browser: Browser, marketplace: LocalMarketplace, database: Session
) -> None:
    sign_up(browser, GLOBEX)
    browser.arrive(marketplace, "new-product")
    page = browser.get("/link")
    browser.arrive(marketplace, "legacy-product")
    browser.submit(page, "/decline")
    page = browser.get("/link")
    assert "Acme Reports" in page.text
    browser.submit(page, "/link")
    assert database.scalars(select(Subscription)).one().product_code == "acmelegacy"
    assert browser.cookie_names == {"session"}


def test_a_subscription_of_somebody_else_does_not_keep_a_visitor_from_signing_up(
    open_browser: Callable[[], Browser], marketplace: LocalMarketplace
) -> None:
    other = open_browser()
    other.arrive(marketplace, "new-product")
    sign_up(other, GLOBEX)

    browser = open_browser()
    browser.arrive(marketplace, "new-product")
    assert browser.get("/signup").headers["location"] == "/login"
    assert browser.submit(browser.get("/login"), "/decline").headers["location"] == "/signup"
    sign_up(browser, INITECH)

    browser.arrive(marketplace, "new-product")
    page = browser.get("/link")
    assert "This subscription is in use" in page.text
    browser.submit(page, "/decline")
    assert browser.get("/link").headers["location"] == "/dashboard"


@pytest.mark.parametrize("fields", [{}, {"registration_id": ""}, {"registration_id": "unknown"}])
def test_declining_what_is_not_there_goes_on(browser: Browser, fields: dict[str, str]) -> None:
    response = browser.post("/decline", fields)
    assert (response.status_code, response.headers["location"]) == (303, "/signup")
    sign_up(browser, GLOBEX)
    assert browser.post("/decline", fields).headers["location"] == "/link"


# All pages


@pytest.mark.parametrize("path", ["/signup", "/login", "/link", "/decline", "/logout"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_a_post_of_another_site_is_refused(
    browser: Browser, database: Session, path: str, headers: dict[str, str]
) -> None:
    response = browser.post(path, GLOBEX, headers)
    assert response.status_code == 403
    assert "from another site" in response.text
    assert browser.cookie_names == set()
    assert count(database, User) == 0


def test_a_post_of_our_own_page_is_taken_from_an_older_browser_too(browser: Browser) -> None:
    response = browser.post("/signup", GLOBEX, {"Origin": browser.base_url})
    assert response.status_code == 303


def test_pages_cannot_be_framed_cached_or_scripted(browser: Browser) -> None:
    for path in ("/", "/signup", "/login", "/nowhere"):
        headers = browser.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"


def test_an_unknown_address_is_a_page(browser: Browser) -> None:
    response = browser.get("/nowhere")
    assert response.status_code == 404
    assert "no page at this address" in response.text


def test_a_wrong_method_is_a_page_that_names_the_right_ones(browser: Browser) -> None:
    response = browser.get("/logout")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert "That did not work" in response.text


def test_a_file_in_the_place_of_text_is_a_page(browser: Browser) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="email"; filename="a"\r\n\r\nhi\r\n--x--\r\n'
    response = httpx2.post(
        f"{browser.base_url}/login", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert response.status_code == 400
    assert "could not read this form" in response.text


def test_the_style_and_the_icon_are_served(browser: Browser) -> None:
    assert browser.get("/static/style.css").headers["content-type"].startswith("text/css")
    assert browser.get("/static/icon.svg").headers["content-type"].startswith("image/svg+xml")


def test_the_session_cookie_is_secure_unless_that_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SESSION_HTTPS_ONLY")
    with serve(create_app()) as base_url:
        cookie = httpx2.post(f"{base_url}/signup", data=GLOBEX).headers["set-cookie"].lower()
    assert {"httponly", "samesite=lax", "secure"} <= set(cookie.split("; "))


@pytest.mark.parametrize("secret", ["", "short"])
def test_the_app_refuses_to_start_without_a_session_secret(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("SESSION_SECRET", secret)
    with pytest.raises(RuntimeError, match="Set SESSION_SECRET to at least 32 random characters"):
        create_app()


@pytest.mark.parametrize("missing", ["MARKETPLACE_SECRET_KEY", "MARKETPLACE_PRODUCT_CODES"])
def test_the_app_refuses_to_start_without_its_marketplace_settings(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delenv(missing)
    with pytest.raises(RuntimeError), serve(create_app()):
        pass
