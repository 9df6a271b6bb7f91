"""One case: how well a predicted label map agrees with its reference, label by label."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resvox.errors import EvaluationError
from resvox.evaluation.grids import on_reference_grid
from resvox.evaluation.label_maps import label_array, scored_labels, unknown_values
from resvox.evaluation.surfaces import hd95_mm, surface_dice, surface_distances_mm

if TYPE_CHECKING:
    from resvox.volumes import Volume

METRICS = ("dice", "hd95_mm", "surface_dice")
Box = tuple[slice, ...]


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """The score of one label in one case.

    Args:
        dice: 2 |A and B| / (|A| + |B|), from 0 to 1; None where both masks are empty.
        hd95_mm: the larger of the two directed 95th percentile surface distances; None where a mask is empty.
        surface_dice: share of boundary voxels within the tolerance, from 0 to 1; None where both masks are
            empty.
        missed: the reference has the label, the prediction does not: Dice and surface Dice are 0, HD95 is
            None.
        extra: the prediction has the label, the reference does not: the same numbers.

    Raises:
        EvaluationError: numbers out of range or at odds with each other.
    """

    dice: float | None
    hd95_mm: float | None
    surface_dice: float | None
    missed: bool = False
    extra: bool = False

    def __post_init__(self) -> None:
        for name, top in (("dice", 1.0), ("hd95_mm", math.inf), ("surface_dice", 1.0)):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and 0 <= value <= top):
                raise EvaluationError(f"{name}={value}", expected=f"None or a finite number from 0 to {top}")
        one_empty = self.missed or self.extra
        agrees = (self.dice is None) == (self.surface_dice is None) and not (self.missed and self.extra)
        if one_empty:
            agrees = agrees and self.dice == 0 and self.surface_dice == 0 and self.hd95_mm is None
        else:
            agrees = agrees and (self.dice is None) == (self.hd95_mm is None)
        if not agrees:
            raise EvaluationError(
                f"{self}",
                expected="three numbers; three None (both masks empty); or 0, None, 0 with missed or extra",
            )

    @property
    def outcome(self) -> str:
        """``"compared"``, ``"missed"``, ``"extra"``, or ``"absent"`` from both."""
        if self.missed or self.extra:
            return "missed" if self.missed else "extra"
        return "absent" if self.dice is None else "compared"

    def to_dict(self) -> dict[str, float | None]:
        """``dice``, ``hd95_mm`` and ``surface_dice``, rounded to six decimals."""
        values = {name: getattr(self, name) for name in METRICS}
        return {name: None if value is None else round(value, 6) for name, value in values.items()}


def score_case(
    prediction: Volume,
    reference: Volume,
    labels: Mapping[str, int],
    *,
    tolerance_mm: float = 1.0,
    resample_to_reference: bool = False,
    prediction_path: str | os.PathLike[str] = "prediction",
    reference_path: str | os.PathLike[str] = "reference",
) -> dict[str, LabelScore]:
    """Dice, HD95 and surface Dice of every label of one case, 2D or 3D.

    Args:
        prediction: label map, array ``(*spatial)``, whole numbers.
        reference: label map on the same grid.
        labels: ``{name: value}``; the background, value 0, is not scored.
        tolerance_mm: the distance up to which a boundary voxel counts as right in surface Dice.
        resample_to_reference: bring a prediction on another grid to the reference's, instead of refusing
            it: each label's mask by linear interpolation, and the strongest wins, so that nothing shifts.
        prediction_path, reference_path: the files' names, for messages.

    Returns:
        ``{label name: LabelScore}`` in the order of ``labels``. Values of the prediction that no label has
        are reported as a ``UserWarning`` with their voxel counts; they do not enter a score.

    Raises:
        EvaluationError: no label maps, different grids, labels or a tolerance that cannot be.
    """
    wanted = scored_labels(labels)
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise EvaluationError(f"tolerance_mm={tolerance_mm}", expected="millimetres, 0 or more")
    ours = label_array(prediction, path=prediction_path)
    theirs = label_array(reference, path=reference_path)
    _report_unknown(ours, wanted, prediction_path)
    brought = on_reference_grid(
        prediction.with_array(ours),
        reference,
        resample=resample_to_reference,
        prediction_path=prediction_path,
        reference_path=reference_path,
    )
    ours = brought.array
    boxes = _joint_boxes(ours, theirs, max(wanted.values()))
    return {
        name: _score_masks(ours, theirs, value, boxes[value - 1], reference.spacing_mm, tolerance_mm)
        for name, value in wanted.items()
    }


def _report_unknown(array: np.ndarray, labels: Mapping[str, int], path: str | os.PathLike[str]) -> None:
    unknown = unknown_values(array, labels)
    if unknown:
        listed = ", ".join(f"{value} ({voxels} voxels)" for value, voxels in list(unknown.items())[:8])
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        warnings.warn(
            f"{os.fspath(path)}: values that no label has, not scored: {listed}{more}",
            UserWarning,
            stacklevel=3,
        )


def _joint_boxes(ours: np.ndarray, theirs: np.ndarray, highest: int) -> list[Box | None]:
    """For every value from 1 on, the box that holds it in both maps; one pass over each map finds all of
    them.

    Nothing outside of the box touches a score, and a 512-cubed volume is mostly outside.
    """
    from scipy import ndimage  # half a second: not before the first case

    pairs = zip(ndimage.find_objects(ours, highest), ndimage.find_objects(theirs, highest), strict=True)
    return [_union(first, second) for first, second in pairs]


def _union(first: Box | None, second: Box | None) -> Box | None:
    if first is None or second is None:
        return first or second
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))


def _score_masks(
    ours: np.ndarray,
    theirs: np.ndarray,
    value: int,
    box: Box | None,
    spacing_mm: tuple[float, ...],
    tolerance_mm: float,
) -> LabelScore:
    if box is None:
        return LabelScore(dice=None, hd95_mm=None, surface_dice=None)
    predicted, true = ours[box] == value, theirs[box] == value
    sizes = int(np.count_nonzero(predicted)), int(np.count_nonzero(true))
    if 0 in sizes:
        return LabelScore(dice=0.0, hd95_mm=None, surface_dice=0.0, missed=sizes[0] == 0, extra=sizes[1] == 0)
    there, back = surface_distances_mm(predicted, true, spacing_mm)
    return LabelScore(
        dice=2 * int(np.count_nonzero(predicted & true)) / sum(sizes),
        hd95_mm=hd95_mm(there, back),
        surface_dice=surface_dice(there, back, tolerance_mm),
    )
