"""MONAI's ``Spacing``: another distance between voxels, on a grid that shares its first voxel with the source's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from resvox.errors import VolumeError
from resvox.preprocessing.monai.torch_places import places_between
from resvox.preprocessing.steps import Array, Kind
from resvox.volumes import Grid

SAME_MM = 1e-3  # a spacing, or an affine, that differs by less is the same for MONAI
SAME_RELATIVE = 1e-5
SLAB = 8  # slices that are interpolated together, in float64


@dataclass(frozen=True, kw_only=True)
class Spaced:
    """Linear interpolation, or the nearest voxels, at positions that MONAI computes in the same order of operations.

    The first voxel keeps its place in the world; the last one is the nearest to the source's last, so that positions
    may lie beyond it by half a voxel, where the edge is repeated. Labels are never interpolated.

    Args:
        source: the grid of the input.
        spacing_mm: along each axis, as asked for; one within a thousandth of a millimetre of the source's is kept.
        nearest: take the nearest voxels of images and scores, too.
    """

    source: Grid
    spacing_mm: tuple[float, ...]
    nearest: bool = False

    def __post_init__(self) -> None:
        if len(self.spacing_mm) != self.source.spatial_dims:
            raise VolumeError(
                f"a {self.source.spatial_dims}-D image for spacing_mm {self.spacing_mm}",
                expected=f"{len(self.spacing_mm)} dimensions",
            )

    @cached_property
    def target(self) -> Grid:
        """The grid of the result: the source's where nothing is to be changed."""
        pairs = zip(self.source.spacing_mm, self.spacing_mm, strict=True)
        spacing = tuple(old if abs(old - new) <= SAME_MM else new for old, new in pairs)
        start, end = _affine(self.source), _rescaled(self.source, spacing)
        shape, end[:-1, -1] = _extent(start, end, self.source.shape)
        ratio = np.linalg.solve(start, end)
        close = np.allclose(start, end, rtol=SAME_RELATIVE, atol=SAME_MM)
        close = close or np.allclose(ratio, np.eye(len(ratio)), rtol=SAME_RELATIVE, atol=SAME_MM)
        if close and shape == self.source.shape:
            return self.source
        return Grid(shape, spacing_mm=spacing, origin_mm=tuple(end[:-1, -1]), direction=end[:-1, :-1] / spacing)

    def forward(self, array: Array, kind: Kind) -> Array:
        """Float32 for images and scores; labels keep their type."""
        return self._moved(array, kind, self.source, self.target)

    def inverse(self, array: Array, kind: Kind) -> Array:
        """From the target grid to the source grid in the same way."""
        return self._moved(array, kind, self.target, self.source)

    def places(self) -> list[Array]:
        """Where the voxels of the source lie along each axis of the target; whole numbers for the nearest ones."""
        return _places(self.target, self.source, nearest=self.nearest)

    def _moved(self, array: Array, kind: Kind, start: Grid, end: Grid) -> Array:
        labels = kind == "labels"
        if start == end:
            return array if labels else array.astype(np.float32, copy=False)
        places = _places(start, end, nearest=labels or self.nearest)
        if labels or self.nearest:
            index = np.ix_(*(each.astype(np.intp) for each in places))
            moved = np.stack([channel[index] for channel in array])
            return moved if labels else moved.astype(np.float32, copy=False)
        out = np.empty((len(array), *end.shape), np.float32)
        for channel, place in zip(array, out, strict=True):
            for first in range(0, end.shape[0], SLAB):
                part = slice(first, first + SLAB)
                place[part] = _interpolated(channel, [places[0][part], *places[1:]])
        return out


def _affine(grid: Grid) -> Array:
    """The matrix from indices to the world."""
    dims = grid.spatial_dims
    affine = np.eye(dims + 1)
    affine[:dims, :dims] = grid.direction * np.asarray(grid.spacing_mm)
    affine[:dims, dims] = grid.origin_mm
    return affine


def _rescaled(grid: Grid, spacing_mm: tuple[float, ...]) -> Array:
    """The matrix with another spacing, at right angles, first voxel at 0.

    The directions of a rotated scan are read from a file in float32: they are not quite at right angles.
    """
    scaled = grid.direction * np.asarray(grid.spacing_mm)
    stretch = np.linalg.cholesky(scaled.T @ scaled).T
    affine = np.eye(grid.spatial_dims + 1)
    affine[:-1, :-1] = (scaled @ np.linalg.inv(stretch)) @ np.diag(np.sign(np.diag(stretch)) * np.abs(spacing_mm))
    return affine


def _extent(start: Array, end: Array, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Array]:
    """The size of the result, and where in the world its first voxel is.

    That is a corner of the source, or, where rounding leaves no outermost corner, what puts middle upon middle.
    """
    corners = np.stack(np.meshgrid(*((0.0, size - 1.0) for size in shape), indexing="ij")).reshape(len(shape), -1)
    corners = np.concatenate([corners, np.ones_like(corners[:1])])
    places, world = (np.linalg.solve(end, start) @ corners)[:-1], (start @ corners)[:-1]
    sizes = np.round(np.ptp(places, axis=1) + 1.0)
    for number in range(corners.shape[1]):
        if np.allclose((places - places[:, number : number + 1]).min(axis=1), 0.0, rtol=SAME_MM):
            return tuple(int(size) for size in sizes), world[:, number]
    middle = start[:-1, :-1] @ (np.asarray(shape) / 2.0) + start[:-1, -1]
    return tuple(int(size) for size in sizes), middle - end[:-1, :-1] @ (sizes / 2.0)


def _places(start: Grid, end: Grid, *, nearest: bool) -> list[Array]:
    """Where the voxels of ``end`` lie along each axis of ``start``, in voxels, at most at its edges."""
    if start == end:
        return [np.arange(size, dtype=np.float64) for size in start.shape]
    moved = np.linalg.solve(_affine(start), _affine(end))
    return places_between(moved, start.shape, end.shape, nearest=nearest)


def _interpolated(channel: Array, places: list[Array]) -> Array:
    """(*spatial) at ``places`` along each axis, linearly, in float64."""
    moved = channel
    for axis, place in enumerate(places):
        low = np.minimum(np.floor(place).astype(np.intp), max(channel.shape[axis] - 2, 0))
        high = np.minimum(low + 1, channel.shape[axis] - 1)
        weight = (place - low).reshape(-1, *(1 for _ in range(channel.ndim - 1 - axis)))
        lower, upper = moved.take(low, axis).astype(np.float64), moved.take(high, axis)
        moved = lower * (1.0 - weight) + upper * weight
    return moved
