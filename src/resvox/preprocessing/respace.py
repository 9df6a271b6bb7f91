"""Change the spacing of a grid; the box that it covers in the world stays the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from resvox.errors import VolumeError
from resvox.preprocessing.steps import Array, Kind
from resvox.volumes import Grid, Volume, resample
from resvox.volumes.resampling import Interpolation

SAME_SPACING = 1e-6  # relative: a spacing that was rounded to float32 in a header counts as the same spacing


def respaced(grid: Grid, spacing_mm: tuple[float, ...]) -> Grid:
    """The grid over the same box of the world at another spacing.

    The new size is ``max(1, round(size * old / new))`` along each axis. The box of the voxels (from the
    outer face of the first to the outer face of the last, not from centre to centre) is kept. As the rounded
    size fills it only to within half a new voxel, the new grid is centred in it. The spacing is exactly
    ``spacing_mm``.
    """
    if len(spacing_mm) != grid.spatial_dims:
        raise VolumeError(
            f"a {grid.spatial_dims}-D image for spacing_mm {spacing_mm}",
            expected=f"{len(spacing_mm)} dimensions",
        )
    ratios = [new / old for old, new in zip(grid.spacing_mm, spacing_mm, strict=True)]
    ratios = [1.0 if abs(ratio - 1.0) <= SAME_SPACING else ratio for ratio in ratios]
    pairs = list(zip(grid.spacing_mm, ratios, spacing_mm, strict=True))
    # exactly in the order size * old / new: otherwise a size that ends in .5 may round the other way
    shape = [
        size if ratio == 1.0 else max(1, math.floor(size * old / new + 0.5))
        for size, (old, ratio, new) in zip(grid.shape, pairs, strict=True)
    ]
    axes = zip(grid.shape, shape, ratios, strict=True)
    first = [((size - 1) - (count - 1) * ratio) / 2.0 for size, count, ratio in axes]
    return Grid(
        tuple(shape),
        spacing_mm=tuple(old if ratio == 1.0 else new for old, ratio, new in pairs),
        origin_mm=tuple(grid.world_mm(first)) if any(first) else grid.origin_mm,
        direction=grid.direction,
    )


@dataclass(frozen=True, kw_only=True)
class Respace:
    """Images and scores by linear interpolation, labels by the argmax of their interpolated masks.

    Images that lose resolution are blurred first (see `resvox.volumes.resample`). Beyond the outermost
    centres the edge is repeated: the two grids cover the same box of the world to within half a voxel.

    Args:
        source: the grid of the input.
        spacing_mm: distance between voxel centres along each array axis.
    """

    source: Grid
    spacing_mm: tuple[float, ...]

    @cached_property
    def target(self) -> Grid:
        """The grid at the new spacing, see `respaced`."""
        return respaced(self.source, self.spacing_mm)

    def forward(self, array: Array, kind: Kind) -> Array:
        """Float32 for images and scores; labels keep their type."""
        return _moved(array, self.source, self.target, kind)

    def inverse(self, array: Array, kind: Kind) -> Array:
        """From the target grid to the source grid by the same interpolation."""
        return _moved(array, self.target, self.source, kind)


def _moved(array: Array, start: Grid, end: Grid, kind: Kind) -> Array:
    volume = Volume.on_grid(np.ascontiguousarray(array), start)
    interpolation: Interpolation = "label" if kind == "labels" else "linear"
    return resample(volume, end, interpolation=interpolation, fill=None, antialias=kind == "image").array
