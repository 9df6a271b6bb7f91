"""Finished slices on the network's grid, cut into boxes that are restored to the scan's grid one by one.

The two grids are aligned, so linear interpolation is separable (one axis after the other), and a box of voxels needs
only the slices that touch it. The caller decides what is computed for a box: labels, probabilities or values.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.slice_sums import FinishedSlice
from resvox.preprocessing import Crop, Pad, Prepared, Reorient, Respace
from resvox.preprocessing.monai import Border, Spaced
from resvox.preprocessing.nnunet import AddAxis, Resize, Transpose

BOX = (8, 24, 24)  # intervals between voxels of the network's grid that are restored together
Array = np.ndarray[Any, Any]
Span = tuple[tuple[int, int], ...]  # start and stop of a box along each axis of the volume without padding
Targets = tuple[slice, ...]  # its voxels on the scan's grid, reoriented and cropped
# the steps that can be restored slice by slice, in the order in which they are applied
VIEWS = (Reorient, AddAxis, Transpose, Crop)  # those that move no voxel: the result is written through their views
RESAMPLED = (Respace, Resize, Spaced)  # one of them, after the views
PLACED = (Resize, Spaced)  # those that name the places of their source's voxels
PADDED = (Pad, Border)  # last


@dataclass(frozen=True)
class AxisWeights:
    """Linear interpolation along one axis: target ``t`` is ``first * array[low[t]] + second * array[low[t] + 1]``.

    ``low`` never falls; beyond the outermost voxels the edge is repeated.
    """

    low: Array
    first: Array
    second: Array

    @staticmethod
    def of(source: int, target: int, *, spacing: float, start: float) -> AxisWeights:
        """Targets at ``start + spacing * t`` in voxels of an axis of ``source`` voxels."""
        return AxisWeights.at(start + spacing * np.arange(target), source)

    @staticmethod
    def at(places: Array, source: int) -> AxisWeights:
        """Targets at any places, in ascending order, in voxels of an axis of ``source`` voxels."""
        place = np.clip(places, 0, source - 1)
        near = np.rint(place)
        place = np.where(np.abs(place - near) < 1e-6, near, place)  # a grid read from a file is off by rounding
        low = np.clip(np.floor(place).astype(np.intp), 0, max(source - 2, 0))
        second = (place - low).astype(np.float32)
        return AxisWeights(low, np.float32(1) - second, second)

    def targets(self, start: int, stop: int) -> slice:
        """The targets whose lower neighbour lies in ``[start, stop)``."""
        return slice(int(np.searchsorted(self.low, start)), int(np.searchsorted(self.low, stop)))


class BoxWalk:
    """Cuts finished slices into boxes.

    Args:
        prepared: the preprocessed scan, with its steps.
        threads: number of threads that process boxes.

    Raises:
        InferenceError: steps that cannot be restored slice by slice, see `can_restore`.
    """

    def __init__(self, prepared: Prepared, *, threads: int) -> None:
        if not (can_restore(prepared) and is_linear(prepared)):
            raise InferenceError(
                "preprocessing whose steps are not known here",
                expected="reorient and crop, then respace once, then pad once, linear on the way back",
                fix="Prepared.restore_labels",
            )
        self.prepared, self.threads = prepared, threads
        self.box, self.axes = geometry(prepared)
        self.seconds = 0.0  # time of the boxes, without waiting for slices

    def run(self, slices: Iterable[FinishedSlice], work: Callable[[Array, Span, Targets], None]) -> None:
        """Call ``work`` with (channels, *box), its span and its targets, for every box, from several threads."""
        inner = self.box[0]
        with ThreadPoolExecutor(self.threads) as pool:
            held: list[FinishedSlice] = []  # slices that the next boxes need
            for each in slices:
                if held and each.start != held[0].start:  # first slice of the next tile
                    held = []
                if inner.start <= each.index < inner.stop:
                    held.append(each)
                    if len(held) == BOX[0] + 1 or each.index == inner.stop - 1:
                        start = time.perf_counter()
                        self._slab(held, work, pool)
                        self.seconds += time.perf_counter() - start
                        held = held[-1:]

    def _slab(
        self,
        slices: list[FinishedSlice],
        work: Callable[[Array, Span, Targets], None],
        pool: ThreadPoolExecutor,
    ) -> None:
        """All boxes between consecutive slices."""
        starts = (slices[0].index, slices[0].start, 0)
        sizes = (len(slices), *slices[0].logits.shape[1:])
        spans = []
        for inner, start, size, step in zip(self.box, starts, sizes, BOX, strict=False):
            begin = max(start, inner.start) - inner.start
            # n voxels have n - 1 intervals; an axis of one voxel counts as one interval.
            end = min(start + size, inner.stop) - inner.start - (inner.stop - inner.start > 1)
            spans.append([(at, min(at + step, end)) for at in range(begin, end, step)])
        list(pool.map(lambda span: self._cut(slices, span, work), itertools.product(*spans)))

    def _cut(self, slices: list[FinishedSlice], span: Span, work: Callable[[Array, Span, Targets], None]) -> None:
        """One box: the voxels of the network's grid around a span, and the targets whose lower neighbours lie in it."""
        targets = tuple(axis.targets(low, high) for axis, (low, high) in zip(self.axes, span, strict=True))
        if any(each.stop <= each.start for each in targets):
            return
        starts = (slices[0].index, slices[0].start, 0)
        first, *rest = (
            slice(low + inner.start - start, min(high + 1 + inner.start, inner.stop) - start)
            for (low, high), inner, start in zip(span, self.box, starts, strict=False)
        )
        work(np.stack([each.logits[(slice(None), *rest)] for each in slices[first]], axis=1), span, targets)

    def interpolated(self, box: Array, span: Span, targets: Targets) -> Array:
        """(k, *box) interpolated on the targets: last axis first, while the array is smallest."""
        for axis in reversed(range(len(span))):
            weights, place = self.axes[axis], targets[axis]
            # indices in the box of the lower and the upper neighbour of every target; the edge is repeated
            low = weights.low[place] - span[axis][0]
            high = np.minimum(low + 1, box.shape[1 + axis] - 1)
            # weights along this axis, broadcast over the axes after it
            shape = (-1, *(1 for _ in range(box.ndim - 2 - axis)))
            first, second = weights.first[place].reshape(shape), weights.second[place].reshape(shape)
            upper = box.take(high, axis=1 + axis)
            upper *= second
            box = box.take(low, axis=1 + axis)
            box *= first
            box += upper
        return box

    def inner(self, array: Array) -> Array:
        """A view of the scan's array: reoriented, and cropped as the network's volume was."""
        view: Array = array[np.newaxis]
        for step in self.prepared.steps:
            if isinstance(step, VIEWS):
                view = step.forward(view, "labels")
        own: Array = view[0]
        return own

    def whole(self, scores: Array, *, outside: Array | None = None) -> Array:
        """(channels, *inner) brought back to the scan's axes and size.

        Where the scan was cropped, each channel has its value of ``outside``; by default channel 0 has its highest
        value and the others their lowest, as `Prepared.restore_scores` fills: class 0 wins there.
        """
        for step in reversed(self.prepared.steps):
            if isinstance(step, Crop) and outside is not None:
                filled = np.empty((len(scores), *step.source.shape), scores.dtype)
                filled[...] = outside.reshape(-1, *(1 for _ in step.source.shape))
                filled[step.box] = scores
                scores = filled
            elif isinstance(step, VIEWS):
                scores = step.inverse(scores, "scores")
        return np.ascontiguousarray(scores)


def can_restore(prepared: Prepared) -> bool:
    """Whether the steps are views in any order, then at most one change of spacing, then at most one padding."""
    kinds = [type(step) for step in prepared.steps]
    while kinds and kinds[0] in VIEWS:
        kinds.pop(0)
    for last in (RESAMPLED, PADDED):
        if kinds and kinds[0] in last:
            kinds.pop(0)
    return not kinds


def is_linear(prepared: Prepared) -> bool:
    """Whether logits go back to the scan's grid by linear interpolation or by their nearest voxels."""
    return all(step.places() is not None for step in prepared.steps if isinstance(step, Resize))


def geometry(prepared: Prepared) -> tuple[tuple[slice, ...], tuple[AxisWeights, ...]]:
    """The box of the volume without padding on the network's grid, and the interpolation weights of its axes."""
    dims = prepared.grid.spatial_dims
    inner = tuple(slice(0, size) for size in prepared.grid.shape)
    source = target = prepared.grid
    # Backwards: without padding, the grid of the network is that of the resampled scan ...
    for step in prepared.steps:
        if isinstance(step, PADDED):
            inner, source = step.box[1:], step.source
            target = source
    for step in prepared.steps:
        if isinstance(step, PLACED):
            return inner, tuple(map(AxisWeights.at, step.places() or [], step.target.shape))
    # ... and resampling started from the reoriented, cropped scan, which is the target here.
    for step in prepared.steps:
        if isinstance(step, Respace):
            source, target = step.target, step.source
    start = source.index(target.world_mm([0] * dims))
    axes = []
    for axis in range(dims):
        spacing = target.spacing_mm[axis] / source.spacing_mm[axis]
        axes.append(AxisWeights.of(source.shape[axis], target.shape[axis], spacing=spacing, start=float(start[axis])))
    return inner, tuple(axes)
