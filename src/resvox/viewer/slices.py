"""Volumes in radiological orientation, and the selection of slices and of display windows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from resvox.volumes import Volume

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Plane:
    """A plane: the axis along which slices are counted, and the directions of the four edges of the picture."""

    name: str
    axis: int
    left: str
    right: str
    top: str
    bottom: str


# After `to_radiological`, axis 0 runs to the feet, axis 1 to the back, axis 2 to the patient's left. The patient's
# right is on the left of the picture, as in radiology.
PLANES = (
    Plane(name="axial", axis=0, left="R", right="L", top="A", bottom="P"),
    Plane(name="coronal", axis=1, left="R", right="L", top="S", bottom="I"),
    Plane(name="sagittal", axis=2, left="A", right="P", top="S", bottom="I"),
)


def to_radiological(volume: Volume) -> tuple[Array, tuple[float, ...]]:
    """A scan's array (first channel) turned so that its axes run to I, P and L, and its spacing in mm.

    Only whole axes are swapped and flipped: an oblique scan is shown along its own axes, the nearest ones.
    A 2D image is returned as it is.
    """
    array = volume.array if volume.array.ndim == volume.spatial_dims else volume.array[0]
    spacing = tuple(float(each) for each in volume.spacing_mm)
    if volume.spatial_dims == 2:
        return array, spacing
    from resvox.volumes.grid import nearest_world_axes

    direction = np.asarray(volume.direction, dtype=float)  # column a: where array axis a points, in x, y, z (LPS)
    world = (2, 1, 0)  # the world axis of each shown axis
    followed = nearest_world_axes(direction)
    order = tuple(followed.index(each) for each in world)
    turned = np.transpose(array, order)
    wanted = (-1, 1, 1)  # S to I is opposite to the z axis of LPS; A to P and R to L are along y and x
    for shown, (w, a) in enumerate(zip(world, order, strict=True)):
        if direction[w, a] * wanted[shown] < 0:
            turned = np.flip(turned, shown)
    return turned, tuple(spacing[a] for a in order)


def most_informative_slice(maps: Iterable[Array], axis: int, size: int) -> int:
    """The slice with the most of all labels.

    The area of each label is divided by its largest area, so that a small structure counts as much as a large one.
    Without any label it is the middle of ``size``.
    """
    scores: Array | None = None
    for labels in maps:
        others = tuple(a for a in range(labels.ndim) if a != axis)
        for value in np.unique(labels):
            if value == 0:
                continue
            counts = (labels == value).sum(axis=others).astype(float)
            share = counts / counts.max()
            scores = share if scores is None else scores + share
    return size // 2 if scores is None else int(np.argmax(scores))


def display_window(array: Array) -> tuple[float, float]:
    """The values that are shown black and white: the 1st and 99.5th percentile of the finite values.

    The most frequent lowest value (the padding outside a scanner's field of view) is left out.
    """
    finite = array[np.isfinite(array)]
    if finite.size == 0:
        return 0.0, 1.0
    inside = finite[finite > finite.min()]
    low, high = np.percentile(inside if inside.size else finite, (1, 99.5))
    return float(low), float(high if high > low else low + 1)
