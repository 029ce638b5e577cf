"""Take the pictures of the documentation from the real pages: `make pictures`."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from playwright.sync_api import Page, sync_playwright

from example_app.app import create_app
from starlette_marketplace.testing import RunningMarketplace, run_local_marketplace
from tests.support.servers import serve

IMAGES = Path(__file__).parent / "images"
CHROMIUM = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def main() -> None:
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("chromium is not on PATH: apt-get install chromium")
    IMAGES.mkdir(exist_ok=True)
    with (
        run_local_marketplace() as marketplace,
        example_app(marketplace) as app_url,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=CHROMIUM) as browser,
    ):
        marketplace.marketplace.registration_url = f"{app_url}/marketplace/register"
        page = browser.new_page(viewport={"width": 1280, "height": 800}, device_scale_factor=1)
        take_pictures(page, marketplace.url.replace("127.0.0.1", "localhost"))


@contextmanager
def example_app(marketplace: RunningMarketplace) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        environment = marketplace.environment() | {
            "DATABASE_URL": f"sqlite:///{folder}/acme.db",
            "SESSION_SECRET": "s" * 32,
            "SESSION_HTTPS_ONLY": "false",
            "MARKETPLACE_MAX_ATTEMPTS": "3",
            "MARKETPLACE_PRODUCT_NAME": "Acme Analytics",
            "MARKETPLACE_LOGO_URL": "/static/icon.svg",
            "MARKETPLACE_SUPPORT_URL": "mailto:support@acme.example",
        }
        with patch.dict(os.environ, environment, clear=True), serve(create_app()) as url:
            yield url


def take_pictures(page: Page, storefront: str) -> None:
    page.goto(storefront)
    page.locator("#new-product").get_by_text("The form that is posted").click()
    page.screenshot(path=IMAGES / "storefront.png")
    for scenario in ("throttled", "new-product"):
        page.goto(f"{storefront}#{scenario}")
        page.locator(f"#{scenario}").get_by_role("button", name="Set up your account").click()
        page.get_by_role("heading", level=1).wait_for()
    page.screenshot(path=IMAGES / "signup.png")
    page.goto(storefront)
    page.locator("#new-product").get_by_role("link", name="Manage").click()
    page.get_by_label("Team").first.check()
    page.get_by_role("button", name="Change the plan").click()
    page.get_by_role("status").wait_for()
    page.set_viewport_size({"width": 1280, "height": 1250})
    page.screenshot(path=IMAGES / "manage.png")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{storefront}/activity")
    page.locator(".calls summary").first.click()
    page.get_by_role("button", name="Pause").click()
    # boto3 names the machine's kernel, which is not for the documentation.
    page.locator("pre").first.evaluate("pre => pre.textContent = pre.textContent.replace(/os.linux#\\S+/, 'os/linux')")
    page.evaluate("scrollTo(0, document.querySelector('h1').getBoundingClientRect().bottom)")
    page.screenshot(path=IMAGES / "activity.png")
    page.set_viewport_size({"width": 760, "height": 640})
    page.goto(storefront)
    page.locator("#expired").get_by_role("button", name="Set up your account").click()
    page.get_by_role("heading", level=1).wait_for()
    page.screenshot(path=IMAGES / "expired.png")


if __name__ == "__main__":
    main()
