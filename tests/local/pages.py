from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx2

TOKEN = "x-amzn-marketplace-token"


@dataclass
class Form:
    scenario: str | None
    method: str | None
    action: str | None
    folded: bool
    fields: dict[str, str | None] = field(default_factory=dict)
    text: str = ""

    @property
    def token(self) -> str:
        token = self.fields[TOKEN]
        assert token
        return token

    def submit(self, url: str, **typed: str) -> httpx2.Response:
        """Do what a browser does that stands on the page with this URL and follows redirects."""
        assert self.method == "post"
        fields = {name: value or "" for name, value in self.fields.items()}
        return httpx2.post(urljoin(url, self.action), data=fields | typed, follow_redirects=True)


class Page(HTMLParser):
    """A page as a browser understands it: its forms, its text, and what it would load or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.text = ""
        self.tags: set[str] = set()
        self.headings: list[str] = []
        self.loads: list[str] = []
        self.preformatted: list[str] = []
        self._scenario: str | None = None
        self._folds: list[bool] = []
        self._in_form = False
        self._in_pre = False
        self.feed(html)

    def form(self, scenario: str) -> Form:
        """The form that is posted to the seller, for the first agreement."""
        return self.setup_forms(scenario)[0]

    def setup_forms(self, scenario: str) -> list[Form]:
        return [form for form in self.forms if form.scenario == scenario and TOKEN in form.fields]

    def forms_to(self, action: str) -> list[Form]:
        return [form for form in self.forms if form.action == action]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.add(tag)
        self.loads += [value or "" for name, value in attrs if name in {"src", "srcset", "style", "onclick"}]
        if tag == "link":
            self.loads.append(attributes["href"] or "")
        elif tag == "article":
            self._scenario = attributes.get("id")
        elif tag == "details":
            self._folds.append("open" not in attributes)
        elif tag == "form":
            self._in_form = True
            folded = any(self._folds)
            self.forms.append(Form(self._scenario, attributes.get("method"), attributes.get("action"), folded))
        elif tag == "input" and (attributes.get("type") != "radio" or "checked" in attributes):
            self.forms[-1].fields[attributes["name"] or ""] = attributes["value"]
        elif tag == "pre":
            self._in_pre = True
            self.preformatted.append("")
        elif tag in {"h1", "h2", "h3"}:
            self.headings.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._scenario = None
        elif tag == "details":
            self._folds.pop()
        elif tag == "form":
            self._in_form = False
        elif tag == "pre":
            self._in_pre = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_form:
            self.forms[-1].text += data
        if self._in_pre:
            self.preformatted[-1] += data


def open_page(url: str) -> Page:
    return Page(httpx2.get(url).raise_for_status().text)
