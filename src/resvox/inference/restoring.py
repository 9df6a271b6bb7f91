"""From logits on the network's grid to labels on the scan's: slice by slice, and only the labels at full resolution.

Linear interpolation of every class's logits and then the largest, which is what bringing all logits to the scan's grid
would give; but the grids are aligned, so it is one axis after the other, and in a box of voxels only the few classes
that can win anywhere in it are interpolated: a linear mean lies between its lowest and its highest part, so a class
whose highest logit in the box lies below the lowest one of some other class cannot win there. Most boxes have a single
class left.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.heads import LinearHead
from resvox.inference.reduction import probabilities_from_logits
from resvox.inference.streaming import FinishedSlice
from resvox.preprocessing import Crop, Pad, Prepared, Reorient, Respace
from resvox.volumes import Volume

BOX = (8, 24, 24)  # intervals between voxels of the network's grid that are restored together
FEW = 4  # classes: up to so many it is cheaper to interpolate them than to look closer
MARGIN = 1e-5  # relative: more than the rounding of three interpolations in float32
Array = np.ndarray[Any, Any]


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
        place = np.clip(start + spacing * np.arange(target), 0, source - 1)
        near = np.rint(place)
        place = np.where(np.abs(place - near) < 1e-6, near, place)  # a grid read from a file is off by rounding
        low = np.clip(np.floor(place).astype(np.intp), 0, max(source - 2, 0))
        second = (place - low).astype(np.float32)
        return AxisWeights(low, np.float32(1) - second, second)

    def targets(self, start: int, stop: int) -> slice:
        """The targets whose lower neighbour lies in ``[start, stop)``."""
        return slice(int(np.searchsorted(self.low, start)), int(np.searchsorted(self.low, stop)))


class Restorer:
    """Takes finished slices and fills a label map on the scan's grid.

    Args:
        prepared: how the scan became what the network saw.
        values: the label of every class; None counts from 0. A single class means 0 and 1, by the logit's sign.
        head: turns slices of features into logits, box by box; None where slices hold logits.
        probabilities: also restore (classes, *source) float32; this needs the room for all of it.
        threads: that restore boxes.

    Raises:
        InferenceError: steps that are not known to keep the axes apart (`can_restore` tells).
    """

    def __init__(
        self,
        prepared: Prepared,
        *,
        values: Mapping[int, int] | None = None,
        head: LinearHead | None = None,
        probabilities: bool = False,
        threads: int = 1,
    ) -> None:
        if not can_restore(prepared):
            raise InferenceError(
                "preprocessing whose steps are not known here",
                expected="reorient, crop, respace and pad, each at most once and in this order",
                fix="Prepared.restore_labels",
            )
        self.prepared, self.values, self.wants_probabilities = prepared, dict(values or {}), probabilities
        self.threads, self.head = threads, head
        self.box, self.axes = _geometry(prepared)
        highest = max(self.values.values(), default=255)
        self.labels = np.zeros(prepared.source.shape, np.min_scalar_type(max(highest, 1)))
        self.scores: Array | None = None
        self.seconds = 0.0  # spent in restoring, the waiting for slices not counted

    def restore(self, slices: Iterable[FinishedSlice]) -> tuple[Volume, Volume | None]:
        """The label map (*source), and the probabilities if they were asked for."""
        inner = self.box[0]
        with ThreadPoolExecutor(self.threads) as pool:
            held: list[FinishedSlice] = []  # what boxes still need
            for each in slices:
                if held and each.start != held[0].start:  # the next tile begins
                    held = []
                if inner.start <= each.index < inner.stop:
                    held.append(each)
                    if len(held) == BOX[0] + 1 or each.index == inner.stop - 1:
                        start = time.perf_counter()
                        self._restore_slab(held, pool)
                        self.seconds += time.perf_counter() - start
                        held = held[-1:]
        labels = Volume.on_grid(self.labels, self.prepared.source)
        if self.scores is None:
            return labels, None
        return labels, Volume.on_grid(self._whole_scores(self.scores), self.prepared.source)

    def _restore_slab(self, slices: list[FinishedSlice], pool: ThreadPoolExecutor) -> None:
        """All boxes between slices that follow each other."""
        logits = slices[0].logits
        if self.wants_probabilities and self.scores is None:
            self.scores = np.empty(
                (self.head.classes if self.head else len(logits), *self._inner(self.labels).shape), np.float32
            )
        starts = (slices[0].index, slices[0].start, 0)
        sizes = (len(slices), *logits.shape[1:])
        spans = []
        for inner, start, size, step in zip(self.box, starts, sizes, BOX, strict=False):
            begin = max(start, inner.start) - inner.start
            # Between voxels there is one interval less; an axis of one voxel has one all the same.
            end = min(start + size, inner.stop) - inner.start - (inner.stop - inner.start > 1)
            spans.append([(at, min(at + step, end)) for at in range(begin, end, step)])
        list(pool.map(lambda span: self._restore_box(slices, span), itertools.product(*spans)))

    def _restore_box(self, slices: list[FinishedSlice], span: tuple[tuple[int, int], ...]) -> None:
        """The targets whose lower neighbours lie in a span of the unpadded volume, (start, stop) an axis."""
        targets = tuple(axis.targets(low, high) for axis, (low, high) in zip(self.axes, span, strict=True))
        if any(each.stop <= each.start for each in targets):
            return
        starts = (slices[0].index, slices[0].start, 0)
        first, *rest = (
            slice(low + inner.start - start, min(high + 1 + inner.start, inner.stop) - start)
            for (low, high), inner, start in zip(span, self.box, starts, strict=False)
        )
        box = np.stack([each.logits[(slice(None), *rest)] for each in slices[first]], axis=1)
        if self.head is not None:
            box = self.head(box)
        self._inner(self.labels)[targets] = self._labels_of(box, span, targets)
        if self.scores is not None:
            likely = probabilities_from_logits(box)
            self.scores[(slice(None), *targets)] = self._interpolated(likely, span, targets)

    def _labels_of(self, box: Array, span: tuple[tuple[int, int], ...], targets: tuple[slice, ...]) -> Array | int:
        if len(box) == 1:
            return self._threshold(box, span, targets)
        able = _able_to_win(box)
        values = [self.values.get(int(index), int(index)) for index in able]
        if len(able) == 1:
            return values[0]
        scores = self._interpolated(box[able], span, targets)
        best = scores[0]
        labels = np.full(best.shape, values[0], self.labels.dtype)
        for value, score in zip(values[1:], scores[1:], strict=True):
            # Greater, not equal: the first of equals wins, as argmax has it.
            np.copyto(labels, np.array(value, labels.dtype), where=score > best)
            np.maximum(best, score, out=best)
        return labels

    def _threshold(self, box: Array, span: tuple[tuple[int, int], ...], targets: tuple[slice, ...]) -> Array | int:
        off, on = self.values.get(0, 0), self.values.get(1, 1)
        if box.max() <= 0:
            return off
        if box.min() > 0 and box.min() > MARGIN * box.max():
            return on
        return np.where(self._interpolated(box, span, targets)[0] > 0, on, off).astype(self.labels.dtype)

    def _interpolated(self, box: Array, span: tuple[tuple[int, int], ...], targets: tuple[slice, ...]) -> Array:
        """(k, *box) on the targets: last axis first, while there is least to do."""
        for axis in reversed(range(len(span))):
            weights, place = self.axes[axis], targets[axis]
            low = weights.low[place] - span[axis][0]
            high = np.minimum(low + 1, box.shape[1 + axis] - 1)
            shape = (-1, *(1 for _ in range(box.ndim - 2 - axis)))
            first, second = weights.first[place].reshape(shape), weights.second[place].reshape(shape)
            upper = box.take(high, axis=1 + axis)
            upper *= second
            box = box.take(low, axis=1 + axis)
            box *= first
            box += upper
        return box

    def _inner(self, array: Array) -> Array:
        """A view of the scan's array: reoriented, and cropped as the network's volume was."""
        view = array[np.newaxis]
        for step in self.prepared.steps:
            if isinstance(step, (Reorient, Crop)):
                view = step.forward(view, "labels")
        return view[0]

    def _whole_scores(self, scores: Array) -> Array:
        """Brought back to the scan's axes; class 0 where it was cropped."""
        for step in reversed(self.prepared.steps):
            if isinstance(step, (Reorient, Crop)):
                scores = step.inverse(scores, "scores")
        return np.ascontiguousarray(scores)


def _able_to_win(box: Array) -> Array:
    """The classes of (classes, *box) that can be the largest anywhere between the voxels of a box."""
    flat = box.reshape(len(box), -1)
    lowest, highest = flat.min(axis=1), flat.max(axis=1)
    margin = MARGIN * max(abs(float(lowest.min())), abs(float(highest.max())))
    able = np.flatnonzero(highest >= lowest.max() - margin)
    if len(able) <= FEW:
        return able
    # The same between every voxel and its neighbours, which tells more classes apart.
    low = high = box[able]
    for axis in range(1, box.ndim):
        if box.shape[axis] > 1:
            count = box.shape[axis] - 1
            first, second = (slice(None),) * axis + (slice(count),), (slice(None),) * axis + (slice(1, None),)
            low, high = np.minimum(low[first], low[second]), np.maximum(high[first], high[second])
    wins = high >= low.max(axis=0) - margin
    return able[wins.reshape(len(able), -1).any(axis=1)]


def can_restore(prepared: Prepared) -> bool:
    """Whether the steps are reorient, crop, respace, pad, each at most once, in this order."""
    kinds = [type(step) for step in prepared.steps]
    order = [kind for kind in (Reorient, Crop, Respace, Pad) if kind in kinds]
    return kinds == order


def _geometry(prepared: Prepared) -> tuple[tuple[slice, ...], tuple[AxisWeights, ...]]:
    """Where the unpadded volume lies in the network's, and how each of its axes is interpolated."""
    dims = prepared.grid.spatial_dims
    inner = tuple(slice(0, size) for size in prepared.grid.shape)
    source = target = prepared.grid
    for step in prepared.steps:
        if isinstance(step, Pad):
            inner, source = step.box[1:], step.source
            target = source
    for step in prepared.steps:
        if isinstance(step, Respace):
            source, target = step.target, step.source
    start = source.index(target.world_mm([0] * dims))
    axes = []
    for axis in range(dims):
        spacing = target.spacing_mm[axis] / source.spacing_mm[axis]
        axes.append(AxisWeights.of(source.shape[axis], target.shape[axis], spacing=spacing, start=float(start[axis])))
    return inner, tuple(axes)
