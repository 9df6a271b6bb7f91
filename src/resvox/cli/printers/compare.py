"""What `resvox compare` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from resvox.cli.printers.console import line, out

if TYPE_CHECKING:
    from resvox.workflow.compare import CompareResult


def show_differences(result: CompareResult) -> None:
    """One row per label and pair; the mean over labels is the last of each pair."""
    for other in result.names[1:]:
        rows = [each for each in result.differences if each.names[1] == other]
        table = Table(title=escape(f"{result.metric}: {other} less {result.names[0]}"), box=None, padding=(0, 2))
        for head in ("label", "cases", result.names[0], other, "difference", "95 % interval", "p", "p (Holm)"):
            table.add_column(escape(head), justify="left" if head == "label" else "right")
        for each in rows:
            interval = "-" if each.low is None else f"{each.low:+.4f} to {each.high:+.4f}"
            table.add_row(
                escape(each.label), str(each.cases), f"{each.first:.4f}", f"{each.second:.4f}",
                f"{each.difference:+.4f}", interval, f"{each.p:.3g}", f"{each.adjusted:.3g}",
            )  # fmt: skip
        out.print(table)
    if any(each.cases < 6 for each in result.differences):
        line("With fewer than 6 cases no difference reaches p < 0.05 in this test.")
