"""Many cases: rows, means, and the three ways to hand them on (terminal, CSV, JSON)."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from resvox.errors import EvaluationError
from resvox.evaluation.rounding import mean
from resvox.evaluation.segmentation import METRICS, LabelScore
from resvox.files import write_atomically

if TYPE_CHECKING:
    from rich.table import Table


class ScoreRow(NamedTuple):
    """One label of one case."""

    case: str
    label: str
    score: LabelScore


@dataclass(frozen=True, kw_only=True)
class LabelSummary:
    """Means of one label over cases, or of all labels.

    ``dice`` and ``surface_dice`` are means over the cases where at least one mask has the label (missed and
    extra ones count as 0); ``hd95_mm`` over those where both have it. None where there is no such case. A
    mean HD95 excludes the ``missed`` and ``extra`` cases: report their counts with it.
    """

    dice: float | None
    hd95_mm: float | None
    surface_dice: float | None
    compared: int
    missed: int
    extra: int
    absent: int


@dataclass(frozen=True)
class ScoreTable:
    """Scores of several cases: ``{case: {label name: LabelScore}}``, see :func:`resvox.evaluation.score_case`.

    Args:
        scores: the cases in the order of the rows.
        tolerance_mm: the tolerance that the surface Dice was taken at, for headings.

    Raises:
        EvaluationError: an entry that is not a ``LabelScore``.
    """

    scores: Mapping[str, Mapping[str, LabelScore]]
    tolerance_mm: float = 1.0

    def __post_init__(self) -> None:
        for row in self:
            if not isinstance(row.score, LabelScore):
                raise EvaluationError(
                    f"{type(row.score).__name__} for label {row.label!r} of case {row.case!r}",
                    expected="a LabelScore, as score_case returns",
                )

    def __iter__(self) -> Iterator[ScoreRow]:
        for case, labels in self.scores.items():
            for label, score in labels.items():
                yield ScoreRow(case, label, score)

    @property
    def rows(self) -> list[ScoreRow]:
        """One row for every case and label."""
        return list(self)

    @property
    def further(self) -> tuple[str, ...]:
        """The names of further metrics, in the order of their first appearance."""
        return tuple(dict.fromkeys(name for row in self for name, _ in row.score.further))

    @property
    def further_means(self) -> dict[str, dict[str, float | None]]:
        """Means of further metrics over the cases that have a value, by label."""
        found: dict[str, dict[str, list[float | None]]] = {}
        for row in self:
            for name, value in row.score.further:
                found.setdefault(row.label, {}).setdefault(name, []).append(value)
        return {label: {name: mean(values) for name, values in own.items()} for label, own in found.items()}

    @property
    def summary(self) -> dict[str, LabelSummary]:
        """Means over cases, label by label, in the order of the labels' first appearance."""
        by_label: dict[str, list[LabelScore]] = {}
        for row in self:
            by_label.setdefault(row.label, []).append(row.score)
        return {label: _summarize(scores) for label, scores in by_label.items()}

    @property
    def overall(self) -> LabelSummary:
        """Means of the labels' means (each label counts once, however many cases show it), summed counts."""
        parts = list(self.summary.values())
        return LabelSummary(
            **_means(parts),
            compared=sum(part.compared for part in parts),
            missed=sum(part.missed for part in parts),
            extra=sum(part.extra for part in parts),
            absent=sum(part.absent for part in parts),
        )

    def to_dict(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """``case -> label name -> dice, hd95_mm, surface_dice``; plain numbers and None."""
        return {
            case: {label: score.to_dict() for label, score in labels.items()} for case, labels in self.scores.items()
        }

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`to_dict` as JSON, at once or not at all; what is not defined is ``null``."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        return write_atomically(Path(path), text + "\n")

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write one row for every case and label, at once or not at all; undefined numbers are left empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = [*METRICS, *self.further]
        writer.writerow(["case", "label", *names, "outcome"])
        for row in self:
            values = row.score.to_dict()
            cells = (values.get(name) for name in names)
            writer.writerow([row.case, row.label, *("" if v is None else v for v in cells), row.score.outcome])
        return write_atomically(Path(path), text.getvalue())

    def table(self, *, title: str = "") -> Table:
        """A ``rich.table.Table``: the rows, then the means over cases and over labels where there are several."""
        from resvox.evaluation.console import Row, draw

        sections = [
            [
                Row(
                    cells=(
                        case if position == 0 else "",
                        label,
                        *_cells(score),
                        *self._more(dict(score.further)),
                        _note(score),
                    )
                )
                for position, (label, score) in enumerate(labels.items())
            ]
            for case, labels in self.scores.items()
        ]
        summary = self.summary
        if len(self.scores) > 1:
            sections.append(
                [
                    Row(
                        cells=(
                            "mean" if position == 0 else "",
                            label,
                            *_cells(means),
                            *self._more(self.further_means.get(label, {})),
                            _counts(means),
                        )
                    )
                    for position, (label, means) in enumerate(summary.items())
                ]
            )
        if len(summary) > 1:
            cells = ("mean", "all labels", *_cells(self.overall), *self._more({}), _counts(self.overall))
            sections.append([Row(cells=cells, style="bold")])
        headings = ("case", "label", "Dice", "HD95 (mm)", f"surface Dice ({self.tolerance_mm:g} mm)", *self.further, "")
        return draw(headings, sections, title=title, text_columns=(0, 1, len(headings) - 1))

    def _more(self, values: Mapping[str, float | None]) -> tuple[str, ...]:
        """The cells of further metrics."""
        from resvox.evaluation.console import shown

        return tuple(shown(values.get(name), 3) for name in self.further)


def _summarize(scores: list[LabelScore]) -> LabelSummary:
    outcomes = [score.outcome for score in scores]
    return LabelSummary(
        **_means(scores),
        compared=outcomes.count("compared"),
        missed=outcomes.count("missed"),
        extra=outcomes.count("extra"),
        absent=outcomes.count("absent"),
    )


class _Means(TypedDict):
    dice: float | None
    hd95_mm: float | None
    surface_dice: float | None


def _means(scores: Sequence[LabelScore | LabelSummary]) -> _Means:
    return _Means(
        dice=mean([score.dice for score in scores]),
        hd95_mm=mean([score.hd95_mm for score in scores]),
        surface_dice=mean([score.surface_dice for score in scores]),
    )


def _cells(score: LabelScore | LabelSummary) -> tuple[str, ...]:
    from resvox.evaluation.console import shown

    return shown(score.dice, 3), shown(score.hd95_mm, 2), shown(score.surface_dice, 3)


def _note(score: LabelScore) -> str:
    return "" if score.outcome == "compared" else score.outcome


def _counts(means: LabelSummary) -> str:
    counts = {"missed": means.missed, "extra": means.extra}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)
