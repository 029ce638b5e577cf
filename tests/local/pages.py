from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Form:
    scenario: str | None
    method: str | None
    action: str | None
    folded: bool
    fields: dict[str, str | None] = field(default_factory=dict)


class Page(HTMLParser):
    """A page as a browser understands it: its forms, its text, and what it would load or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.text = ""
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self._scenario: str | None = None
        self._folded = False
        self.feed(html)

    def form(self, scenario: str) -> Form:
        (form,) = [form for form in self.forms if form.scenario == scenario]
        return form

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.add(tag)
        self.loads += [value or "" for name, value in attrs if name in {"href", "src", "srcset", "style", "onclick"}]
        if tag == "article":
            self._scenario = attributes["id"]
        elif tag == "details":
            self._folded = "open" not in attributes
        elif tag == "form":
            self.forms.append(Form(self._scenario, attributes.get("method"), attributes.get("action"), self._folded))
        elif tag == "input":
            assert attributes["type"] == "hidden"
            self.forms[-1].fields[attributes["name"] or ""] = attributes["value"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._scenario = None
        elif tag == "details":
            self._folded = False

    def handle_data(self, data: str) -> None:
        self.text += data
