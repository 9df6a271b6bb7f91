"""One case: how well a predicted label map agrees with its reference, label by label."""

from __future__ import annotations

import functools
import math
import os
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from resvox.errors import EvaluationError
from resvox.evaluation.further.table import Values, check_further, further_values
from resvox.evaluation.grids import on_reference_grid, without_single_slice
from resvox.evaluation.label_maps import Array, compact, label_array, values_outside
from resvox.evaluation.label_sets import Labels, LabelSet
from resvox.evaluation.rounding import rounded
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
        further: name and value of metrics that were asked for, see `resvox.evaluation.further.table`.

    Raises:
        EvaluationError: numbers out of range or at odds with each other.
    """

    dice: float | None
    hd95_mm: float | None
    surface_dice: float | None
    missed: bool = False
    extra: bool = False
    further: Values = ()

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
        """``dice``, ``hd95_mm``, ``surface_dice`` and further metrics, as `rounded`."""
        further = {name: rounded(value) for name, value in self.further}
        return {**{name: rounded(getattr(self, name)) for name in METRICS}, **further}


def score_case(
    prediction: Volume,
    reference: Volume,
    labels: Labels | LabelSet,
    *,
    tolerance_mm: float = 1.0,
    ignore: int | None = None,
    further: Sequence[str] = (),
    resample_to_reference: bool = False,
    prediction_path: str | os.PathLike[str] = "prediction",
    reference_path: str | os.PathLike[str] = "reference",
) -> dict[str, LabelScore]:
    """Dice, HD95 and surface Dice of every label of one case, 2D or 3D.

    Args:
        prediction: label map, array ``(*spatial)``, whole numbers.
        reference: label map on the same grid.
        labels: ``{name: value}``, or ``{name: [value, ...]}`` for a region that joins several values. The
            background, value 0, is not scored. Where the reference has the label called "ignore" (nnU-Net's name),
            voxels are left out.
        tolerance_mm: the distance up to which a boundary voxel counts as right in surface Dice.
        ignore: another value of the reference whose voxels are left out, such as -1 or 255.
        further: metrics of `resvox.evaluation.further.table.FURTHER`: "volume", "cldice".
        resample_to_reference: bring a prediction on another grid to the reference's, instead of refusing
            it: each label's mask by linear interpolation, and the strongest wins, so that nothing shifts.
        prediction_path, reference_path: the files' names, for messages.

    Returns:
        ``{label name: LabelScore}`` in the order of ``labels``. A volume of one slice scores as the slice. Values
        that no label has and voxels that are left out are reported as a ``UserWarning`` with their numbers.

    Raises:
        EvaluationError: no label maps, different grids, or labels or a tolerance that are not valid.
    """
    wanted, further = LabelSet.of(labels, ignore=ignore), check_further(further)
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise EvaluationError(f"tolerance_mm={tolerance_mm}", expected="millimetres, 0 or more")
    ours = label_array(prediction, path=prediction_path)
    theirs = label_array(reference, path=reference_path)
    _report_unknown(ours, wanted.known, prediction_path)
    _report_unknown(theirs, wanted.known, reference_path, "; --labels names them, --ignore leaves their voxels out")
    brought = on_reference_grid(
        prediction.with_array(ours),
        reference,
        resample=resample_to_reference,
        interpolation="label",
        prediction_path=prediction_path,
        reference_path=reference_path,
    )
    ours, theirs = _without_ignored(brought.array, theirs, wanted.ignored, reference_path)
    (ours, theirs), spacing_mm = without_single_slice((ours, theirs), reference.spacing_mm)
    return _score_labels(ours, theirs, wanted, spacing_mm, tolerance_mm, further)


def _score_labels(
    ours: Array,
    theirs: Array,
    wanted: LabelSet,
    spacing_mm: tuple[float, ...],
    tolerance_mm: float,
    further: Sequence[str],
) -> dict[str, LabelScore]:
    """Scores of two label maps on one grid, each label within the box that holds it in either of them."""
    values = [value for each in wanted.scored.values() for value in each]
    (ours, numbers), (theirs, _) = compact(ours, values), compact(theirs, values)
    boxes = _joint_boxes(ours, theirs, max(numbers.values()))
    scores = {}
    for name, each in wanted.scored.items():
        indices = [numbers[value] for value in each]
        box = functools.reduce(_union, (boxes[index - 1] for index in indices))
        scores[name] = _score_masks(ours, theirs, indices, box, spacing_mm, tolerance_mm)
        if further:
            cuts = (array[box] if box is not None else array[(slice(0, 1),) * array.ndim] for array in (ours, theirs))
            own, true = (_mask(array, indices) for array in cuts)
            scores[name] = replace(scores[name], further=further_values(further, own, true, spacing_mm))
    return scores


def _without_ignored(
    ours: Array, theirs: Array, ignored: tuple[int, ...], path: str | os.PathLike[str]
) -> tuple[Array, Array]:
    """Both maps with background where the reference has an ignored value."""
    left_out = np.isin(theirs, ignored) if ignored else None
    if left_out is None or not left_out.any():
        return ours, theirs
    listed = ", ".join(map(str, ignored))
    warnings.warn(
        f"{os.fspath(path)}: {np.count_nonzero(left_out)} voxels of the ignored value {listed} are not scored",
        UserWarning,
        stacklevel=3,
    )
    return np.where(left_out, 0, ours).astype(ours.dtype), np.where(left_out, 0, theirs).astype(theirs.dtype)


def _report_unknown(array: Array, known: Collection[int], path: str | os.PathLike[str], fix: str = "") -> None:
    unknown = values_outside(array, known)
    if unknown:
        listed = ", ".join(f"{value} ({voxels} voxels)" for value, voxels in list(unknown.items())[:8])
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        warnings.warn(
            f"{os.fspath(path)}: values that no label has, not scored: {listed}{more}{fix}",
            UserWarning,
            stacklevel=3,
        )


def _joint_boxes(ours: Array, theirs: Array, highest: int) -> list[Box | None]:
    """For every value from 1 on, the box that holds it in both maps, found in one pass over each map.

    Voxels outside the box do not change a score, and most of a 512-cubed volume is outside.
    """
    from scipy import ndimage  # half a second: not before the first case

    pairs = zip(ndimage.find_objects(ours, highest), ndimage.find_objects(theirs, highest), strict=True)
    return [_union(first, second) for first, second in pairs]


def _mask(array: Array, values: list[int]) -> Array:
    return array == values[0] if len(values) == 1 else np.isin(array, values)


def _union(first: Box | None, second: Box | None) -> Box | None:
    if first is None or second is None:
        return first or second
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))


def _score_masks(
    ours: Array,
    theirs: Array,
    values: list[int],
    box: Box | None,
    spacing_mm: tuple[float, ...],
    tolerance_mm: float,
) -> LabelScore:
    if box is None:
        return LabelScore(dice=None, hd95_mm=None, surface_dice=None)
    predicted, true = (_mask(array[box], values) for array in (ours, theirs))
    sizes = int(np.count_nonzero(predicted)), int(np.count_nonzero(true))
    if 0 in sizes:
        return LabelScore(dice=0.0, hd95_mm=None, surface_dice=0.0, missed=sizes[0] == 0, extra=sizes[1] == 0)
    there, back = surface_distances_mm(predicted, true, spacing_mm)
    return LabelScore(
        dice=2 * int(np.count_nonzero(predicted & true)) / sum(sizes),
        hd95_mm=hd95_mm(there, back),
        surface_dice=surface_dice(there, back, tolerance_mm),
    )


def score_files(
    prediction: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    labels: Labels | LabelSet,
    *,
    tolerance_mm: float = 1.0,
    ignore: int | None = None,
    further: Sequence[str] = (),
    resample_to_reference: bool = False,
) -> dict[str, LabelScore]:
    """:func:`resvox.evaluation.score_case` of two label map files, named in every message.

    Raises:
        VolumeError: a file that cannot be read.
        EvaluationError: as ``score_case``.
    """
    from resvox.volumes import read_label_map

    return score_case(
        read_label_map(prediction),
        read_label_map(reference),
        labels,
        tolerance_mm=tolerance_mm,
        ignore=ignore,
        further=further,
        resample_to_reference=resample_to_reference,
        prediction_path=prediction,
        reference_path=reference,
    )
