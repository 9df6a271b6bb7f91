"""Check the built site: every link to a page, an anchor, a picture or a script leads to something inside it.

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
            split = urlsplit(address)
            where = path.relative_to(site)
            if split.scheme in ("http", "https") or split.netloc:
                if loads:
                    yield f"{where}: {address} is loaded from a network"
                continue
            if split.scheme:
                continue
            target = (path.parent / unquote(split.path)).resolve() if split.path else path
            target = target / "index.html" if target.is_dir() else target
            if where.name == "404.html":  # its links begin at the root of the server
                continue
            if not target.is_file():
                yield f"{where}: {address} does not exist"
            elif split.fragment and target in pages and unquote(split.fragment) not in pages[target].anchors:
                yield f"{where}: {address}: no such anchor"


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
