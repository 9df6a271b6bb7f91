"""MONAI's ``CropForeground``: the box of what is above 0, with a margin that may reach beyond the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from resvox.errors import VolumeError
from resvox.preprocessing.crop import Crop
from resvox.preprocessing.steps import Array, Kind, Step
from resvox.volumes import Grid
from resvox.volumes.resampling import mask_bounds


@dataclass(frozen=True, kw_only=True)
class Border:
    """Voxels of 0 around an image.

    Args:
        source: the grid of the input.
        before: voxels in front, along each axis.
        after: voxels behind.
    """

    source: Grid
    before: tuple[int, ...]
    after: tuple[int, ...]

    @cached_property
    def target(self) -> Grid:
        """The larger grid; voxels of the source keep their world positions."""
        rows = zip(self.before, self.source.shape, self.after, strict=True)
        return Grid(
            tuple(low + size + high for low, size, high in rows),
            spacing_mm=self.source.spacing_mm,
            origin_mm=tuple(self.source.world_mm([-count for count in self.before])),
            direction=self.source.direction,
        )

    @property
    def box(self) -> tuple[slice, ...]:
        """Slices of the source in an array (channels, *spatial) on the target grid."""
        sides = zip(self.before, self.source.shape, strict=True)
        return (slice(None), *(slice(start, start + size) for start, size in sides))

    def forward(self, array: Array, kind: Kind) -> Array:
        """The source with 0 around it."""
        return np.pad(array, [(0, 0), *zip(self.before, self.after, strict=True)])

    def inverse(self, array: Array, kind: Kind) -> Array:
        """A view without the border."""
        return array[self.box]


def foreground_steps(
    array: Array,
    grid: Grid,
    *,
    channels: Sequence[int] | None,
    margin: Sequence[int],
    divisor: Sequence[int],
    allow_smaller: bool,
) -> list[Step]:
    """The crop to the voxels above 0 of some channels, and the border of 0 where its box reaches beyond the image.

    Args:
        array: (channels, *spatial).
        grid: its grid.
        channels: those that are looked at; None for all.
        margin: voxels beside the foreground, along each axis.
        divisor: each side becomes a multiple of it.
        allow_smaller: the margin ends at the image's edges.

    Raises:
        VolumeError: nothing is above 0.
    """
    seen = array if channels is None else array[list(channels)]
    filled = np.asarray((seen > 0).any(axis=0))
    if not filled.any():
        raise VolumeError("no voxel above 0", expected="a foreground to crop to, as the model's preprocessing wants")
    low, high = (np.asarray(each, int) for each in mask_bounds(filled))
    low, high = low - np.asarray(margin), high + np.asarray(margin)
    size = np.asarray(filled.shape)
    if allow_smaller:
        low, high = np.maximum(low, 0), np.minimum(high, size)
    side = -(-(high - low) // np.asarray(divisor)) * np.asarray(divisor)
    low = low - (side - (high - low)) // 2
    high = low + side
    start, stop = np.maximum(low, 0), np.minimum(high, size)
    crop = Crop(source=grid, start=tuple(start.tolist()), stop=tuple(stop.tolist()))
    before, after = tuple((start - low).tolist()), tuple((high - stop).tolist())
    return [crop, Border(source=crop.target, before=before, after=after)] if any((*before, *after)) else [crop]
