"""The positions of voxels in the world: the frozen, validated `Grid`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.errors import VolumeError

WORLD_LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))  # world x, y, z of LPS: (towards minus, towards plus)
ORTHONORMAL_TOLERANCE = 1e-3  # DICOM writes direction cosines with as few as four digits
NO_COMPONENT = 1e-12  # of a direction cosine


def identity_direction(spatial_dims: int) -> npt.NDArray[np.float64]:
    """The direction of an image whose last array axis is world x: array order reverses x, y, z."""
    return np.eye(spatial_dims)[:, ::-1].copy()


@dataclass(frozen=True, eq=False)
class Grid:
    """A lattice of voxel centres in the world (mm, LPS: +x left, +y posterior, +z superior).

    ``world_mm = origin_mm + direction @ (index * spacing_mm)``, the index in array order (D, H, W).

    Args:
        shape: voxels along each array axis, (D, H, W) or (H, W).
        spacing_mm: distance between neighbouring centres along each array axis.
        origin_mm: world position (x, y, z) of the centre of voxel (0, 0, 0); default 0.
        direction: matrix whose column k is the world unit vector along array axis k; rows are x, y, z.
            Default: D to +z, H to +y, W to +x.

    Raises:
        VolumeError: a shape, spacing, origin or direction that is not valid.
    """

    shape: tuple[int, ...]
    _: KW_ONLY
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...] = ()
    direction: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        dims = len(shape)
        if dims not in (2, 3) or min(shape) < 1:
            raise VolumeError(f"grid of shape {shape}", expected="2 or 3 axes of at least 1 voxel")
        set_field = object.__setattr__
        set_field(self, "shape", shape)
        set_field(self, "spacing_mm", _spacing(self.spacing_mm, dims))
        set_field(self, "origin_mm", _origin(self.origin_mm, dims))
        set_field(self, "direction", _direction(self.direction, dims))

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.shape)

    @property
    def axis_codes(self) -> str:
        """Where each array axis points, e.g. ``"SPL"``: D to superior, H to posterior, W to left."""
        letters = []
        for axis, world in enumerate(nearest_world_axes(self.direction)):
            letters.append(WORLD_LETTERS[world][int(self.direction[world, axis] > 0)])
        return "".join(letters)

    def world_mm(self, index: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """World positions (..., x y z) of indices (..., array order); indices may be fractional."""
        steps = np.asarray(index, float) * np.asarray(self.spacing_mm)
        return np.asarray(self.origin_mm + steps @ self.direction.T)

    def index(self, world_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The inverse of `world_mm`: fractional indices in array order."""
        steps = (np.asarray(world_mm, float) - self.origin_mm) @ np.linalg.inv(self.direction).T
        return np.asarray(steps / np.asarray(self.spacing_mm))

    def corners_mm(self) -> npt.NDArray[np.float64]:
        """World positions of the outermost voxel centres, (2 ** spatial_dims, spatial_dims)."""
        return self.world_mm(list(itertools.product(*[(0, n - 1) for n in self.shape])))

    def matches(self, other: Grid, *, tolerance: float = 0.1) -> bool:
        """True if both have one shape and no corner is further off than `tolerance` of the smallest spacing.

        Files written by different programs differ in the last digits of one scan's geometry, so equality
        is too strict for "are these the same voxels"; a tenth of a voxel over the whole image is not.
        """
        if self.shape != other.shape:
            return False
        allowed_mm = tolerance * min(self.spacing_mm)
        return float(np.abs(self.corners_mm() - other.corners_mm()).max()) <= allowed_mm

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        spacing = " x ".join(f"{mm:.4g}" for mm in self.spacing_mm)
        origin = ", ".join(f"{mm:.2f}" for mm in self.origin_mm)
        return f"{shape} voxels of {spacing} mm, axes {self.axis_codes}, first voxel at ({origin}) mm"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return self.shape, self.spacing_mm, self.origin_mm, tuple(self.direction.ravel().tolist())


def nearest_world_axes(direction: npt.NDArray[np.float64]) -> tuple[int, ...]:
    """For each array axis the nearest world axis (0 x, 1 y, 2 z), each world axis used once."""
    dims = len(direction)
    strength = np.abs(direction)
    orders = itertools.permutations(range(dims))
    return max(orders, key=lambda worlds: sum(strength[worlds[axis], axis] for axis in range(dims)))


def _numbers(values: Sequence[float] | npt.ArrayLike, dims: int, what: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in np.asarray(values, float).reshape(-1))
    except (TypeError, ValueError):
        raise VolumeError(f"{what} {values!r}", expected=f"{dims} numbers") from None
    if len(numbers) != dims or not all(math.isfinite(v) for v in numbers):
        raise VolumeError(f"{what} {numbers}", expected=f"{dims} finite numbers, one per axis")
    return numbers


def _spacing(values: Any, dims: int) -> tuple[float, ...]:
    spacing_mm = _numbers(values, dims, "spacing_mm")
    if min(spacing_mm) <= 0:
        raise VolumeError(f"spacing_mm {spacing_mm}", expected="numbers above 0 mm")
    return spacing_mm


def _origin(values: Any, dims: int) -> tuple[float, ...]:
    return (0.0,) * dims if values is None or len(values) == 0 else _numbers(values, dims, "origin_mm")


def _direction(values: Any, dims: int) -> npt.NDArray[np.float64]:
    if values is None or np.size(values) == 0:
        matrix = identity_direction(dims)
    else:
        matrix = np.array(_numbers(values, dims * dims, "direction")).reshape(dims, dims)
    off = float(np.abs(matrix.T @ matrix - np.eye(dims)).max())
    if off > ORTHONORMAL_TOLERANCE:
        raise VolumeError(
            f"direction {matrix.round(4).tolist()} is sheared or scaled (off by {off:.3g})",
            expected="orthonormal columns: unit vectors at right angles",
            fix="resample the image onto a rectangular grid first",
        )
    # Rounding errors become 0: numbers near the smallest float break ITK's matrix inverse, and the resampled
    # image is empty; and -0.0 becomes 0.0, so that equal grids hash equally.
    matrix = np.where(np.abs(matrix) < NO_COMPONENT, 0.0, matrix)
    matrix.setflags(write=False)
    return matrix
