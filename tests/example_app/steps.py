"""What a person does in front of the browser, and what there is to see and to find afterwards."""

import re

from playwright.sync_api import BrowserContext, Page, expect
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from example_app.models import Subscription, User
from starlette_marketplace.local import SCENARIOS, LocalMarketplace

PASSWORD = "correct horse"


def set_up_account(page: Page, storefront: str, scenario: str) -> None:
    page.goto(storefront)
    card = page.locator(f"#{scenario}")
    if not card.is_visible():
        page.locator("details", has=card).locator("summary").first.click()
    card.get_by_role("button", name="Set up your account").click()


def sign_up(page: Page, company: str, email: str) -> None:
    page.get_by_label("Company").fill(company)
    page.get_by_label("Work e-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name=re.compile("^Create")).click()


def log_in(page: Page, email: str) -> None:
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def link_to(page: Page, company: str) -> None:
    page.get_by_role("button", name=f"Link this AWS account to {company}").click()


def decline(page: Page) -> None:
    page.get_by_role("button", name="Not mine").click()


def expect_question(page: Page, app_url: str, company: str) -> None:
    expect(page).to_have_url(f"{app_url}/link")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Link this AWS account to {company}?")
    expect(page.get_by_role("region", name="You are logged in as")).to_contain_text(f"Workspace: {company}")


def masked(marketplace: LocalMarketplace) -> str:
    return f"•••• •••• {marketplace.buyer.account_id[-4:]}"


def agreement(marketplace: LocalMarketplace, scenario: str) -> str:
    """What AWS calls the agreement that the buyer has in a scenario of a product that is not a legacy one."""
    metadata = marketplace.buyer.identify(SCENARIOS[scenario])["Metadata"]
    assert isinstance(metadata, dict)
    return str(metadata["AgreementId"])


def cookie_names(context: BrowserContext, app_url: str) -> list[str]:
    """The names of the app's cookies, every registration's without its id."""
    names = [str(cookie["name"]) for cookie in context.cookies(app_url)]
    return sorted(re.sub("^marketplace-[0-9a-f]{24}$", "marketplace-<id>", name) for name in names)


def session_cookie(context: BrowserContext, app_url: str) -> str:
    [cookie] = [cookie for cookie in context.cookies(app_url) if cookie["name"] == "session"]
    return str(cookie["value"])


def linked(database: Session) -> list[str | None]:
    """The agreements that pay for a workspace, in the order in which they were linked."""
    return list(database.scalars(select(Subscription.agreement_id).order_by(Subscription.id)))


def number_of_users(database: Session) -> int:
    return database.scalar(select(func.count()).select_from(User)) or 0
