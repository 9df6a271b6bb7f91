"""The resampling of nnU-Net v2: splines (scipy), optionally with one axis of its own, and the one of torch.

`Resampling` describes a function of a plan. `resized`, `resized_labels` have nnU-Net's own bits; `resized_fast`
computes the same splines as products with small matrices, in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np

from resvox.errors import PlanError
from resvox.preprocessing.steps import Array

SLAB = 1 << 24  # values that are interpolated at once


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """A resampling function with its settings.

    Args:
        method: "spline" (``resample_data_or_seg_to_shape``) or "torch" (``resample_torch_fornnunet``).
        order: of the spline: 0 nearest, 1 linear, 3 cubic. Torch is linear.
        order_z: along the axis that is resampled on its own.
        force_separate_z: True and False decide whether one axis is resampled on its own; None looks at the spacings.
        threshold: the ratio of the largest to the smallest spacing above which it is.
        less_memory: torch, labels: each label where its own mask is above 0.5, instead of the largest.

    Raises:
        PlanError: a value that is not valid.
    """

    method: str = "spline"
    order: int = 3
    order_z: int = 0
    force_separate_z: bool | None = None
    threshold: float = 3.0
    less_memory: bool = False

    def __post_init__(self) -> None:
        fits = self.method in ("spline", "torch") and all(
            isinstance(order, int) and 0 <= order <= 5 for order in (self.order, self.order_z)
        )
        if not fits or self.force_separate_z not in (None, True, False) or not self.threshold > 0:
            raise PlanError(
                f"{self}",
                expected="method 'spline' or 'torch', orders 0 to 5, a threshold above 0",
                fix="see plans.json",
            )

    def separate_axis(self, current: Sequence[float], new: Sequence[float]) -> int | None:
        """The axis that is resampled on its own, see `separate_axis`."""
        return separate_axis(current, new, force=self.force_separate_z, threshold=self.threshold)

    def to_dict(self) -> dict[str, Any]:
        """The settings as a file holds them."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Resampling:
        """What `to_dict` wrote.

        Raises:
            PlanError: an unknown field or a value that is not valid.
        """
        known = {item.name for item in fields(cls)}
        if not set(values) <= known:
            raise PlanError(f"a resampling with {sorted(set(values) - known)}", expected=f"of {sorted(known)}")
        return cls(**values)


def separate_axis(
    current: Sequence[float], new: Sequence[float], *, force: bool | None, threshold: float
) -> int | None:
    """The axis that is resampled on its own (nearest), or None.

    Args:
        current: spacing of the array, in mm.
        new: spacing of the result.
        force: True: the axis of the largest current spacing; False: none; None: that of the current spacing if its
            largest is more than ``threshold`` times its smallest, else the same for the new spacing.
        threshold: see ``force``.

    Where two or three axes share the largest spacing the result is None.
    """
    if force is False:
        return None
    if force or max(current) / min(current) > threshold:
        spacing = current
    elif max(new) / min(new) > threshold:
        spacing = new
    else:
        return None
    largest = [axis for axis, mm in enumerate(spacing) if max(spacing) / mm == 1]
    return largest[0] if len(largest) == 1 else None


# ---------------------------------------------------------------------------------------------- nnU-Net's own bits


def resized(array: Array, shape: Sequence[int], rule: Resampling, axis: int | None) -> Array:
    """Images or logits (channels, *spatial) at another shape, computed as nnU-Net does; the dtype stays.

    Args:
        array: (channels, D, H, W).
        shape: the new (D, H, W).
        rule: with method "spline".
        axis: the axis that is resampled on its own, see `separate_axis`.
    """
    if array.shape[1:] == tuple(shape):
        return array
    out = np.zeros((len(array), *shape), array.dtype)
    for place, channel in zip(out, array, strict=True):
        values = channel.astype(np.float64)
        if axis is None:
            place[...] = _zoomed(values, shape, rule.order)
        else:
            place[...] = _along(_slicewise(values, shape, rule.order, axis), shape, rule.order_z, axis)
    return out


def resized_labels(array: Array, shape: Sequence[int], rule: Resampling, axis: int | None) -> Array:
    """A label map (D, H, W) at another shape, as nnU-Net with batchgenerators 0.25.5 makes it."""
    if array.shape == tuple(shape):
        return array
    values = array.astype(np.float64)
    if axis is None:
        return _zoomed_labels(values, shape, rule.order).astype(array.dtype)
    flat = _planes(values, axis)
    inner = [size for place, size in enumerate(shape) if place != axis]
    flat = np.stack([_zoomed_labels(plane, inner, rule.order) for plane in flat])
    made = np.moveaxis(flat, 0, axis)
    if rule.order_z == 0:
        return _along(made, shape, 0, axis).astype(array.dtype)
    out = np.zeros(tuple(shape), array.dtype)
    for label in np.unique(made):
        mask = _along((made == label).astype(np.float64), shape, rule.order_z, axis)
        out[np.round(mask) > 0.5] = label
    return out


def _zoomed(values: Array, shape: Sequence[int], order: int) -> Array:
    """A float64 array at another shape, its values within those of the input."""
    from scipy.ndimage import zoom

    factors = [new / old for new, old in zip(shape, values.shape, strict=True)]
    made = zoom(values, factors, order=order, mode="nearest", grid_mode=True)
    assert made.shape == tuple(shape)
    clipped: Array = np.clip(made, values.min(), values.max(), out=made)
    return clipped


def _zoomed_labels(values: Array, shape: Sequence[int], order: int) -> Array:
    """The label whose own mask is the largest; of equal ones that of the nearest voxel, else the smallest."""
    nearest = _zoomed(values, shape, 0)
    if order == 0:
        return nearest
    found = np.unique(values)
    winner, best, own = np.full(tuple(shape), found[0]), np.full(tuple(shape), -np.inf), np.zeros(tuple(shape))
    for label in found:
        score = _zoomed((values == label).astype(np.float64), shape, order)
        np.copyto(own, score, where=nearest == label)
        np.copyto(winner, label, where=score > best)
        np.maximum(best, score, out=best)
    np.copyto(winner, nearest, where=own == best)
    return winner


def _planes(values: Array, axis: int) -> Array:
    return np.moveaxis(values, axis, 0)


def _slicewise(values: Array, shape: Sequence[int], order: int, axis: int) -> Array:
    """Each slice along an axis at the new size of the other axes."""
    inner = [size for place, size in enumerate(shape) if place != axis]
    made = np.stack([_zoomed(plane, inner, order) for plane in _planes(values, axis)])
    return np.moveaxis(made, 0, axis)


def _along(values: Array, shape: Sequence[int], order: int, axis: int) -> Array:
    """One axis at its new size."""
    if values.shape[axis] == shape[axis]:
        return values
    if order == 0:
        return values.take(nearest_index(values.shape[axis], shape[axis]), axis=axis)
    from scipy.ndimage import map_coordinates

    scales = [old / new for old, new in zip(values.shape, shape, strict=True)]
    places = np.meshgrid(
        *(scale * (np.arange(size) + 0.5) - 0.5 for scale, size in zip(scales, shape, strict=True)), indexing="ij"
    )
    made: Array = map_coordinates(values, np.array(places), order=order, mode="nearest")
    return made


@lru_cache(maxsize=64)
def nearest_index(size: int, new: int) -> Array:
    """For each of ``new`` voxels along an axis the voxel of ``size`` that nnU-Net takes for it."""
    from scipy.ndimage import map_coordinates

    places = size / new * (np.arange(new) + 0.5) - 0.5
    index: Array = map_coordinates(np.arange(size, dtype=np.float64), places[None], order=0, mode="nearest")
    return index.astype(np.intp)


# ---------------------------------------------------------------------------------------------- as products


def resized_fast(array: Array, shape: Sequence[int], rule: Resampling, axis: int | None) -> Array:
    """`resized` for images, by a product with a small matrix along each axis: (channels, *shape) float32.

    Splines are separable. Values agree with `resized` to the rounding of float32, in a hundredth of its time.
    """
    if array.shape[1:] == tuple(shape):
        return array
    out = np.empty((len(array), *shape), np.float32)
    for place, channel in zip(out, array, strict=True):
        _fill(place, channel, rule, axis)
    return out


def _fill(place: Array, channel: Array, rule: Resampling, axis: int | None) -> None:
    """One channel at the shape of ``place``, slab by slab in the slow axis, then along that axis."""
    if axis is not None:
        order = (axis, *(each for each in range(3) if each != axis))
        place, channel = place.transpose(order), channel.transpose(order)
    sizes, new = channel.shape, place.shape
    middle = spline_matrix(sizes[1], new[1], rule.order)
    last = spline_matrix(sizes[2], new[2], rule.order).T
    if axis is not None:
        index = nearest_index(sizes[0], new[0]) if sizes[0] != new[0] else np.arange(sizes[0])
        if rule.order_z == 0:
            for number in np.unique(index):
                plane = channel[number]
                made = np.clip(middle @ (plane @ last), plane.min(), plane.max())
                place[index == number] = made
            return
    flat = np.empty((sizes[0], new[1], new[2]), np.float32)
    for number in range(sizes[0]):
        flat[number] = middle @ (channel[number] @ last)
        if axis is not None:
            np.clip(flat[number], channel[number].min(), channel[number].max(), out=flat[number])
    first = spline_matrix(sizes[0], new[0], rule.order if axis is None else rule.order_z)
    step = max(1, SLAB // max(sizes[0] * new[2], 1))
    low, high = channel.min(), channel.max()
    for start in range(0, new[1], step):
        part = flat[:, start : start + step]
        made = (first @ part.reshape(sizes[0], -1)).reshape(new[0], -1, new[2])
        place[:, start : start + step] = np.clip(made, low, high) if axis is None else made


@lru_cache(maxsize=64)
def spline_matrix(size: int, new: int, order: int) -> Array:
    """The matrix (new, size) float32 that interpolates ``size`` voxels of an axis at ``new``."""
    if size == new:
        return np.eye(size, dtype=np.float32)
    from scipy.ndimage import zoom

    rows = [zoom(unit, new / size, order=order, mode="nearest", grid_mode=True) for unit in np.eye(size)]
    return np.ascontiguousarray(np.stack(rows, axis=1), np.float32)


def linear_places(size: int, new: int) -> Array:
    """Where each of ``new`` voxels of an axis lies among ``size`` ones, in voxels; not limited to them."""
    return size / new * (np.arange(new) + 0.5) - 0.5
