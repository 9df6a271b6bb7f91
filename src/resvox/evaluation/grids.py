"""Prediction and reference must lie on one grid; a voxel is compared with the voxel at the same place."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import numpy as np

from resvox.errors import EvaluationError

if TYPE_CHECKING:
    from resvox.volumes import Volume

# Of a voxel. NIfTI keeps its geometry in float32 and writers round; a wrong grid is off by far more.
GRID_TOLERANCE = 0.05


def on_reference_grid(
    prediction: Volume,
    reference: Volume,
    *,
    resample: bool,
    prediction_path: str | os.PathLike[str],
    reference_path: str | os.PathLike[str],
) -> Volume:
    """The prediction on the reference's grid: as it is, or by nearest label where ``resample`` asks for that.

    Raises:
        EvaluationError: the grids differ and ``resample`` is false; it names both files and what differs.
    """
    difference = grid_difference(prediction, reference)
    if not difference:
        return prediction
    if not resample:
        raise EvaluationError(
            f"a prediction on another grid than its reference {os.fspath(reference_path)}: {difference}",
            expected="the same shape, spacing, origin and direction",
            fix="predict on the image that the reference was drawn on, or ask for resampling",
            path=prediction_path,
        )
    from resvox.volumes import resample as resample_volume

    return resample_volume(prediction, reference.grid, interpolation="nearest", fill=0.0)


def grid_difference(prediction: Volume, reference: Volume) -> str:
    """What differs between two grids, in words; empty if no corner is off by more than 5 % of a voxel."""
    ours, theirs = _spatial_shape(prediction), _spatial_shape(reference)
    if ours != theirs:
        return f"shape {ours} instead of {theirs}"
    corners = np.array(list(itertools.product(*((0, size - 1) for size in theirs))), float)
    shifts = np.linalg.norm(_world_mm(prediction, corners) - _world_mm(reference, corners), axis=1)
    # A grid of one voxel along an axis has equal corners whatever its spacing is, so that is compared by
    # itself.
    spacings = np.allclose(prediction.spacing_mm, reference.spacing_mm, rtol=GRID_TOLERANCE)
    if spacings and shifts.max() <= GRID_TOLERANCE * min(reference.spacing_mm):
        return ""
    for name in ("spacing_mm", "origin_mm", "direction"):
        mine, other = np.asarray(getattr(prediction, name)), np.asarray(getattr(reference, name))
        if not np.allclose(mine, other, rtol=1e-3, atol=1e-3):
            return f"{name} {mine.round(4).tolist()} instead of {other.round(4).tolist()}"
    return f"corners up to {shifts.max():.3g} mm apart"


def _spatial_shape(volume: Volume) -> tuple[int, ...]:
    return tuple(volume.array.shape[-len(volume.spacing_mm) :])


def _world_mm(volume: Volume, indices: np.ndarray) -> np.ndarray:
    scaled = indices * np.asarray(volume.spacing_mm, float)
    return np.asarray(volume.origin_mm, float) + scaled @ np.asarray(volume.direction, float).T
