"""The geometric steps of nnU-Net's preprocessing: an axis for 2-D images, the order of axes, another size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from resvox.errors import PlanError, VolumeError
from resvox.preprocessing.nnunet.resampling import (
    Resampling,
    linear_places,
    nearest_index,
    resized,
    resized_fast,
    resized_labels,
)
from resvox.preprocessing.nnunet.torch_resampling import resized_by_torch
from resvox.preprocessing.steps import Array, Kind
from resvox.volumes import Grid

FAR = 999.0  # times the largest spacing: the spacing between an image and a neighbour that it does not have


@dataclass(frozen=True, kw_only=True)
class AddAxis:
    """A 2-D image as the only slice of a volume."""

    source: Grid

    @cached_property
    def target(self) -> Grid:
        """One slice; the first axis has a spacing far above the others."""
        spacing = self.source.spacing_mm
        return Grid((1, *self.source.shape), spacing_mm=(FAR * max(spacing), *spacing))

    def forward(self, array: Array, kind: Kind) -> Array:
        """A view with one more axis."""
        return array[:, np.newaxis]

    def inverse(self, array: Array, kind: Kind) -> Array:
        """A view without it."""
        return array[:, 0]


@dataclass(frozen=True, kw_only=True)
class Transpose:
    """The spatial axes in another order.

    Args:
        source: the grid of the input.
        order: the source axis that becomes each target axis.
    """

    source: Grid
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(self.source.spatial_dims)):
            raise VolumeError(
                f"an order of axes {self.order} for {self.source.spatial_dims} dimensions",
                expected="each axis once",
            )

    @cached_property
    def target(self) -> Grid:
        """The grid of the same voxels."""
        order = list(self.order)
        return Grid(
            tuple(self.source.shape[axis] for axis in order),
            spacing_mm=tuple(self.source.spacing_mm[axis] for axis in order),
            origin_mm=self.source.origin_mm,
            direction=self.source.direction[:, order],
        )

    def forward(self, array: Array, kind: Kind) -> Array:
        """A view in the new order."""
        return np.transpose(array, (0, *(1 + axis for axis in self.order)))

    def inverse(self, array: Array, kind: Kind) -> Array:
        """A view in the order of the source."""
        return np.transpose(array, (0, *(1 + axis for axis in np.argsort(self.order))))


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Another number of voxels over the same box, by nnU-Net's resampling functions.

    Args:
        source: the grid of the input.
        spacing_mm: the spacing of the result as the plan names it. The voxels that fill the box differ from it by the
            rounding of their number; nnU-Net looks at these numbers to find an axis that is resampled on its own.
        image: resampling of images.
        labels: of label maps.
        scores: of logits, on the way back.
        exact: compute images with the bits of nnU-Net, not with products of matrices.
    """

    source: Grid
    spacing_mm: tuple[float, ...]
    image: Resampling
    labels: Resampling
    scores: Resampling
    exact: bool = False

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The size of the result: ``round(old spacing / new spacing * size)``, half to even."""
        rows = zip(self.source.spacing_mm, self.spacing_mm, self.source.shape, strict=True)
        shape = tuple(round(old / new * size) for old, new, size in rows)
        if 0 in shape:
            raise VolumeError(
                f"an image of {self.source.shape} voxels of {_text(self.source.spacing_mm)} mm: {shape} voxels "
                f"at the model's spacing, {_text(self.spacing_mm)} mm",
                expected="an image of at least one voxel along each axis",
            )
        return shape

    @cached_property
    def target(self) -> Grid:
        """The grid over the same box of the world."""
        sizes = list(zip(self.source.shape, self.shape, strict=True))
        first = [(old / new - 1) / 2 for old, new in sizes]
        return Grid(
            self.shape,
            spacing_mm=tuple(mm * old / new for mm, (old, new) in zip(self.source.spacing_mm, sizes, strict=True)),
            origin_mm=tuple(self.source.world_mm(first)),
            direction=self.source.direction,
        )

    def forward(self, array: Array, kind: Kind) -> Array:
        """From the source to the new size."""
        return self._moved(array, kind, self.shape, self.source.spacing_mm, self.spacing_mm)

    def inverse(self, array: Array, kind: Kind) -> Array:
        """From the new size to the source."""
        return self._moved(array, kind, self.source.shape, self.spacing_mm, self.source.spacing_mm)

    def places(self) -> list[Array] | None:
        """Where the voxels of the source lie along each axis of the target, for logits; None where that is not linear.

        Whole numbers along an axis whose nearest voxels are taken.
        """
        rule, made = self.scores, []
        if self.source.shape == self.shape:
            return [np.arange(size, dtype=np.float64) for size in self.shape]
        own = rule.separate_axis(self.spacing_mm, self.source.spacing_mm)
        for axis, (size, new) in enumerate(zip(self.shape, self.source.shape, strict=True)):
            order = rule.order_z if axis == own and rule.method == "spline" else rule.order
            if rule.method == "torch":
                order = 0 if axis == own else 1
            if order > 1:
                return None
            made.append(linear_places(size, new) if order == 1 else self._nearest(size, new, is_own=axis == own))
        return made

    def _nearest(self, size: int, new: int, *, is_own: bool) -> Array:
        if self.scores.method == "torch":
            places: Array = np.minimum(np.floor((np.arange(new) + 0.5) * (size / new)), size - 1)
            return places
        if is_own:
            return nearest_index(size, new).astype(np.float64)
        return resized(
            np.arange(size, dtype=np.float64).reshape(1, size, 1, 1), (new, 1, 1), Resampling(order=0), None
        ).ravel()

    def _moved(
        self, array: Array, kind: Kind, shape: tuple[int, ...], current: Sequence[float], new: Sequence[float]
    ) -> Array:
        rule = {"image": self.image, "labels": self.labels, "scores": self.scores}[kind]
        axis = rule.separate_axis(current, new)
        if rule.method == "torch":
            return resized_by_torch(array, shape, rule, axis, labels=kind == "labels")
        if kind == "labels":
            return np.stack([resized_labels(each, shape, rule, axis) for each in array])
        if self.exact or array.dtype != np.float32:
            return resized(array, shape, rule, axis)
        return resized_fast(array, shape, rule, axis)


def _text(spacing_mm: Sequence[float]) -> str:
    return " x ".join(f"{mm:.4g}" for mm in spacing_mm)


def check_order(order: Sequence[int]) -> tuple[int, ...]:
    """A permutation of three axes.

    Raises:
        PlanError: anything else.
    """
    if sorted(order) != [0, 1, 2]:
        raise PlanError(f"transpose_forward={list(order)!r}", expected="each of 0, 1 and 2 once")
    return tuple(int(axis) for axis in order)
