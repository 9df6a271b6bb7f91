"""The table of scores as a terminal shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from resvox.evaluation.classification import ClassScores
    from resvox.evaluation.regression import ValueTable
    from resvox.evaluation.segmentation import LabelScore
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


def draw_class_scores(scores: ClassScores, *, title: str = "") -> Group:
    """Accuracy and AUC of all and of each class, then the confusion matrix."""
    told = scores.to_dict()
    numbers = Table(title=Text(title) if title else None, title_justify="left")
    numbers.add_column("class", overflow="fold")
    for heading in ("cases", "recall", "precision", "AUC"):
        numbers.add_column(heading, justify="right")
    for name, each in told["classes"].items():
        shown = (_show(each[key], 3) for key in ("recall", "precision", "auc"))
        numbers.add_row(Text(name), str(each["cases"]), *shown)
    numbers.add_section()
    mean = (_show(told["balanced_accuracy"], 3), UNDEFINED, _show(told["auc"], 3))
    numbers.add_row("mean of classes", str(told["cases"]), *mean, style="bold")
    matrix = Table(title="confusion: rows are true, columns predicted", title_justify="left")
    matrix.add_column("")
    for name in scores.classes:
        matrix.add_column(Text(name), justify="right")
    for name, row in told["confusion"].items():
        cells = (Text(str(count), style="bold" if other == name else "") for other, count in row.items())
        matrix.add_row(Text(name), *cells)
    right = int(scores.confusion.trace())
    line = Text(f"accuracy {told['accuracy']:.4f} ({right} of {told['cases']})", style="bold")
    return Group(numbers, matrix, line)


def draw_value_scores(scores: ValueTable, *, title: str = "") -> Table:
    """Rows of cases and values, then their means where there are several cases."""
    table = Table(title=Text(title) if title else None, title_justify="left")
    table.add_column("case", overflow="fold")
    table.add_column("value", overflow="fold")
    for heading in ("MAE", "RMSE", "PSNR (dB)", "SSIM"):
        table.add_column(heading, justify="right")
    for case, values in scores.to_dict().items():
        for name, score in values.items():
            table.add_row(Text(case), Text(name), *_value_cells(score))
    table.add_section()
    if len(scores.scores) > 1:
        for name, means in scores.summary.items():
            table.add_row("mean", Text(name), *_value_cells(means), style="bold")
    return table


def _value_cells(score: Mapping[str, float | None]) -> tuple[str, ...]:
    errors = (UNDEFINED if score[key] is None else f"{score[key]:.4g}" for key in ("mae", "rmse"))
    return (*errors, _show(score["psnr_db"], 2), _show(score["ssim"], 4))
