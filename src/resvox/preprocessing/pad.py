"""Pad a volume with background up to a minimum size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from resvox.errors import VolumeError
from resvox.preprocessing.steps import Array, Kind, background_fill
from resvox.volumes import Grid


@dataclass(frozen=True, kw_only=True)
class Pad:
    """Background added equally on both sides (an odd voxel at the end), up to `minimum_size`.

    Args:
        source: the grid of the input.
        minimum_size: voxels along each axis; longer axes are not changed.
    """

    source: Grid
    minimum_size: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.minimum_size) != self.source.spatial_dims:
            raise VolumeError(
                f"a {self.source.spatial_dims}-D image for minimum_size {self.minimum_size}",
                expected=f"{len(self.minimum_size)} dimensions",
            )

    @cached_property
    def before(self) -> tuple[int, ...]:
        """Voxels added at the start of each axis."""
        pairs = zip(self.minimum_size, self.source.shape, strict=True)
        return tuple(max(0, least - size) // 2 for least, size in pairs)

    @cached_property
    def target(self) -> Grid:
        """The larger grid; voxels of the source keep their world positions."""
        pairs = zip(self.minimum_size, self.source.shape, strict=True)
        return Grid(
            tuple(max(least, size) for least, size in pairs),
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
        """The source with background around it."""
        out = np.empty((len(array), *self.target.shape), array.dtype)
        out[...] = background_fill(array, kind)
        out[self.box] = array
        return out

    def inverse(self, array: Array, kind: Kind) -> Array:
        """A view without the padding."""
        return array[self.box]
