"""A buyer's browser, as far as these tests need one: cookies, and forms with their hidden fields."""

import re
from html.parser import HTMLParser

import httpx2

from starlette_marketplace.local import LocalMarketplace


class Browser:
    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._client = httpx2.Client(base_url=base_url, follow_redirects=False, timeout=60)

    def close(self) -> None:
        self._client.close()

    @property
    def cookie_names(self) -> set[str]:
        return {cookie.name for cookie in self._client.cookies.jar}

    def get(self, path: str) -> httpx2.Response:
        return self._client.get(path)

    def post(self, path: str, fields: dict[str, str], headers: dict[str, str] | None = None) -> httpx2.Response:
        return self._client.post(path, data=fields, headers=headers)

    def open(self, path: str) -> httpx2.Response:
        """Open a page and go where it redirects to."""
        return self._client.get(path, follow_redirects=True)

    def submit(self, page: httpx2.Response, action: str, **typed: str) -> httpx2.Response:
        """Fill in a form of a page that was opened, whatever has happened in other tabs since."""
        return self.post(action, hidden_fields(page) | typed)

    def arrive(self, marketplace: LocalMarketplace, scenario: str) -> httpx2.Response:
        """Come from AWS Marketplace: a cross-site POST, which takes no SameSite=Lax cookie along but may set some."""
        response = httpx2.post(
            f"{self.base_url}/marketplace/register",
            data={"x-amzn-marketplace-token": marketplace.issue_token(scenario)}
            | ({"x-amzn-marketplace-offer-type": "free-trial"} if scenario == "free-trial" else {}),
            headers={"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
            timeout=60,
        )
        self._client.cookies.extract_cookies(response)
        return response

    def forget_registrations(self) -> None:
        """What the browser does when an hour has passed."""
        forget(self._client.cookies, "marketplace-")


def forget(cookies: httpx2.Cookies, prefix: str) -> None:
    """What a browser does with cookies whose time is over."""
    for cookie in list(cookies.jar):
        if cookie.name.startswith(prefix):
            cookies.jar.clear(cookie.domain, cookie.path, cookie.name)


def hidden_fields(page: httpx2.Response) -> dict[str, str]:
    return {name: value for name, kind, value in inputs(page) if kind == "hidden"}


def typed_fields(page: httpx2.Response) -> dict[str, str]:
    return {name: value for name, kind, value in inputs(page) if kind != "hidden"}


def inputs(page: httpx2.Response) -> list[tuple[str, str, str]]:
    parser = _Inputs()
    parser.feed(page.text)
    return parser.found


def facts(page: httpx2.Response) -> list[dict[str, str]]:
    """What stands in the lists of a page, such as the plan of each subscription: the terms and what they say."""
    lists = re.findall("<dl.*?</dl>", page.text, re.DOTALL)
    pairs = [re.findall("<dt>(.*?)</dt>\\s*<dd>(.*?)</dd>", each, re.DOTALL) for each in lists]
    return [{term: re.sub("<[^>]*>", "", words).strip() for term, words in each} for each in pairs]


class _Inputs(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "input":
            values = {name: value or "" for name, value in attrs}
            self.found.append((values["name"], values.get("type", "text"), values.get("value", "")))
