"""What `resvox demo` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.cli.printers.console import line, out

if TYPE_CHECKING:
    from resvox.workflow import DemoResult


def show_part(text: str) -> None:
    """A part of the demo begins."""
    line(text, style="bold")


def show_demo(result: DemoResult) -> None:
    """Scores, what they mean, and where to look."""
    out.print(result.scores.table())
    for text in result.meaning:
        out.print(text, style="yellow", markup=False)
    line(f"Done in {sum(result.seconds.values()):.0f} s. Open {result.report}", style="bold")
