"""A table for a terminal, from plain rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

UNDEFINED = "-"


@dataclass(frozen=True, kw_only=True)
class Row:
    """The cells of one line; ``style`` is Rich's, such as "bold"."""

    cells: tuple[str, ...]
    style: str = ""


def draw(
    headings: Sequence[str], sections: Iterable[Sequence[Row]], *, title: str = "", text_columns: Sequence[int] = (0, 1)
) -> Table:
    """Sections of rows with a line between them; columns of numbers are aligned to the right.

    Args:
        headings: one per column.
        sections: rows with one cell per column.
        title: above the table; "" for none.
        text_columns: indices of the columns of text.
    """
    table = Table(title=Text(title) if title else None, title_justify="left")
    for index, heading in enumerate(headings):
        is_text = index in text_columns
        table.add_column(
            Text(heading), justify="left" if is_text else "right", overflow="fold" if is_text else "ellipsis"
        )
    for rows in sections:
        for row in rows:
            # Text, not str: a label called "[left] lung" is not markup
            table.add_row(*(Text(cell) for cell in row.cells), style=row.style or None)
        table.add_section()
    return table


def shown(value: float | None, decimals: int) -> str:
    """A number with so many decimals, or with two digits where those would be zeros; ``-`` for None."""
    if value is None:
        return UNDEFINED
    return f"{value:.2g}" if 0 < abs(value) < 10**-decimals else f"{value:.{decimals}f}"
