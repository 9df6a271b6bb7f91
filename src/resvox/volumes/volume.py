"""An image with a position in the world: the frozen `Volume`."""

from __future__ import annotations

import html
from dataclasses import KW_ONLY, dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.errors import ResvoxError, VolumeError
from resvox.volumes.grid import Grid


@dataclass(frozen=True, eq=False)
class Volume:
    """An array and the grid of its voxels.

    Args:
        array: (*spatial) or (channels, *spatial), spatial being (D, H, W) or (H, W). The length of `spacing_mm`
            is the number of spatial axes.
        spacing_mm: distance between voxel centres along each spatial array axis.
        origin_mm: world position (x, y, z; LPS) of the first voxel's centre; default 0.
        direction: column k is the world unit vector along spatial axis k; default: D to +z, H to +y, W to +x.

    Raises:
        VolumeError: a geometry that is not valid, or an array with another number of axes.
    """

    array: npt.NDArray[Any]
    _: KW_ONLY
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...] = ()
    direction: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        dims = len(tuple(self.spacing_mm))
        if array.ndim not in (dims, dims + 1) or array.dtype.kind not in "biuf":
            raise VolumeError(
                f"array of shape {array.shape} and type {array.dtype} with {dims} spacings",
                expected=f"real numbers on {dims} spatial axes, or channels and {dims} spatial axes",
            )
        shape = array.shape[array.ndim - dims :]
        grid = Grid(shape, spacing_mm=self.spacing_mm, origin_mm=self.origin_mm, direction=self.direction)
        self._settle(array, grid)

    def _settle(self, array: npt.NDArray[Any], grid: Grid) -> None:
        set_field = object.__setattr__
        set_field(self, "array", array)
        set_field(self, "spacing_mm", grid.spacing_mm)
        set_field(self, "origin_mm", grid.origin_mm)
        set_field(self, "direction", grid.direction)
        set_field(self, "_grid", grid)

    @classmethod
    def on_grid(cls, array: npt.NDArray[Any], grid: Grid) -> Volume:
        """An array placed on a grid; array: (*grid.shape) or (channels, *grid.shape)."""
        array = np.asarray(array)
        if array.shape[-grid.spatial_dims :] != grid.shape:
            raise VolumeError(f"array of shape {array.shape}", expected=f"spatial axes of {grid.shape}")
        volume = cls(array, spacing_mm=grid.spacing_mm, origin_mm=grid.origin_mm, direction=grid.direction)
        volume._settle(volume.array, grid)  # the same object, so that "exactly the source grid" is identity
        return volume

    @property
    def grid(self) -> Grid:
        """Shape and geometry without the numbers."""
        grid: Grid = self.__dict__["_grid"]
        return grid

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.spacing_mm)

    @property
    def channels(self) -> int:
        """Channels of the array; 1 where there is no channel axis."""
        return int(self.array.shape[0]) if self.array.ndim > self.spatial_dims else 1

    @property
    def axis_codes(self) -> str:
        """Where each spatial array axis points, e.g. ``"SPL"``."""
        return self.grid.axis_codes

    def with_array(self, array: npt.NDArray[Any]) -> Volume:
        """Another array on the same grid."""
        return Volume.on_grid(array, self.grid)

    def with_channel_axis(self) -> npt.NDArray[Any]:
        """The array as (channels, *spatial), a view."""
        return self.array if self.array.ndim > self.spatial_dims else self.array[np.newaxis]

    def _repr_html_(self) -> str:
        """The interactive page in a notebook; text where the viewer cannot show it."""
        # Imported by name at this moment: the viewer depends on this package, and only a notebook needs it.
        try:
            return str(import_module("resvox.viewer.interactive").notebook_html(self))
        except ResvoxError:
            return f"<code>{html.escape(repr(self))}</code>"

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.array.shape))
        spacing = " x ".join(f"{mm:.4g}" for mm in self.spacing_mm)
        return f"Volume({shape} {self.array.dtype}, {spacing} mm, axes {self.axis_codes})"
