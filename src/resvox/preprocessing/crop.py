"""Crop a volume to a box; the inverse fills the outside of the box with background."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class Crop:
    """The voxels from `start` up to, not including, `stop`.

    Args:
        source: the grid of the input.
        start: first voxel along each axis.
        stop: one past the last voxel along each axis.
    """

    source: Grid
    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        sides = list(zip(self.start, self.stop, self.source.shape, strict=False))
        dims = self.source.spatial_dims
        fits = len(self.start) == len(self.stop) == dims and all(0 <= a < b <= n for a, b, n in sides)
        if not fits:
            raise VolumeError(
                f"a box from {self.start} to {self.stop}", expected=f"one inside {self.source.shape} voxels"
            )

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
        """The box in an array of the source's size, with background around it."""
        out = np.empty((len(array), *self.source.shape), array.dtype)
        out[...] = background_fill(array, kind)
        out[self.box] = array
        return out
