"""Links between files of the repository, as links between pages of the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping

LINK = re.compile(r"(!?\[[^\]\n]*\]\()([^)\s#]+)(#[^)\s]*)?\)")


def between_pages(text: str, where: str, elsewhere: Mapping[str, str], is_page: Callable[[str], bool]) -> str:
    """A page's Markdown whose relative links lead to pages; those that lead to no page are left for MkDocs to report.

    In the repository a link leads to the file of a notebook, which is shown there; on the site to the notebook's page,
    which alone offers the file.

    Args:
        text: Markdown.
        where: the page, such as ``nnunet.md``.
        elsewhere: the pages that are files outside of ``docs``: page to file.
        is_page: whether the site has a page or file of this name.
    """
    source = elsewhere.get(where, where if where.startswith("benchmarks/") else f"docs/{where}")
    pages = {original: page for page, original in elsewhere.items()}

    def replaced(match: re.Match[str]) -> str:
        start, target, anchor = match[1], match[2], match[3] or ""
        if re.match(r"[a-z]+:|/", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        page = pages.get(path, path.removeprefix("docs/"))
        page = "decisions/0001-one-blueprint-two-builders.md" if page == "decisions" else page
        shown = page.removesuffix(".ipynb") + ".md"
        if page.endswith(".ipynb") and shown != where and is_page(shown):
            page = shown
        if not is_page(page):
            return match[0]
        return f"{start}{posixpath.relpath(page, posixpath.dirname(where) or '.')}{anchor})"

    return LINK.sub(replaced, text)
