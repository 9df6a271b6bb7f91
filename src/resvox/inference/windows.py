"""Positions of windows, as plain numbers.

The placement "stepped" is that of MONAI (``monai.inferers.sliding_window_inference``), so that results agree: windows
step by ``int(roi_size * (1 - overlap))`` voxels, and the last one along an axis is shifted back into the volume. The
placement "even" is that of nnU-Net: as few windows as overlap at least so much, at equal distances.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from resvox.errors import InferenceError

T = TypeVar("T")
PLACEMENTS = ("stepped", "even")


def window_size(roi_size: int | Sequence[int | None] | None, image_size: Sequence[int]) -> tuple[int, ...]:
    """The window of each spatial axis in voxels; ``None``, 0 or a negative number means the whole axis.

    Raises:
        InferenceError: ``roi_size`` has another number of axes than the volume.
    """
    sizes = per_axis(roi_size, len(image_size), name="roi_size")
    return tuple(
        int(size) if size is not None and size > 0 else int(whole)
        for size, whole in zip(sizes, image_size, strict=True)
    )


def per_axis(value: T | Sequence[T], spatial_dims: int, *, name: str) -> tuple[T, ...]:
    """One value for every spatial axis, from a single value or a sequence with one value per axis."""
    values = tuple(value) if isinstance(value, (Sequence, np.ndarray)) else (value,) * spatial_dims
    if len(values) != spatial_dims:
        raise InferenceError(
            f"{name}={tuple(values)} with {len(values)} values",
            expected=f"{spatial_dims} values for a volume of {spatial_dims} spatial axes",
            fix=f"give {name} one value, or one for every spatial axis without the channel axis",
        )
    return values


def padding(image_size: Sequence[int], roi_size: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Voxels to add on both sides of each axis so that one window fits; an odd voxel is added at the end."""
    missing = [max(roi - size, 0) for size, roi in zip(image_size, roi_size, strict=True)]
    return tuple((m // 2, m - m // 2) for m in missing)


def window_starts(
    image_size: Sequence[int], roi_size: Sequence[int], overlap: Sequence[float], *, placement: str = "stepped"
) -> list[tuple[int, ...]]:
    """First voxel of every window, sorted along the first axis, then the second, then the third.

    Args:
        image_size: the volume's spatial size, at least ``roi_size`` along every axis (see :func:`padding`).
        roi_size: the window's spatial size.
        overlap: per axis, the fraction of a window that is shared with its neighbour; at least 0, below 1.
        placement: "stepped" or "even", see above.

    Raises:
        InferenceError: an unknown placement.

    The order is guaranteed: after a window that starts at ``s`` along the first axis, no later one touches the
    slices before ``s``, so that those are final and can be released.
    """
    if placement not in PLACEMENTS:
        raise InferenceError(f"placement={placement!r}", expected=" or ".join(map(repr, PLACEMENTS)))
    along = _axis_starts if placement == "stepped" else _even_starts
    axes = [along(size, roi, fraction) for size, roi, fraction in zip(image_size, roi_size, overlap, strict=True)]
    return list(itertools.product(*axes))


def _axis_starts(size: int, roi: int, overlap: float) -> list[int]:
    # int() of the float product, not round(): 10 * (1 - 0.8) is 1.9999999999999996, a step of 1 in MONAI too.
    step = max(int(roi * (1 - overlap)), 1)
    last = size - roi
    return [*range(0, last, step), last]


def _even_starts(size: int, roi: int, overlap: float) -> list[int]:
    # round(): 1 - 0.2 is 0.8, but other overlaps leave the rounding of a float, which would add a window
    # at least a voxel: windows of one slice would otherwise be computed twice
    steps = math.ceil((size - roi) / max(roi * round(1 - overlap, 12), 1))
    return [round((size - roi) / steps * index) for index in range(steps + 1)] if steps else [0]


def tile_edges(size: int, rows: int) -> list[tuple[int, int]]:
    """Start and stop of tiles of at most ``rows`` rows (at least 2) along an axis of ``size`` voxels.

    Each tile but the first begins with the last row of the one before, so that interpolation has both its neighbours.
    """
    if size < 2:
        return [(0, size)]
    # a tile of `rows` rows adds rows - 1 new ones; the number is rounded up
    number = math.ceil((size - 1) / (max(rows, 2) - 1))
    edges = [round(index * (size - 1) / number) for index in range(number + 1)]
    return [(low, high + 1) for low, high in itertools.pairwise(edges)]
