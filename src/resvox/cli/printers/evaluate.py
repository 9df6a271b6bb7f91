"""What `resvox evaluate` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.cli.printers.console import line, out

if TYPE_CHECKING:
    from resvox.workflow import EvaluateResult


def show_scores(result: EvaluateResult) -> None:
    """The table, then what could not be scored."""
    out.print(result.scores.table())
    for remark in result.remarks:
        line(remark, style="yellow", stderr=True)
    for reason in result.failed:
        line(f"error: {reason}", style="red", stderr=True)
    if result.missing:
        line(f"error: no prediction for {', '.join(result.missing)}", style="red", stderr=True)
    if result.extra:
        line(f"no reference for {', '.join(result.extra)}; not scored", style="yellow", stderr=True)
