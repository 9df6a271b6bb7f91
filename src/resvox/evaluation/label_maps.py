"""What a label map must be before it can be scored: one whole number per voxel."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.errors import EvaluationError
from resvox.evaluation.label_sets import LARGEST_VALUE, Labels

if TYPE_CHECKING:
    from resvox.volumes import Volume

Array = np.ndarray[Any, Any]
LARGEST_INDEX = 65535  # of the list of boxes that SciPy makes
LARGEST_WHOLE = float(LARGEST_VALUE)  # beyond it every float is whole, and none is a label


def label_array(volume: Volume, *, path: str | os.PathLike[str]) -> Array:
    """The label map of a volume as the smallest integer type that holds it, shape ``(*spatial)``.

    Files often carry whole numbers as floats (a NIfTI with a scale factor does); those are taken.

    Raises:
        EvaluationError: several channels, or values that are not whole numbers, in the file ``path``.
    """
    array = volume.array
    if array.ndim != volume.spatial_dims:
        raise EvaluationError(
            f"an image of shape {array.shape} with {volume.spatial_dims} spatial axes",
            expected="a label map: one whole number per voxel, no channel axis",
            fix="score probabilities or one-hot channels after an argmax",
            path=path,
        )
    if array.dtype.kind == "b":
        return array.view(np.uint8)
    low, high = array.min(), array.max()
    whole = bool(abs(float(low)) <= LARGEST_WHOLE and abs(float(high)) <= LARGEST_WHOLE)  # and so no NaN
    if array.dtype.kind not in "iu":  # slab by slab: np.trunc of a whole volume would double its memory
        whole = whole and all(np.array_equal(slab, np.trunc(slab)) for slab in array)
    if not whole:
        raise EvaluationError(
            f"values between {low} and {high} that are not whole numbers",
            expected="a label map: one whole number per voxel",
            fix="hand in the label map, not the image or the probabilities; resample labels with 'label'",
            path=path,
        )
    return array.astype(np.promote_types(np.min_scalar_type(int(low)), np.min_scalar_type(int(high))), copy=False)


def unknown_values(array: Array, labels: Labels) -> dict[int, int]:
    """Values of a label map that are neither background nor in ``labels``, with their number of voxels."""
    return values_outside(array, {0, *(value for each in labels.values() for value in np.atleast_1d(each).tolist())})


def values_outside(array: Array, known: Collection[int]) -> dict[int, int]:
    """Values of a label map that are not known, with their number of voxels."""
    counts: dict[int, int] = {}
    for slab in array:  # a slab at a time, so that no wider copy of the volume is ever made
        for value, count in zip(*_slab_counts(slab), strict=True):
            if value not in known:
                counts[value] = counts.get(value, 0) + count
    return dict(sorted(counts.items()))


def _slab_counts(slab: Array) -> tuple[list[int], list[int]]:
    if slab.dtype in (np.uint8, np.uint16):  # counting beats sorting
        counts = np.bincount(slab.ravel())
        values = np.flatnonzero(counts)
        return values.tolist(), counts[values].tolist()
    values, counts = np.unique(slab, return_counts=True)
    return values.tolist(), counts.tolist()


def compact(array: Array, values: Iterable[int]) -> tuple[Array, dict[int, int]]:
    """A label map whose labels are numbered 1, 2, ..., and the number of each value; other voxels are 0.

    Only where a value is too large to be an index: else the map itself is returned, and every value is its own number.
    """
    wanted = np.array(sorted(set(values)))
    if wanted[-1] <= LARGEST_INDEX and array.dtype.itemsize <= 4:
        return array, {int(value): int(value) for value in wanted}
    numbered = np.zeros(array.shape, np.min_scalar_type(len(wanted)))
    for slab, target in zip(array, numbered, strict=True):
        place = np.searchsorted(wanted, slab).clip(max=len(wanted) - 1)
        target[...] = np.where(wanted[place] == slab, place + 1, 0)
    return numbered, {int(value): index for index, value in enumerate(wanted, start=1)}
