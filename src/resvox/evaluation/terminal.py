"""The table of scores as a terminal shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from resvox.evaluation.scores import LabelScore
    from resvox.evaluation.table import LabelSummary, ScoreTable

UNDEFINED = "-"


def draw_table(scores: ScoreTable, *, title: str = "") -> Table:
    """Rows of cases and labels; below them the means, each only where it adds to the rows."""
    table = Table(title=Text(title) if title else None, title_justify="left")
    table.add_column("case", overflow="fold")
    table.add_column("label", overflow="fold")
    for heading in ("Dice", "HD95 (mm)", f"surface Dice ({scores.tolerance_mm:g} mm)"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for case, labels in scores.scores.items():
        for position, (label, score) in enumerate(labels.items()):
            # Text, not str: a label called "[left] lung" is no markup.
            shown = case if position == 0 else ""
            table.add_row(Text(shown), Text(label), *_numbers(score), _note(score))
        table.add_section()
    summary = scores.summary
    if len(scores.scores) > 1:
        for position, (label, mean) in enumerate(summary.items()):
            table.add_row("mean" if position == 0 else "", Text(label), *_numbers(mean), _counts(mean))
        table.add_section()
    if len(summary) > 1:
        table.add_row("mean", "all labels", *_numbers(scores.overall), _counts(scores.overall), style="bold")
    return table


def _numbers(score: LabelScore | LabelSummary) -> tuple[str, str, str]:
    return (_show(score.dice, 3), _show(score.hd95_mm, 2), _show(score.surface_dice, 3))


def _show(value: float | None, decimals: int) -> str:
    return UNDEFINED if value is None else f"{value:.{decimals}f}"


def _note(score: LabelScore) -> str:
    return "" if score.outcome == "compared" else score.outcome


def _counts(mean: LabelSummary) -> str:
    counts = {"missed": mean.missed, "extra": mean.extra}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)
