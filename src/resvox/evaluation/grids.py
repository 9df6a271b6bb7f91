"""Prediction and reference must lie on one grid; a voxel is compared with the voxel at the same place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from resvox.errors import EvaluationError

if TYPE_CHECKING:
    from resvox.volumes import Grid, Volume


def on_reference_grid(
    prediction: Volume,
    reference: Volume,
    *,
    resample: bool,
    prediction_path: str | os.PathLike[str],
    reference_path: str | os.PathLike[str],
) -> Volume:
    """The prediction (whole numbers) on the reference's grid: as it is, or resampled where ``resample`` asks for that.

    Resampled as label maps are everywhere here: the strongest of the linearly interpolated masks. Nearest neighbour
    rounds exact half voxels to one side, which shifts a structure and so its score.

    Raises:
        EvaluationError: the grids differ and ``resample`` is false; it names both files and what differs.
    """
    if prediction.grid.matches(reference.grid):
        return prediction
    if not resample:
        difference = _difference(prediction.grid, reference.grid)
        raise EvaluationError(
            f"a prediction on another grid than its reference {os.fspath(reference_path)}: {difference}",
            expected="the same shape, spacing, origin and direction",
            fix="predict on the image that the reference was drawn on, or ask for resampling",
            path=prediction_path,
        )
    from resvox.volumes import resample as resample_volume

    brought: Volume = resample_volume(prediction, reference.grid, interpolation="label", fill=0.0)
    return brought


def _difference(ours: Grid, theirs: Grid) -> str:
    """The first thing that differs, in words."""
    if ours.shape != theirs.shape:
        return f"shape {ours.shape} instead of {theirs.shape}"
    for name in ("spacing_mm", "direction", "origin_mm"):
        mine, other = np.asarray(getattr(ours, name)), np.asarray(getattr(theirs, name))
        if not np.allclose(mine, other, rtol=1e-3, atol=1e-3):
            return f"{name} {mine.round(4).tolist()} instead of {other.round(4).tolist()}"
    shift_mm = np.abs(ours.corners_mm() - theirs.corners_mm()).max()
    return f"corners up to {shift_mm:.3g} mm apart"
