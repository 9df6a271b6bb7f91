"""Crop a volume to a box; the inverse fills the outside of the box, and of a mask, with background."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from resvox.errors import VolumeError
from resvox.preprocessing.steps import Array, Kind, background_fill
from resvox.volumes import Grid
from resvox.volumes.resampling import mask_bounds


def nonzero_box(array: Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Start and stop of the smallest box that holds all non-zero voxels; the whole image where all voxels are 0.

    Args:
        array: (channels, *spatial).
    """
    filled = (array != 0).any(axis=0)
    if not filled.any():
        return (0,) * filled.ndim, filled.shape
    start, stop = mask_bounds(filled)
    return tuple(start.tolist()), tuple(stop.tolist())


def nonzero_mask(array: Array) -> Array:
    """(*spatial) bool: what is not 0 in some channel of (channels, *spatial), with enclosed holes filled."""
    from scipy.ndimage import binary_fill_holes

    mask: Array = binary_fill_holes((array != 0).any(axis=0))
    return mask


@dataclass(frozen=True, kw_only=True)
class Crop:
    """The voxels from `start` up to, not including, `stop`.

    Args:
        source: the grid of the input.
        start: first voxel along each axis.
        stop: one past the last voxel along each axis.
        mask: (*source.shape) bool; what comes back is background where it is false, also inside the box. None: the box
            as a whole comes back.
    """

    source: Grid
    start: tuple[int, ...]
    stop: tuple[int, ...]
    mask: Array | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        sides = list(zip(self.start, self.stop, self.source.shape, strict=False))
        dims = self.source.spatial_dims
        fits = len(self.start) == len(self.stop) == dims and all(0 <= a < b <= n for a, b, n in sides)
        if not fits:
            raise VolumeError(
                f"a box from {self.start} to {self.stop}", expected=f"one inside {self.source.shape} voxels"
            )
        if self.mask is not None and self.mask.shape != self.source.shape:
            raise VolumeError(f"a mask of {self.mask.shape} voxels", expected=f"one of {self.source.shape}")

    @cached_property
    def target(self) -> Grid:
        """The grid of the box."""
        return Grid(
            tuple(b - a for a, b in zip(self.start, self.stop, strict=True)),
            spacing_mm=self.source.spacing_mm,
            origin_mm=tuple(self.source.world_mm(self.start)),
            direction=self.source.direction,
        )

    @property
    def box(self) -> tuple[slice, ...]:
        """Slices of an array (channels, *spatial)."""
        return (slice(None), *(slice(a, b) for a, b in zip(self.start, self.stop, strict=True)))

    def forward(self, array: Array, kind: Kind) -> Array:
        """A view of the box."""
        return array[self.box]

    def inverse(self, array: Array, kind: Kind) -> Array:
        """The box in an array of the source's size, with background around it and outside of the mask."""
        out = np.empty((len(array), *self.source.shape), array.dtype)
        fill = background_fill(array, kind)
        out[...] = fill
        out[self.box] = array if self.mask is None else np.where(self.mask[self.box[1:]], array, fill)
        return out
