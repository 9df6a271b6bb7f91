"""A page that is one file: HTML with its style and its pictures inside, readable without a network.

Every function returns a piece of HTML with its text escaped; `page` joins pieces to a document, `write_page`
writes it.
"""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from resvox.files import write_atomically
from resvox.viewer.style import STYLE


def page(title: str, lead: str, pieces: Sequence[str], *, footer: str = "") -> str:
    """The whole document: ``lead`` is the text under the title, ``pieces`` come from the functions below."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{_text(title)}</h1>\n<p class="lead">{_text(lead)}</p></header>\n'
        f"<main>\n{chr(10).join(pieces)}\n</main>\n<footer>{_text(footer)}</footer>\n</body>\n</html>\n"
    )


def section(title: str, *pieces: str) -> str:
    """A part of the page under its own heading."""
    return f"<section>\n<h2>{_text(title)}</h2>\n{chr(10).join(pieces)}\n</section>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{_text(text)}</p>"


def link(target: str, text: str) -> str:
    """A link to a file beside the page."""
    return f'<p><a href="{_text(target)}">{_text(text)}</a></p>'


def tiles(figures: Sequence[tuple[str, str, str]]) -> str:
    """Large figures side by side: (what it is, its value, a note)."""
    cells = (
        f'<div class="tile"><dt>{_text(name)}</dt><dd>{_text(value)}</dd><dd class="note">{_text(note)}</dd></div>'
        for name, value, note in figures
    )
    return f'<dl class="tiles">{"".join(cells)}</dl>'


def notice(title: str, *texts: str) -> str:
    """A highlighted notice."""
    return f'<aside class="notice"><h2>{_text(title)}</h2>{"".join(paragraph(text) for text in texts)}</aside>'


def two_columns(*columns: tuple[str, Sequence[str]]) -> str:
    """Lists side by side: (heading, items)."""
    made = (
        f"<div><h3>{_text(head)}</h3><ul>{''.join(f'<li>{_text(item)}</li>' for item in items)}</ul></div>"
        for head, items in columns
    )
    return f'<div class="columns">{"".join(made)}</div>'


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    swatches: Mapping[str, str] | None = None,
) -> str:
    """A table whose first column holds the names of the rows; ``swatches``: colours shown before these names."""
    swatches = swatches or {}
    top = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in head)
    body = "".join(
        "<tr>"
        + f'<th scope="row">{_swatch(swatches.get(row[0]))}{_text(row[0])}</th>'
        + "".join(f"<td>{_text(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><caption>{_text(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def picture(png: bytes, *, alt: str, caption: str = "", dark: bytes | None = None) -> str:
    """A picture inside the page; ``dark``: its version for a dark screen; ``alt``: its description."""
    source = f'<source srcset="{_data(dark)}" media="(prefers-color-scheme: dark)">' if dark else ""
    under = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
    image = f'<img src="{_data(png)}" alt="{_text(alt)}">'
    return f"<figure><picture>{source}{image}</picture>{under}</figure>"


def console(lines: Sequence[str]) -> str:
    """Commands as they are typed."""
    return f'<pre tabindex="0"><code>{_text(chr(10).join(lines))}</code></pre>'


def write_page(path: str | os.PathLike[str], text: str) -> Path:
    """Write the document atomically: at any moment the file is the old page or the new one."""
    return write_atomically(Path(path), text)


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _swatch(colour: str | None) -> str:
    return f'<span class="swatch" style="background:{_text(colour)}"></span>' if colour else ""


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
