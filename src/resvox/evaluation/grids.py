"""Prediction and reference must lie on one grid; a voxel is compared with the voxel at the same place."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from resvox.errors import EvaluationError

if TYPE_CHECKING:
    from resvox.volumes import Grid, Volume

Array = np.ndarray[Any, Any]


def on_reference_grid(
    prediction: Volume,
    reference: Volume,
    *,
    resample: bool,
    interpolation: Literal["label", "linear"],
    prediction_path: str | os.PathLike[str],
    reference_path: str | os.PathLike[str],
) -> Volume:
    """The prediction on the reference's grid: as it is, or resampled on request (with a ``UserWarning``).

    Label maps are resampled with ``"label"``: the strongest of the linearly interpolated masks. Nearest neighbour
    rounds exact half voxels to one side, which shifts a structure and so its score.

    Raises:
        EvaluationError: the grids differ and ``resample`` is false, or one is 2D and the other 3D; it names both files
            and what differs.
    """
    if prediction.spatial_dims != reference.spatial_dims:
        raise EvaluationError(
            f"a {prediction.spatial_dims}D prediction of shape {prediction.grid.shape} for the "
            f"{reference.spatial_dims}D reference {os.fspath(reference_path)} of shape {reference.grid.shape}",
            expected="two images or two volumes",
            fix="store both in one format",
            path=prediction_path,
        )
    if prediction.grid.matches(reference.grid):
        return prediction
    difference = _difference(prediction.grid, reference.grid)
    if not resample:
        raise EvaluationError(
            f"a prediction on another grid than its reference {os.fspath(reference_path)}: {difference}",
            expected="the same shape, spacing, origin and direction",
            fix="predict on the image that the reference was drawn on, or resample the prediction with --resample "
            "(in Python resample=True)",
            path=prediction_path,
        )
    from resvox.volumes import resample as resample_volume

    warnings.warn(
        f"{os.fspath(prediction_path)}: resampled to the grid of its reference ({difference})",
        UserWarning,
        stacklevel=3,
    )
    fill = 0.0 if interpolation == "label" else None  # outside of the prediction: background, or the nearest value
    resampled: Volume = resample_volume(prediction, reference.grid, interpolation=interpolation, fill=fill)
    return resampled


def without_single_slice(
    arrays: tuple[Array, ...], spacing: tuple[float, ...]
) -> tuple[list[Array], tuple[float, ...]]:
    """A volume of one slice as the 2D slice, with its spacing; other arrays as they are.

    Every voxel of a volume of one slice is at its border, so surfaces would be whole masks; a slice that is stored as
    such a volume scores as the slice.

    Args:
        arrays: of one shape ``(*spatial)``.
        spacing: mm, one per axis.
    """
    shape = arrays[0].shape
    if len(shape) < 3 or 1 not in shape:
        return list(arrays), spacing
    axis = shape.index(1)
    return [array.squeeze(axis) for array in arrays], spacing[:axis] + spacing[axis + 1 :]


def _difference(ours: Grid, theirs: Grid) -> str:
    """The first property that differs, as text."""
    if ours.shape != theirs.shape:
        return f"shape {ours.shape} instead of {theirs.shape}"
    for name in ("spacing_mm", "direction", "origin_mm"):
        mine, other = np.asarray(getattr(ours, name)), np.asarray(getattr(theirs, name))
        if not np.allclose(mine, other, rtol=1e-3, atol=1e-3):
            return f"{name} {mine.round(4).tolist()} instead of {other.round(4).tolist()}"
    shift_mm = np.abs(ours.corners_mm() - theirs.corners_mm()).max()
    return f"corners up to {shift_mm:.3g} mm apart"
