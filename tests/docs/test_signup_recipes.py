import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest
import sqlalchemy.event
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from playwright.sync_api import Page, expect

from starlette_marketplace.local import LocalMarketplace
from tests.docs.programs import ROOT, program
from tests.example_app.browser import Browser, hidden_fields, typed_fields
from tests.example_app.steps import PASSWORD, cookie_names, session_cookie, set_up_account
from tests.example_app.steps import log_in as fill_in_login
from tests.example_app.third_site import self_submitting_form, serve_third_site
from tests.example_app.wiretap import Wiretap
from tests.support.hosts import LANDING, form
from tests.support.servers import serve

pytestmark = pytest.mark.slow

ANN, BOB, EVE = "ann@acme.example", "bob@acme.example", "eve@acme.example"
RECIPES = ["new_customer", "existing_customer", "several_users", "templates"]
PAGES = [*sorted((ROOT / "docs/recipes").glob("*.md")), ROOT / "docs/registration-session.md"]


@dataclass(frozen=True)
class Recipe:
    """A program of docs/src/recipes that runs."""

    module: ModuleType
    wiretap: Wiretap
    url: str
    stack: ExitStack

    def browser(self) -> Browser:
        return self.stack.enter_context(closing(Browser(self.url)))

    def stored(self, entity: str, column: str) -> list[Any]:
        with self.module.sessions() as db:
            return list(db.scalars(self.module.select(getattr(getattr(self.module, entity), column))))


@pytest.fixture
def run(environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Recipe]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_SECRET", "s" * 32)
    with ExitStack() as stack:

        def run(name: str) -> Recipe:
            module = program(f"recipes/{name}")
            if hasattr(module, "engine"):
                stack.callback(module.engine.dispose)
            wiretap = Wiretap(module.app)
            return Recipe(module, wiretap, stack.enter_context(serve(wiretap)), stack)

        yield run


def ending(marketplace: LocalMarketplace) -> str:
    return f"AWS account ending in {marketplace.buyer.account_id[-4:]}"


def text_of(page: httpx2.Response) -> str:
    return re.sub(r"\s+", " ", page.text)


def action_of(page: httpx2.Response, button: str) -> str:
    """Where the form with this button goes."""
    for action, fields in re.findall(r'<form method="post" action="(\S+)">(.*?)</form>', page.text, re.DOTALL):
        if f">{button}</button>" in fields:
            return str(action)
    raise AssertionError(f"no {button}: {page.text}")


def sign_up(buyer: Browser, email: str, page: httpx2.Response | None = None) -> httpx2.Response:
    page = page or buyer.open("/signup")
    return buyer.submit(page, "/signup", email=email, password=PASSWORD)


def log_in(user: Browser, email: str) -> httpx2.Response:
    return user.post("/login", {"email": email, "password": PASSWORD})


def where(response: httpx2.Response) -> tuple[int, str | None]:
    return response.status_code, response.headers.get("location")


# The commands of the pages


HIDING = """
import sys

class Hiding:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {hidden}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hiding)
"""


def brought_by(requirements: list[str]) -> set[str]:
    """The names of the distributions that pip would install into an empty environment, in the checkout."""
    todo = [Requirement(re.sub(r"^\.(?=\[|$)", "starlette-marketplace", each)) for each in requirements]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            needed = map(Requirement, requires(name) or [])
            todo += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


@contextmanager
def followed(page: Path, folder: Path) -> Iterator[str]:
    """Do what the page says in a checkout, with nothing to import but what it installs; yield the program's URL.

    Of the environment there are the settings of the local marketplace, which runs already, and what the page exports.
    """
    blocks = re.findall(r"^```sh\n(.+?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    [(install, commands)] = [block.split("\n", 1) for block in blocks if "uvicorn " in block]
    pip, verb, *requirements = shlex.split(install)
    assert (pip, verb) == ("pip", "install")
    start = "starlette-marketplace local -- uvicorn "
    assert commands.count(f"\n{start}--app-dir docs/src") + commands.startswith(f"{start}--app-dir docs/src") == 1

    brought = brought_by(requirements)
    there = packages_distributions().items()
    hidden = {module for module, names in there if not brought & {canonicalize_name(name) for name in names}}
    (folder / "sitecustomize.py").write_text(HIDING.format(hidden=hidden))
    (folder / "docs").symlink_to(ROOT / "docs")
    environment = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "MARKETPLACE_"))}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "PYTHONWARNINGS": "error,ignore:Can not control echo",  # getpass has no terminal here
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            ["bash", "-euc", commands.replace(start, f"exec uvicorn --fd {listener.fileno()} ")],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            text=True,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        assert process.stdin
        process.stdin.write(PASSWORD + "\n")
        process.stdin.close()
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_who_follows_a_page_has_its_program_running(
    page: Path, environment: None, marketplace: LocalMarketplace, tmp_path: Path
) -> None:
    with (
        followed(page, tmp_path) as url,
        httpx2.Client(base_url=url, timeout=60, follow_redirects=True) as buyer,
    ):
        shown = buyer.post(LANDING, data=form(marketplace.issue_token("new-product")))
        assert shown.status_code == 200
        assert shown.history[0].status_code == 303
        assert [cookie.secure for cookie in buyer.cookies.jar] in ([False], [False, False]), "on a laptop"


# Several recipes


@pytest.mark.parametrize("name", RECIPES)
def test_forms_of_other_sites_are_refused_and_the_post_of_aws_marketplace_is_not(
    name: str, run: Callable[[str], Recipe], marketplace: LocalMarketplace
) -> None:
    recipe = run(name)
    buyer = recipe.browser()
    arrival = buyer.arrive(marketplace, "new-product")  # It says that it is cross-site.
    assert arrival.status_code == 303
    # With both headers, as browsers have it over HTTPS, and with one, as older ones and plain http.
    for headers in (
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": recipe.url},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ):
        refused = buyer.post("/decline", hidden_fields(buyer.open("/signup")), headers)
        assert refused.status_code == 403
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": recipe.url}, {}):
        assert buyer.post("/decline", {}, headers).status_code == 303


@pytest.mark.parametrize("name", RECIPES)
def test_no_page_is_kept_or_framed(name: str, run: Callable[[str], Recipe]) -> None:
    page = run(name).browser().open("/")
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize("name", RECIPES[:3])
def test_login_sessions_are_not_sent_over_plain_http_where_registrations_are_not(
    name: str, run: Callable[[str], Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKETPLACE_HTTPS_ONLY", "true")
    app = run(name).module.app
    [options] = [middleware.kwargs for middleware in app.user_middleware if "https_only" in middleware.kwargs]
    assert options == {"secret_key": "s" * 32, "session_cookie": "__Host-session", "https_only": True}


@pytest.mark.parametrize("name", ["new_customer", "several_users", "templates"])
def test_a_registration_that_is_over_is_not_left_out_in_silence(
    name: str, run: Callable[[str], Recipe], marketplace: LocalMarketplace
) -> None:
    buyer = run(name).browser()
    buyer.arrive(marketplace, "new-product")
    page = buyer.get("/signup")
    buyer.forget_registrations()
    for _ in range(2):  # The second time it is the form of the page that said so.
        page = sign_up(buyer, ANN, page)
        assert page.status_code == 400
        assert "This took too long" in page.text
    buyer.arrive(marketplace, "new-product")
    assert sign_up(buyer, ANN, page).status_code == 303


@pytest.mark.parametrize("name", ["new_customer", "several_users", "templates"])
def test_the_form_of_a_tab_signs_up_with_what_it_has_shown(
    name: str, run: Callable[[str], Recipe], marketplace: LocalMarketplace
) -> None:
    buyer = run(name).browser()
    buyer.arrive(marketplace, "new-product")
    first = buyer.get("/signup")
    buyer.arrive(marketplace, "second-agreement")
    second = buyer.get("/signup")
    assert hidden_fields(first) != hidden_fields(second)
    assert len(buyer.cookie_names) == 2

    wrong = buyer.submit(first, "/signup", email="nobody", password=PASSWORD)
    assert wrong.status_code == 400
    assert hidden_fields(wrong) == hidden_fields(first)
    assert sign_up(buyer, ANN, wrong).status_code == 303
    left = {cookie for cookie in buyer.cookie_names if cookie.startswith("marketplace-")}
    assert left == {f"marketplace-{hidden_fields(second)['registration_id']}"}


@pytest.mark.parametrize("name", ["new_customer", "several_users", "templates"])
def test_what_was_typed_comes_back_as_text(name: str, run: Callable[[str], Recipe]) -> None:
    buyer = run(name).browser()
    typed = '"><script>alert(1)</script>'
    page = sign_up(buyer, typed, buyer.get("/signup"))
    assert page.status_code == 400
    assert "<script" not in page.text
    assert typed_fields(page)["email"] == typed


# A new customer


def test_a_new_customer_is_linked_and_logged_in(run: Callable[[str], Recipe], marketplace: LocalMarketplace) -> None:
    recipe = run("new_customer")
    buyer = recipe.browser()
    assert where(buyer.get("/")) == (303, "/signup")
    assert where(buyer.arrive(marketplace, "new-product")) == (303, "/signup")
    page = buyer.get("/signup")
    assert "of AWS account ending in " + marketplace.buyer.account_id[-4:] in text_of(page)
    assert where(sign_up(buyer, " Ann@ACME.example ", page)) == (303, "/")
    assert buyer.cookie_names == {"session"}
    home = buyer.get("/")
    assert ANN in home.text
    assert ending(marketplace) in home.text
    [stored] = recipe.stored("Account", "password_hash")
    assert stored.startswith("$argon2")


def test_a_customer_signs_up_once(run: Callable[[str], Recipe], marketplace: LocalMarketplace) -> None:
    recipe = run("new_customer")
    pages = []
    buyers = [recipe.browser(), recipe.browser()]
    for buyer in buyers:
        buyer.arrive(marketplace, "new-product")
        pages.append(buyer.get("/signup"))
    assert sign_up(buyers[0], ANN, pages[0]).status_code == 303

    late = sign_up(buyers[1], BOB, pages[1])
    assert late.status_code == 409
    assert "has an account already: log in to it" in late.text
    assert "has an account already: log in to it" in buyers[1].get("/signup").text
    assert where(buyers[1].get("/")) == (303, "/signup"), "is nobody"
    assert buyers[1].cookie_names, "the registration can still be used otherwise"
    assert recipe.stored("Account", "email") == [ANN]
    assert len(recipe.stored("Subscription", "customer_key")) == 1


def test_buyers_who_did_not_come_from_aws_sign_up_too(run: Callable[[str], Recipe]) -> None:
    recipe = run("new_customer")
    for email in (ANN, BOB):
        buyer = recipe.browser()
        page = buyer.get("/signup")
        assert "AWS" not in page.text
        assert where(sign_up(buyer, email, page)) == (303, "/")
        assert email in buyer.get("/").text
    assert recipe.stored("Subscription", "customer_key") == []


def test_an_e_mail_address_has_one_account(run: Callable[[str], Recipe], marketplace: LocalMarketplace) -> None:
    recipe = run("new_customer")
    sign_up(recipe.browser(), ANN)
    buyer = recipe.browser()
    buyer.arrive(marketplace, "new-product")
    taken = sign_up(buyer, ANN.upper())
    assert taken.status_code == 409
    assert "This e-mail address has an account" in taken.text
    short = buyer.submit(taken, "/signup", email=BOB, password="short")
    assert short.status_code == 400
    assert sign_up(buyer, BOB, short).status_code == 303
    assert len(recipe.stored("Subscription", "customer_key")) == 1


def test_a_visitor_with_somebody_elses_subscription_can_sign_up_without_it(
    run: Callable[[str], Recipe], marketplace: LocalMarketplace
) -> None:
    recipe = run("new_customer")
    buyer = recipe.browser()
    buyer.arrive(marketplace, "new-product")
    page = buyer.get("/signup")
    assert where(buyer.submit(page, action_of(page, "Not mine"))) == (303, "/signup")
    assert not buyer.cookie_names
    assert sign_up(buyer, ANN).status_code == 303
    assert recipe.stored("Subscription", "customer_key") == []


# An existing customer


@pytest.fixture
def existing(run: Callable[[str], Recipe]) -> Recipe:
    """With the accounts of Ann and of Bob."""
    recipe = run("existing_customer")
    with recipe.module.sessions.begin() as db:
        for email in (ANN, BOB):
            db.add(recipe.module.Account(email=email, password_hash=recipe.module.password_hash.hash(PASSWORD)))
            db.flush()
    return recipe


def test_accounts_are_made_as_the_page_says(run: Callable[[str], Recipe], tmp_path: Path) -> None:
    recipe = run("existing_customer")
    subprocess.run(
        [sys.executable, ROOT / "docs/src/recipes/existing_customer.py", ANN],
        cwd=tmp_path,
        input=PASSWORD + "\n",
        text=True,
        check=True,
        stderr=subprocess.DEVNULL,  # Where getpass complains that there is no terminal.
        start_new_session=True,
    )
    assert where(log_in(recipe.browser(), ANN)) == (303, "/link")


def test_who_is_logged_in_is_asked_before_anything_is_linked(existing: Recipe, marketplace: LocalMarketplace) -> None:
    user = existing.browser()
    assert where(log_in(user, ANN)) == (303, "/link")
    assert where(user.get("/link")) == (303, "/")
    assert where(user.arrive(marketplace, "new-product")) == (303, "/link")
    question = user.get("/link")
    assert f"Link {ending(marketplace)} to {ANN}?" in question.text
    assert f"{ending(marketplace)} waits to be linked" in text_of(user.get("/"))
    assert existing.stored("Subscription", "customer_key") == []

    assert where(user.submit(question, action_of(question, "Link it"))) == (303, "/")
    assert user.cookie_names == {"session"}
    assert f"Linked: {ending(marketplace)}" in user.get("/").text
    assert existing.stored("Subscription", "aws_account_id") == [marketplace.buyer.account_id]


def test_the_registration_survives_the_login(existing: Recipe, marketplace: LocalMarketplace) -> None:
    user = existing.browser()
    user.arrive(marketplace, "new-product")
    assert where(user.get("/link")) == (303, "/login")
    page = user.get("/login")
    assert f"You come from {ending(marketplace)}" in page.text
    for email, password in ((ANN, "wrong"), (EVE, PASSWORD)):
        wrong = user.post("/login", {"email": email, "password": password})
        assert wrong.status_code == 400
        assert "The e-mail address or the password is wrong" in wrong.text
        assert f"You come from {ending(marketplace)}" in wrong.text
    assert where(user.submit(page, "/link")) == (303, "/login")
    assert where(log_in(user, ANN)) == (303, "/link")
    question = user.get("/link")
    assert where(user.submit(question, "/link")) == (303, "/")
    assert f"Linked: {ending(marketplace)}" in user.get("/").text


def test_what_is_not_mine_goes_and_the_login_stays(existing: Recipe, marketplace: LocalMarketplace) -> None:
    user = existing.browser()
    log_in(user, ANN)
    user.arrive(marketplace, "new-product")
    question = user.get("/link")
    assert where(user.submit(question, action_of(question, "Not mine"))) == (303, "/")
    assert user.cookie_names == {"session"}
    assert "AWS" not in user.get("/").text
    assert user.submit(question, "/link").status_code == 400, "what is gone cannot be linked"
    assert existing.stored("Subscription", "customer_key") == []


def test_a_customer_who_is_linked_logs_in_and_is_logged_in_by_nothing_else(
    existing: Recipe, marketplace: LocalMarketplace
) -> None:
    ann, other = existing.browser(), existing.browser()
    log_in(ann, ANN)
    ann.arrive(marketplace, "new-product")
    ann.submit(ann.get("/link"), "/link")

    other.arrive(marketplace, "new-product")
    page = other.open("/link")
    assert page.url.path == "/login"
    assert f"The subscription of {ending(marketplace)} has an account: log in to it." in page.text
    assert ANN not in page.text
    assert where(other.get("/")) == (303, "/login")

    # As somebody else: it is said, and cannot be taken over.
    log_in(other, BOB)
    assert "linked to another account" in other.get("/link").text
    assert "waits to be linked" not in other.get("/").text
    [registration_id] = [name.removeprefix("marketplace-") for name in other.cookie_names if name != "session"]
    taken = other.post("/link", {"registration_id": registration_id, "account_id": "2"})
    assert taken.status_code == 409
    assert "linked to another account" in taken.text
    assert existing.stored("Subscription", "account_id") == [1]

    # As the one whose it is.
    assert where(other.post("/logout", {})) == (303, "/login")
    log_in(other, ANN)
    assert where(other.get("/link")) == (303, "/")
    assert other.cookie_names == {"session"}


def test_linking_twice_from_two_tabs_is_linking_once(existing: Recipe, marketplace: LocalMarketplace) -> None:
    user = existing.browser()
    log_in(user, ANN)
    user.arrive(marketplace, "new-product")
    tab = user.get("/link")
    user.submit(tab, "/link")
    user.arrive(marketplace, "new-product")
    assert where(user.submit(tab, "/link")) == (303, "/")
    assert existing.stored("Subscription", "account_id") == [1]


def test_only_what_a_tab_has_shown_is_linked_and_only_to_whom_it_has_shown(
    existing: Recipe, marketplace: LocalMarketplace
) -> None:
    user = existing.browser()
    log_in(user, ANN)
    user.arrive(marketplace, "new-product")
    first = user.get("/link")
    user.arrive(marketplace, "second-agreement")
    second = user.get("/link")
    user.submit(first, "/link")
    [left] = [name for name in user.cookie_names if name != "session"]
    assert left == f"marketplace-{hidden_fields(second)['registration_id']}"

    log_in(user, BOB)
    changed = user.submit(second, "/link")
    assert changed.status_code == 409
    assert "Nothing is linked" in changed.text
    assert f"to {BOB}?" in changed.text
    assert existing.stored("Subscription", "account_id") == [1]
    assert where(user.submit(changed, "/link")) == (303, "/")
    assert existing.stored("Subscription", "account_id") == [1, 2]


# An existing customer in a real browser, between two sites: the marketplace on localhost, the app on 127.0.0.1


@pytest.fixture
def storefront(storefront: str, marketplace: LocalMarketplace, existing: Recipe) -> str:
    marketplace.registration_url = f"{existing.url}/marketplace/register"
    return storefront


def test_a_user_who_is_logged_in_clicks_is_asked_and_links(
    page: Page, storefront: str, existing: Recipe, marketplace: LocalMarketplace
) -> None:
    page.goto(f"{existing.url}/login")
    fill_in_login(page, ANN)
    expect(page).to_have_url(f"{existing.url}/")
    session = session_cookie(page.context, existing.url)

    set_up_account(page, storefront, "new-product")
    expect(page).to_have_url(f"{existing.url}/link")
    expect(page.locator("body > p").first).to_have_text(re.compile(f"^You are logged in as {ANN}. Not you\\? Log out"))
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    expect(page.get_by_role("heading")).to_have_text(f"Link {ending(marketplace)} to {ANN}?")
    [arrival] = existing.wiretap.requests("POST", "/marketplace/register")
    assert (arrival.site, arrival.cookies) == ("cross-site", set())
    assert session_cookie(page.context, existing.url) == session
    assert existing.stored("Subscription", "customer_key") == []

    page.get_by_role("button", name="Link it").click()
    expect(page.get_by_text(f"Linked: {ending(marketplace)}")).to_be_visible()
    assert cookie_names(page.context, existing.url) == ["session"]
    assert existing.stored("Subscription", "aws_account_id") == [marketplace.buyer.account_id]


def test_a_user_who_is_not_logged_in_clicks_logs_in_and_links(
    page: Page, storefront: str, existing: Recipe, marketplace: LocalMarketplace
) -> None:
    set_up_account(page, storefront, "new-product")
    expect(page).to_have_url(f"{existing.url}/login")
    expect(page.get_by_text(f"You come from {ending(marketplace)}")).to_be_visible()
    fill_in_login(page, ANN)
    expect(page).to_have_url(f"{existing.url}/link")
    page.get_by_role("button", name="Link it").click()
    expect(page.get_by_text(f"Linked: {ending(marketplace)}")).to_be_visible()
    assert cookie_names(page.context, existing.url) == ["session"]


def test_a_user_who_was_sent_here_with_the_account_of_somebody_else_declines_it(
    page: Page, storefront: str, existing: Recipe
) -> None:
    page.goto(f"{existing.url}/login")
    fill_in_login(page, ANN)
    expect(page).to_have_url(f"{existing.url}/")
    set_up_account(page, storefront, "new-product")
    page.get_by_role("button", name="Not mine").click()
    expect(page).to_have_url(f"{existing.url}/")
    expect(page.get_by_text("AWS account")).to_have_count(0)
    assert cookie_names(page.context, existing.url) == ["session"]
    assert existing.stored("Subscription", "customer_key") == []


@pytest.mark.parametrize(("host", "cookies_come_along"), [("127.0.0.1", True), ("localhost", False)])
def test_neither_a_sister_of_our_site_nor_another_site_links_for_the_user(
    host: str, cookies_come_along: bool, page: Page, storefront: str, existing: Recipe
) -> None:
    page.goto(f"{existing.url}/login")
    fill_in_login(page, ANN)
    set_up_account(page, storefront, "new-product")
    expect(page).to_have_url(f"{existing.url}/link")
    fields = {name: page.locator(f"[name={name}]").last.input_value() for name in ("registration_id", "account_id")}
    with serve_third_site(host) as site:
        page.goto(site.publish(self_submitting_form(f"{existing.url}/link", fields)))
        expect(page.get_by_text("This form was sent from another site")).to_be_visible()
    [attempt] = existing.wiretap.requests("POST", "/link")
    assert attempt.site == ("same-site" if cookies_come_along else "cross-site")
    assert ("session" in attempt.cookies) is cookies_come_along
    assert existing.stored("Subscription", "customer_key") == []


# Several users of one customer


@pytest.fixture
def team(run: Callable[[str], Recipe]) -> Recipe:
    return run("several_users")


@pytest.fixture
def owner(team: Recipe, marketplace: LocalMarketplace) -> Browser:
    """Ann has come from AWS and signed up."""
    owner = team.browser()
    owner.arrive(marketplace, "new-product")
    assert where(sign_up(owner, ANN)) == (303, "/")
    assert f"You are its owner, {ANN}." in owner.get("/").text
    assert f"Subscribed by {ending(marketplace)}" in owner.get("/").text
    assert owner.cookie_names == {"session"}
    return owner


def ask_to_join(team: Recipe, marketplace: LocalMarketplace, email: str) -> Browser:
    colleague = team.browser()
    colleague.arrive(marketplace, "new-product")
    page = colleague.open("/signup")
    asked = colleague.submit(page, action_of(page, "Ask to join"), email=email, password=PASSWORD)
    assert where(asked) == (303, "/asked")
    return colleague


def decide(owner: Browser, decision: str) -> httpx2.Response:
    return owner.submit(owner.get("/"), "/requests", answer=decision)


def test_the_second_person_of_an_aws_account_is_neither_the_owner_nor_a_member(
    team: Recipe, owner: Browser, marketplace: LocalMarketplace
) -> None:
    colleague = team.browser()
    assert where(colleague.arrive(marketplace, "new-product")) == (303, "/signup")
    page = colleague.get("/signup")
    assert "Ask to join" in page.text
    assert ANN not in page.text
    assert where(colleague.get("/")) == (303, "/signup")
    assert sign_up(colleague, BOB, page).status_code == 409, "of what is linked, nobody else becomes the owner"
    assert team.stored("User", "email") == [ANN]

    colleague = ask_to_join(team, marketplace, BOB)
    assert not colleague.cookie_names
    asked = colleague.get("/asked").text
    assert "Your request is with the owner" in asked
    assert ANN not in asked
    assert "AWS account" not in asked
    assert where(colleague.get("/")) == (303, "/signup")
    early = log_in(colleague, BOB)
    assert early.status_code == 400
    assert "or you are not accepted yet" in early.text
    assert colleague.post("/requests", {"request_id": "1", "answer": "accept"}).status_code == 403
    assert team.stored("User", "email") == [ANN]


def test_who_is_accepted_becomes_a_member_and_decides_nothing(
    team: Recipe, owner: Browser, marketplace: LocalMarketplace
) -> None:
    bob = ask_to_join(team, marketplace, BOB)
    assert f"{BOB} asks to join." in owner.get("/").text
    assert where(decide(owner, "accept")) == (303, "/")
    assert where(log_in(bob, BOB)) == (303, "/")
    home = bob.get("/").text
    assert f"You are its member, {BOB}." in home
    assert ending(marketplace) in home

    ask_to_join(team, marketplace, EVE)
    assert EVE not in bob.get("/").text
    assert bob.post("/requests", {"request_id": "2", "answer": "accept"}).status_code == 403
    assert EVE in owner.get("/").text
    assert team.stored("User", "role") == ["owner", "member"]


def test_who_is_refused_is_gone_and_the_answer_is_not_taken_for_one_to_somebody_else(
    team: Recipe, owner: Browser, marketplace: LocalMarketplace
) -> None:
    bob = ask_to_join(team, marketplace, BOB)
    older = owner.get("/")
    assert where(decide(owner, "refuse")) == (303, "/")
    assert log_in(bob, BOB).status_code == 400
    ask_to_join(team, marketplace, EVE)
    assert where(owner.submit(older, "/requests", answer="accept")) == (303, "/")
    assert team.stored("User", "email") == [ANN]
    assert team.stored("JoinRequest", "email") == [EVE]


@pytest.mark.parametrize("first", ["accept", "refuse"])
@pytest.mark.parametrize("second", ["accept", "refuse"])
def test_of_two_answers_at_once_the_first_one_counts(
    team: Recipe, owner: Browser, marketplace: LocalMarketplace, first: str, second: str
) -> None:
    ask_to_join(team, marketplace, BOB)
    page = owner.get("/")
    answers: list[httpx2.Response | None] = []

    def answer_first(*arguments: Any) -> None:
        # The second answer has read the request, and is about to remove it.
        if str(arguments[2]).startswith("DELETE FROM join_request") and not answers:
            answers.append(None)
            answers.append(owner.submit(page, "/requests", answer=first))

    sqlalchemy.event.listen(team.module.engine, "before_cursor_execute", answer_first)
    assert where(owner.submit(page, "/requests", answer=second)) == (303, "/")
    assert answers[1] is not None
    assert where(answers[1]) == (303, "/")
    assert team.stored("User", "email") == ([ANN, BOB] if first == "accept" else [ANN])
    assert team.stored("JoinRequest", "email") == []


def test_whoever_has_a_registration_can_ask_again_and_again_and_fills_no_more_than_a_page(
    team: Recipe, owner: Browser, marketplace: LocalMarketplace
) -> None:
    colleague = team.browser()
    arrived = colleague.arrive(marketplace, "new-product")
    fields = hidden_fields(colleague.get("/signup")) | {"password": PASSWORD}

    def ask(number: int) -> int:
        url, data = f"{team.url}/join", fields | {"email": f"{number}@evil.example"}
        with httpx2.Client(cookies=arrived.cookies) as anew:
            return anew.post(url, data=data).status_code

    limit = team.module.WAITING_AT_MOST
    assert [ask(number) for number in range(limit + 2)] == [303] * limit + [409] * 2
    assert len(team.stored("JoinRequest", "email")) == limit == owner.get("/").text.count("asks to join")
    decide(owner, "refuse")
    assert [ask(limit), ask(limit + 1)] == [303, 409]
    assert team.stored("User", "email") == [ANN]


def test_an_address_that_was_only_asked_with_is_left_to_whoever_has_it(
    team: Recipe, owner: Browser, marketplace: LocalMarketplace
) -> None:
    ask_to_join(team, marketplace, BOB)
    again = team.browser()
    again.arrive(marketplace, "new-product")
    asked = again.submit(again.get("/signup"), "/join", email=BOB, password=PASSWORD)
    assert asked.status_code == 409
    assert "A request with this address waits already" in asked.text

    bob = team.browser()
    assert where(sign_up(bob, BOB)) == (303, "/")
    late = decide(owner, "accept")
    assert late.status_code == 409
    assert "has got an account since" in late.text
    assert where(decide(owner, "refuse")) == (303, "/")
    assert "asks to join" not in owner.get("/").text
    assert f"You are its owner, {BOB}." in bob.get("/").text
    asked = again.submit(again.get("/signup"), "/join", email=BOB, password=PASSWORD)
    assert asked.status_code == 409
    assert "has an account: log in" in asked.text
    assert team.stored("User", "role") == ["owner", "owner"]
    assert team.stored("JoinRequest", "email") == []


@pytest.mark.parametrize("request_id", [str(2**70), "0", "-1", "one", ""])
def test_a_request_that_cannot_be_is_no_error_of_the_server(team: Recipe, owner: Browser, request_id: str) -> None:
    assert owner.post("/requests", {"request_id": request_id, "answer": "accept"}).status_code == 422


def test_an_owner_decides_for_the_own_workspace_alone(
    team: Recipe, owner: Browser, marketplace: LocalMarketplace
) -> None:
    ask_to_join(team, marketplace, BOB)
    other = team.browser()  # has not come from AWS, and has a workspace of the own
    page = other.get("/signup")
    assert "AWS" not in page.text
    assert where(sign_up(other, EVE, page)) == (303, "/")
    assert f"You are its owner, {EVE}." in other.get("/").text
    for decision in ("accept", "refuse"):
        assert where(other.post("/requests", {"request_id": "1", "answer": decision})) == (303, "/")
        assert team.stored("User", "email") == [ANN, EVE]
        assert team.stored("JoinRequest", "email") == [BOB]
    for decision in ("", "accept", "refuse"):  # What was accepted once is not up for refusal.
        owner.post("/requests", {"request_id": "1", "answer": decision})
    assert team.stored("User", "role") == ["owner", "owner", "member"]


def test_who_has_no_registration_cannot_ask(team: Recipe, owner: Browser, marketplace: LocalMarketplace) -> None:
    stranger = team.browser()
    registration_id = hidden_fields(arrived := open_signup(team, marketplace))["registration_id"]
    assert action_of(arrived, "Ask to join") == "/join"
    for sent in ("", registration_id):
        fields = {"email": EVE, "password": PASSWORD, "registration_id": sent}
        assert stranger.post("/join", fields).status_code == 400
    assert team.stored("JoinRequest", "email") == []


def open_signup(team: Recipe, marketplace: LocalMarketplace) -> httpx2.Response:
    colleague = team.browser()
    colleague.arrive(marketplace, "new-product")
    return colleague.get("/signup")


def test_of_two_who_arrive_before_either_has_signed_up_one_becomes_the_owner(
    team: Recipe, marketplace: LocalMarketplace
) -> None:
    ann, bob = team.browser(), team.browser()
    for user in (ann, bob):
        user.arrive(marketplace, "new-product")
    page = bob.get("/signup")
    sign_up(ann, ANN)
    late = sign_up(bob, BOB, page)
    assert late.status_code == 409
    assert "Somebody was quicker" in late.text
    assert where(bob.submit(late, action_of(late, "Ask to join"), email=BOB, password=PASSWORD)) == (303, "/asked")
    assert team.stored("User", "email") == [ANN]
    assert team.stored("JoinRequest", "email") == [BOB]


def test_the_database_has_the_last_word_on_who_becomes_the_owner(
    team: Recipe, owner: Browser, marketplace: LocalMarketplace
) -> None:
    with team.module.sessions() as db:
        [linked] = db.scalars(team.module.select(team.module.Subscription))
        again = team.module.Subscription(
            customer_key=linked.customer_key, aws_account_id=linked.aws_account_id, workspace=team.module.Workspace()
        )
        db.add(again)
        with pytest.raises(team.module.IntegrityError):
            db.commit()


def test_a_user_who_arrives_again_is_taken_home(team: Recipe, owner: Browser, marketplace: LocalMarketplace) -> None:
    owner.arrive(marketplace, "new-product")
    assert where(owner.get("/signup")) == (303, "/")
    assert owner.cookie_names == {"session"}

    elsewhere = team.browser()
    elsewhere.arrive(marketplace, "new-product")
    assert elsewhere.get("/login").status_code == 200
    assert elsewhere.post("/login", {"email": ANN, "password": "wrong"}).status_code == 400
    assert log_in(elsewhere, EVE).status_code == 400
    assert where(log_in(elsewhere, ANN)) == (303, "/signup")
    assert where(elsewhere.get("/signup")) == (303, "/")
    assert elsewhere.cookie_names == {"session"}
    assert where(log_in(elsewhere, ANN)) == (303, "/")


def test_who_was_sent_here_with_somebody_elses_subscription_can_say_so(
    team: Recipe, owner: Browser, marketplace: LocalMarketplace
) -> None:
    visitor = team.browser()
    visitor.arrive(marketplace, "new-product")
    page = visitor.get("/signup")
    visitor.submit(page, action_of(page, "Not mine"))
    assert "Create a workspace" in visitor.get("/signup").text
    taken = sign_up(visitor, ANN)
    assert taken.status_code == 409
    assert "This e-mail address has an account" in taken.text
    short = visitor.submit(taken, "/signup", email=EVE, password="short")
    assert short.status_code == 400


# Pages from templates


def test_every_page_knows_who_has_come_until_the_signup_is_over(
    run: Callable[[str], Recipe], marketplace: LocalMarketplace
) -> None:
    buyer = run("templates").browser()
    for path in ("/", "/prices", "/signup"):
        assert "AWS account" not in buyer.get(path).text
    buyer.arrive(marketplace, "new-product")
    for path in ("/", "/prices"):
        page = buyer.get(path)
        assert f"You have come from {ending(marketplace)}." in page.text
        assert "Finish setting up" in page.text
    page = buyer.get("/signup")
    assert "Finish setting up" not in page.text
    assert f"subscription of {ending(marketplace)}" in page.text

    assert where(sign_up(buyer, ANN, page)) == (303, "/welcome")
    assert "AWS account" not in buyer.get("/welcome").text
    assert not buyer.cookie_names

    buyer.arrive(marketplace, "new-product")
    late = sign_up(buyer, BOB)
    assert late.status_code == 409
    assert "log in to it" in late.text


def test_the_banner_can_be_declined(run: Callable[[str], Recipe], marketplace: LocalMarketplace) -> None:
    buyer = run("templates").browser()
    buyer.arrive(marketplace, "new-product")
    page = buyer.get("/prices")
    assert where(buyer.submit(page, action_of(page, "Not mine"))) == (303, "/")
    assert "AWS account" not in buyer.get("/prices").text
    assert not buyer.cookie_names
    assert where(sign_up(buyer, ANN)) == (303, "/welcome")


def test_templates_are_escaped_whatever_their_files_are_called(environment: None, run: Callable[[str], Recipe]) -> None:
    templates = run("templates").module.templates
    assert templates.env.from_string("{{ it }}").render(it="<b>") == "&lt;b&gt;"
    assert templates.env.autoescape is True


def test_the_page_on_templates_shows_each_of_them() -> None:
    page = (ROOT / "docs/recipes/templates.md").read_text()
    shown = set(re.findall(r'^--8<-- "recipes/templates/(\w+\.html)"$', page, re.MULTILINE))
    assert shown == {file.name for file in (ROOT / "docs/src/recipes/templates").iterdir()}
