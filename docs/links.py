"""What zensical does not look for in the site that it builds: links to files, pages that no menu leads to."""

import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parent.parent
REPOSITORY = "https://github.com/starlette-marketplace/starlette-marketplace"


class _Page(HTMLParser):
    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name == "id" and value:
                self.ids.add(value)


def broken_links(site: Path) -> Iterator[str]:
    """The links of the built site that lead nowhere, and the pages that its menu and its folder do not share."""
    # 404.html is for every address, so its links are absolute; below src/ are the templates of programs.
    files = [file for file in site.rglob("*.html") if file.relative_to(site).parts[0] not in ("404.html", "src")]
    pages = {file: _Page(file) for file in sorted(files)}
    for file, page in pages.items():
        for link in page.links:
            if not _leads_somewhere(link, file, pages):
                yield f"{file.relative_to(site)}: {link}"
    menu = set(_menu(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    docs = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    yield from (f"{page}: in the menu or in docs/, and not in both" for page in sorted(menu ^ docs))


def _leads_somewhere(link: str, file: Path, pages: dict[Path, _Page]) -> bool:
    if link.startswith(f"{REPOSITORY}/blob/main/"):
        return (ROOT / urlsplit(link).path.partition("/blob/main/")[2]).exists()
    url = urlsplit(link)
    if url.scheme or url.netloc:
        return True
    target = (file.parent / unquote(url.path)).resolve() if url.path else file
    if target.is_dir():
        target /= "index.html"
    return target.exists() and (not url.fragment or target not in pages or url.fragment in pages[target].ids)


def _menu(entries: list[dict[str, object]]) -> Iterator[str]:
    for entry in entries:
        for target in entry.values():
            if isinstance(target, list):
                yield from _menu(target)
            else:
                yield str(target)


if __name__ == "__main__":
    sys.exit("\n".join(broken_links((ROOT / "site").resolve())) or None)
