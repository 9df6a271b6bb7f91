"""What a label map must be before it can be scored: one whole number a voxel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from resvox.errors import EvaluationError

if TYPE_CHECKING:
    from resvox.volumes import Volume

LARGEST_VALUE = 65535
LARGEST_WHOLE = 2.0**53  # beyond it floats have no fractions, and whatever they are, they are no labels


def label_array(volume: Volume, *, path: str | os.PathLike[str]) -> np.ndarray:
    """The label map of a volume as the smallest integer type that holds it, shape ``(*spatial)``.

    Files often carry whole numbers as floats (a NIfTI with a scale factor does); those are taken.

    Raises:
        EvaluationError: several channels, or values that are not whole numbers, in the file ``path``.
    """
    array = volume.array
    if array.ndim != volume.spatial_dims:
        raise EvaluationError(
            f"an image of shape {array.shape} with {volume.spatial_dims} spatial axes",
            expected="a label map: one whole number a voxel, no channel axis",
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
            expected="a label map: one whole number a voxel",
            fix="hand in the label map, not the image or the probabilities; resample labels with 'label'",
            path=path,
        )
    return array.astype(np.promote_types(np.min_scalar_type(int(low)), np.min_scalar_type(int(high))), copy=False)


def scored_labels(labels: Mapping[str, int]) -> dict[str, int]:
    """The labels that get a score: all but the background, value 0.

    Raises:
        EvaluationError: no label but background, a value that is not a whole number from 0 to 65535, or one
            value under two names.
    """
    for name, value in labels.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value <= LARGEST_VALUE:
            raise EvaluationError(
                f"label {name!r} with value {value!r}", expected=f"a whole number from 0 to {LARGEST_VALUE}"
            )
    if len(set(labels.values())) != len(labels):
        raise EvaluationError(
            f"labels {dict(labels)} with one value under two names", expected="one name for every value"
        )
    scored = {name: int(value) for name, value in labels.items() if value != 0}
    if not scored:
        raise EvaluationError(
            f"labels {dict(labels)}",
            expected="at least one label besides the background (0)",
            fix="give names and values, e.g. {'liver': 1}",
        )
    return scored


def unknown_values(array: np.ndarray, labels: Mapping[str, int]) -> dict[int, int]:
    """Values of a label map that are neither background nor in ``labels``, with their number of voxels."""
    known = {0, *labels.values()}
    counts: dict[int, int] = {}
    for slab in array:  # a slab at a time, so that no wider copy of the volume is ever made
        for value, count in zip(*_slab_counts(slab), strict=True):
            if value not in known:
                counts[value] = counts.get(value, 0) + count
    return dict(sorted(counts.items()))


def _slab_counts(slab: np.ndarray) -> tuple[list[int], list[int]]:
    if slab.dtype in (np.uint8, np.uint16):  # counting beats sorting
        counts = np.bincount(slab.ravel())
        values = np.flatnonzero(counts)
        return values.tolist(), counts[values].tolist()
    values, counts = np.unique(slab, return_counts=True)
    return values.tolist(), counts.tolist()
