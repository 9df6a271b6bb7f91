"""What an evaluation is asked for, and what it gives, whatever the task."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import RenderableType

    from resvox.evaluation.calibration.files import Calibration
    from resvox.evaluation.label_sets import Labels

OnCase = Callable[[str, int, int], object]  # name of the case, number of cases done, number of cases


class Scores(Protocol):
    """Scores of all cases of a task."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and None."""

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`to_dict` as JSON."""

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write one row per case and label."""

    def table(self, *, title: str = "") -> RenderableType:
        """For a terminal."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Choices of an evaluation; each task uses some of them.

    Args:
        labels: name and value of each label, or a ``dataset.json``; None looks for one beside the references, and
            takes the values in the references where there is no such file.
        tolerance_mm: distance up to which a boundary voxel counts as right in surface Dice.
        ignore: value of the reference whose voxels are left out.
        resample: bring a prediction on another grid to the reference's.
        split: of a manifest or ``.npz``: "train", "validation", "test" or "all"; None takes test where there is one.
        further: metrics beyond Dice and surfaces, see `resvox.evaluation.further.table`.
        calibration: also score the probabilities and the review list that lie beside label maps.
    """

    labels: Labels | Path | None = None
    tolerance_mm: float = 1.0
    ignore: int | None = None
    resample: bool = False
    split: str | None = None
    calibration: bool = False
    further: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EvaluateResult:
    """Scores, and what could not be scored.

    Args:
        scores: a ``ScoreTable``, ``ClassScores`` or ``ValueTable``.
        labels: value of each label (several for a region), or index of each class.
        missing: references without a prediction.
        extra: predictions without a reference.
        failed: one line per case that could not be compared.
        remarks: what was unusual about cases that were compared, one line each.
        calibration: of probabilities and doubts, where that was asked for.
    """

    scores: Any
    labels: Mapping[str, int | tuple[int, ...]]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    calibration: Calibration | None = None

    @property
    def ok(self) -> bool:
        """Whether every reference was scored."""
        return not self.missing and not self.failed
