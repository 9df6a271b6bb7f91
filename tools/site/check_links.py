"""Check the built site: every link to a page, an anchor, a picture or a script leads to something inside it.

A notebook's own page alone links to its file; all others link to that page.

python tools/site/check_links.py site
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes that a browser follows to show a page; other addresses of the network are only offered to the reader.
LOADED = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
NOT_LOADED = {"canonical", "prev", "next", "alternate"}


@dataclass
class Contents(HTMLParser):
    """The anchors of a page, and its links as (address, whether the browser loads it by itself)."""

    anchors: set[str] = field(default_factory=set)
    links: list[tuple[str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag names and what it leads to."""
        values = dict(attrs)
        self.anchors |= {str(values[name]) for name in ("id", "name") if values.get(name)}
        for name in ("href", "src"):
            if values.get(name):
                loads = (tag, name) in LOADED and values.get("rel") not in NOT_LOADED
                self.links.append((str(values[name]), loads))


def problems(site: Path) -> Iterator[str]:
    """A line for every link that leads nowhere, and for everything that would be loaded from a network."""
    pages = {path: Contents() for path in sorted(site.rglob("*.html"))}
    for path, contents in pages.items():
        contents.feed(path.read_text(encoding="utf-8"))
    for path, contents in pages.items():
        for address, loads in contents.links:
            problem = problem_of(address, loads, path, pages)
            # the links of the page of missing pages begin at the root of the server
            if problem and (urlsplit(address).netloc or path.name != "404.html"):
                yield f"{path.relative_to(site)}: {address}{problem}"


def problem_of(address: str, loads: bool, path: Path, pages: dict[Path, Contents]) -> str:
    """What is wrong with a link of a page, or ""."""
    split = urlsplit(address)
    if split.scheme in ("http", "https") or split.netloc:
        return " is loaded from a network" if loads else ""
    if split.scheme:
        return ""
    target = (path.parent / unquote(split.path)).resolve() if split.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return " does not exist"
    if target.suffix == ".ipynb" and target.with_suffix(".html") != path:
        return " is the file of a notebook, not its page"
    if split.fragment and target in pages and unquote(split.fragment) not in pages[target].anchors:
        return ": no such anchor"
    return ""


def main() -> int:
    """Print the problems of the site that is named on the command line; exit status 1 if there is one."""
    site = Path(sys.argv[1]).resolve()
    found = sorted(set(problems(site)))
    print(*found, sep="\n", end="\n" if found else "")
    count = sum(1 for _ in site.rglob("*.html"))
    print(f"{count} pages, {len(found)} broken links")
    return int(bool(found) or not count)


if __name__ == "__main__":
    sys.exit(main())
