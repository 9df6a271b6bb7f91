"""The geometry of TotalSegmentator: its orientation, its resampling, its crop.

Arrays here have the axes x, y, z of nibabel: the reverse of those of a `Volume`. The arithmetic is that of
TotalSegmentator, to the bit: spacings have the precision of a NIfTI header, and resampled
intensities are cut to whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.errors import InferenceError
from resvox.volumes import Grid, Volume

if TYPE_CHECKING:
    import numpy.typing as npt

Array = np.ndarray
Box = tuple[slice, ...]
TO_RAS = np.array([-1.0, -1.0, 1.0])  # from the world of a Grid, LPS
CANONICAL = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])  # (z, y, x) to superior, anterior, right


@dataclass(frozen=True, kw_only=True)
class Canonical:
    """A scan, or a box of it, as the models see it.

    Args:
        volume: with axes (z, y, x) to superior, anterior, right, at the models' resolution.
        shape: (x, y, z) after reorientation and before resampling.
        turn: of nibabel: from the axes of the file (x, y, z) to these.
    """

    volume: Volume
    shape: tuple[int, ...]
    turn: npt.NDArray[Any]

    def inverse(self, labels: Array) -> Array:
        """A label map (z, y, x) on the models' grid, brought to the axes (D, H, W) of the scan or its box."""
        tools = _orientations()
        back = tools.ornt_transform(tools.axcodes2ornt("RAS"), self.turn)
        turned = tools.apply_orientation(nearest(labels.T, self.shape), back)
        return np.ascontiguousarray(np.asarray(turned).T)


def canonical(
    array: Array, grid: Grid, *, spacing_mm: Sequence[float] | None, order: int, whole_numbers: bool = False
) -> Canonical:
    """Turn a scan to the nearest canonical axes (RAS), and resample it.

    Args:
        array: (D, H, W).
        grid: of the scan; for a box of it that of the whole, whose directions and spacing count.
        spacing_mm: along x, y, z; None leaves it as it is.
        order: of the splines.
        whole_numbers: cut intensities to whole numbers, even where nothing is resampled.
    """
    affine = np.eye(4)
    affine[:3, :3] = (TO_RAS[:, None] * grid.direction * np.asarray(grid.spacing_mm))[:, ::-1]
    turn = _orientations().io_orientation(affine)
    if whole_numbers and array.dtype.kind == "f":
        array = array.astype(np.int32)
    turned = np.asarray(_orientations().apply_orientation(array.T, turn))
    spacing = np.empty(3, np.float32)
    spacing[turn[:, 0].astype(int)] = grid.spacing_mm[::-1]
    made, after = (turned, spacing) if spacing_mm is None else resampled(turned, spacing, spacing_mm, order)
    volume = Volume(made.T, spacing_mm=tuple(float(mm) for mm in after[::-1]), direction=CANONICAL)
    return Canonical(volume=volume, shape=turned.shape, turn=turn)


def _orientations() -> Any:
    """nibabel's module, which has no types."""
    import nibabel.orientations

    return nibabel.orientations


def resampled(array: Array, spacing: Array, wanted: Sequence[float], order: int) -> tuple[Array, Array]:
    """An image brought to another spacing, in whole numbers, and the spacing of the result, as a file states it.

    The first and the last voxel keep their centres, as `scipy.ndimage.zoom` has it. An image of that spacing stays as
    it is.

    Args:
        array: (x, y, z).
        spacing: its spacing, float32 as a NIfTI header holds it.

    Raises:
        InferenceError: a scan of less than half a voxel.
    """
    from scipy.ndimage import zoom

    if np.array_equal(spacing, np.asarray(wanted, float)):
        return array, spacing
    factors = spacing / np.asarray(wanted, float)
    for size, mm, new in zip(array.shape, spacing, wanted, strict=True):
        if round(size * float(mm / np.float64(new))) == 0:
            raise InferenceError(
                f"a scan that is {size * mm:.3g} mm thick",
                expected=f"more than {new / 2:g} mm along each axis: the models see voxels of {new:g} mm",
            )
    made = zoom(array, factors, order=order, mode="nearest", output=np.float64)
    return made.astype(np.int32), (spacing / factors).astype(np.float32)


def nearest(labels: Array, shape: Sequence[int]) -> Array:
    """A label map (x, y, z) on a grid of another shape over the same first and last voxels.

    Axes are independent, so the voxels that `scipy.ndimage.zoom` takes are looked up on one axis at a time.
    """
    from scipy.ndimage import zoom

    if labels.shape == tuple(shape):
        return labels
    places = [
        zoom(np.arange(old), new / old, order=0, mode="nearest") for old, new in zip(labels.shape, shape, strict=True)
    ]
    return labels[np.ix_(*places)]


def box_around(mask: Array, grid: Grid, addon_mm: float) -> Box | None:
    """The box of what is true in a mask (D, H, W), with so many mm more on each side; None where nothing is true."""
    box = []
    for axis, (size, mm) in enumerate(zip(mask.shape, grid.spacing_mm, strict=True)):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(there):
            return None
        more = int(addon_mm / float(np.float32(mm)))
        box.append(slice(max(int(there[0]) - more, 0), min(int(there[-1]) + 1 + more, size)))
    return tuple(box)
