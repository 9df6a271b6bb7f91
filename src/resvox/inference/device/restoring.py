"""Labels on the scan's grid from finished slabs, on a device; the same interpolation as `BoxWalk`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from resvox.errors import InferenceError
from resvox.inference.boxes import VIEWS, AxisWeights, geometry
from resvox.inference.device.sums import FinishedSlab
from resvox.inference.heads import LinearHead
from resvox.inference.restoring import FEW, MARGIN
from resvox.preprocessing import Prepared
from resvox.volumes import Volume

BYTES = 4  # per float32
INTERVALS = 8  # between slices of the network's grid that are restored together where there are many classes
HELD = 4  # arrays of one output on the scan's grid while it is interpolated and compared
# Types of torch with the size of a label's type: it has no arithmetic for unsigned types of more than a byte, and
# labels are only moved.
STORED = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


@dataclass(frozen=True, kw_only=True)
class LabelRule:
    """How outputs become labels.

    Args:
        values: the label of every class; of a single class, of its absence and its presence; of regions the value
            that each writes, in this order.
        regions: outputs are those of regions, each of which is where its logit is above 0.
        head: the last layer, where outputs are the features before it.
    """

    values: tuple[int, ...]
    regions: bool = False
    head: LinearHead | None = None

    @property
    def type(self) -> np.dtype[Any]:
        """The type of the label map."""
        return np.min_scalar_type(max(*self.values, 1))

    def check(self, outputs: int) -> None:
        """Refuse a network with another number of outputs.

        Raises:
            InferenceError: naming both numbers.
        """
        single = not self.regions and len(self.values) == 2
        if outputs != len(self.values) and not (single and outputs == 1):
            raise InferenceError(
                f"a network with {outputs} outputs", expected=f"one per label or region, {len(self.values)}"
            )


@dataclass(frozen=True, eq=False)
class _Axis:
    """`AxisWeights` on a device, for a range of targets; whole places need no second neighbour."""

    low: torch.Tensor
    high: torch.Tensor
    first: torch.Tensor | None
    second: torch.Tensor | None

    @staticmethod
    def of(weights: AxisWeights, targets: slice, start: int, size: int, device: torch.device) -> _Axis:
        low = weights.low[targets] - start
        high = np.minimum(low + 1, size - 1)
        first, second = weights.first[targets], weights.second[targets]
        if ((second == 0) | (second == 1)).all():
            low, high = np.where(second == 1, high, low), high[:0]
            return _Axis(_moved(low, device), _moved(high, device), None, None)
        return _Axis(_moved(low, device), _moved(high, device), _moved(first, device), _moved(second, device))

    def taken(self, outputs: torch.Tensor, axis: int) -> torch.Tensor:
        """(outputs, *box) interpolated along one axis: product, product, sum, as in NumPy."""
        if self.first is None or self.second is None:
            return outputs.index_select(axis, self.low)
        shape = [-1] + [1] * (outputs.ndim - 1 - axis)
        upper = outputs.index_select(axis, self.high).mul_(self.second.reshape(shape))
        return outputs.index_select(axis, self.low).mul_(self.first.reshape(shape)).add_(upper)


class DeviceRestorer:
    """Fills a label map on the scan's grid, on a device.

    Args:
        prepared: the preprocessed scan of 3 axes, whose steps `can_restore`.
        rule: how outputs become labels.
        device: where.
        budget: bytes that interpolated outputs may take.
    """

    def __init__(self, prepared: Prepared, rule: LabelRule, *, device: torch.device, budget: int) -> None:
        self.prepared, self.rule, self.device, self.budget = prepared, rule, device, budget
        self.inner, self.axes = geometry(prepared)
        self.labels = torch.zeros(prepared.source.shape, dtype=STORED[rule.type.itemsize], device=device)
        self.place, self.flips = _inner_view(self.labels, prepared)
        stored = np.asarray(rule.values).astype(rule.type)
        self.stored: list[int] = stored.view(f"i{stored.itemsize}").tolist() if stored.itemsize > 1 else stored.tolist()
        self.head = None
        if rule.head is not None:
            self.head = (torch.from_numpy(rule.head.weight).to(device), torch.from_numpy(rule.head.bias).to(device))
        self.held: FinishedSlab | None = None
        self.is_finite = torch.ones((), dtype=torch.bool, device=device)

    def take(self, slab: FinishedSlab) -> None:
        """Restore what lies between the slices of a slab, and between the slab before and it."""
        self.is_finite &= torch.isfinite(slab.outputs).all()
        held = self.held
        if held is not None and held.row == slab.row:
            both = torch.cat([held.outputs, slab.outputs], dim=1)
            slab = FinishedSlab(index=held.index, row=slab.row, outputs=both)
        last = slab.outputs[:, -1:].clone()
        self.held = FinishedSlab(index=slab.index + slab.outputs.shape[1] - 1, row=slab.row, outputs=last)
        starts = (slab.index, slab.row, 0)
        spans = [
            _span(start, size, inner)
            for start, size, inner in zip(starts, slab.outputs.shape[1:], self.inner, strict=True)
        ]
        if any(low >= high for low, high in spans):
            return
        boxes = [
            slice(low + inner.start - start, min(high + 1, inner.stop - inner.start) + inner.start - start)
            for (low, high), inner, start in zip(spans, self.inner, starts, strict=True)
        ]
        outputs = slab.outputs[(slice(None), *boxes)]
        step = self._intervals(spans)
        for low in range(*spans[0], step):
            high = min(low + step, spans[0][1])
            part = outputs[:, low - spans[0][0] : high + 1 - spans[0][0]]
            self._restore(part, [(low, high), *spans[1:]])

    def volume(self) -> Volume:
        """The label map in main memory.

        Raises:
            InferenceError: outputs that are NaN or infinite.
        """
        found = _to_host(self.labels).view(self.rule.type)
        if not bool(self.is_finite):
            raise InferenceError(
                "logits that are NaN or infinite",
                expected="finite logits",
                fix="look for NaN in the volume or among the weights, or predict in float32",
            )
        self.prepared.clear_outside(found)
        return Volume.on_grid(found, self.prepared.source)

    def _intervals(self, spans: Sequence[tuple[int, int]]) -> int:
        """How many intervals between slices are restored together."""
        count = spans[0][1] - spans[0][0]
        targets = [axis.targets(*span) for axis, span in zip(self.axes, spans, strict=True)]
        depth, *plane = (each.stop - each.start for each in targets)
        per_interval = HELD * BYTES * math.prod(plane) * max(depth / count, 1)
        fitting = max(int(self.budget // max(per_interval, 1)), 1)
        return min(fitting, INTERVALS if len(self.rule.values) > FEW else count)

    def _restore(self, outputs: torch.Tensor, spans: Sequence[tuple[int, int]]) -> None:
        targets = [axis.targets(*span) for axis, span in zip(self.axes, spans, strict=True)]
        if any(each.stop <= each.start for each in targets):
            return
        if self.head is not None:
            weight, bias = self.head
            flat = torch.mm(weight, outputs.reshape(len(outputs), -1)).add_(bias[:, None])
            outputs = flat.reshape(len(flat), *outputs.shape[1:])
        self.rule.check(len(outputs))
        sizes = outputs.shape[1:]
        axes = [
            _Axis.of(weights, place, low, size, self.device)
            for weights, place, (low, _), size in zip(self.axes, targets, spans, sizes, strict=True)
        ]
        shape = tuple(each.stop - each.start for each in targets)
        labels = self._labels_of(outputs, axes, shape)
        self._write(labels, targets)

    def _labels_of(self, outputs: torch.Tensor, axes: Sequence[_Axis], shape: tuple[int, ...]) -> torch.Tensor:
        """(*targets): the label of each voxel, in the type in which labels are stored."""
        if self.rule.regions or len(outputs) == 1:
            off, stored = (0, self.stored) if self.rule.regions else (self.stored[0], self.stored[1:])
            labels = torch.full(shape, off, dtype=self.labels.dtype, device=self.device)
            for value, score in zip(stored, self._interpolated(outputs, axes, shape), strict=True):
                labels.masked_fill_(score > 0, value)
            return labels
        able = list(range(len(outputs))) if len(outputs) <= FEW else _able_to_win(outputs)
        labels = torch.full(shape, self.stored[able[0]], dtype=self.labels.dtype, device=self.device)
        if len(able) == 1:
            return labels
        best: torch.Tensor | None = None
        chosen = outputs if len(able) == len(outputs) else outputs[torch.tensor(able, device=self.device)]
        for index, score in zip(able, self._interpolated(chosen, axes, shape), strict=True):
            if best is None:
                best = score.clone()
                continue
            # Greater, not equal: of equal scores the first class wins, as in argmax.
            labels.masked_fill_(score > best, self.stored[index])
            torch.maximum(best, score, out=best)
        return labels

    def _interpolated(
        self, outputs: torch.Tensor, axes: Sequence[_Axis], shape: tuple[int, ...]
    ) -> Iterator[torch.Tensor]:
        """Each output on the targets; as many together as the budget holds."""
        largest = max(math.prod(shape), outputs.shape[1] * math.prod(shape[1:]))
        together = max(self.budget // (HELD * BYTES * largest), 1)
        for part in torch.split(outputs, together):
            for axis in (2, 1, 0):  # last axis first, while the array is smallest
                part = axes[axis].taken(part, 1 + axis)
            yield from part

    def _write(self, labels: torch.Tensor, targets: Sequence[slice]) -> None:
        places = []
        for axis, (each, size) in enumerate(zip(targets, self.place.shape, strict=True)):
            is_flipped = axis in self.flips
            places.append(slice(size - each.stop, size - each.start) if is_flipped else each)
        self.place[tuple(places)] = labels.flip(self.flips) if self.flips else labels


def to_device(array: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    """An array on a device; to CUDA through pinned memory, while this process goes on."""
    held = np.ascontiguousarray(array, np.float32)
    tensor = torch.from_numpy(held if held.flags.writeable else held.copy())
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _to_host(labels: torch.Tensor) -> np.ndarray[Any, Any]:
    if labels.device.type != "cuda":
        return labels.cpu().numpy()
    pinned = torch.empty(labels.shape, dtype=labels.dtype, pin_memory=True)
    pinned.copy_(labels, non_blocking=True)
    torch.cuda.current_stream(labels.device).synchronize()
    return pinned.numpy()


def _moved(array: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _span(start: int, size: int, inner: slice) -> tuple[int, int]:
    """The intervals between ``size`` voxels from ``start`` on that lie in the volume without padding."""
    # n voxels have n - 1 intervals; an axis of one voxel counts as one interval
    is_wide = inner.stop - inner.start > 1
    return max(start, inner.start) - inner.start, min(start + size, inner.stop) - inner.start - is_wide


def _inner_view(labels: torch.Tensor, prepared: Prepared) -> tuple[torch.Tensor, tuple[int, ...]]:
    """The part of the scan that the network sees, in the order of its axes, and which of these are to be flipped."""
    whole = np.empty(tuple(labels.shape), np.uint8)
    view = whole[np.newaxis]
    for step in prepared.steps:
        if isinstance(step, VIEWS):
            view = step.forward(view, "labels")
    view = view[0]
    flips = tuple(axis for axis, stride in enumerate(view.strides) if stride < 0)
    lowest = view[tuple(slice(None, None, -1) if axis in flips else slice(None) for axis in range(view.ndim))]
    offset = lowest.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return labels.as_strided(lowest.shape, lowest.strides, offset), flips


def _able_to_win(outputs: torch.Tensor) -> list[int]:
    """The classes of (classes, *box) that can be the largest anywhere between the voxels of a box."""
    flat = outputs.reshape(len(outputs), -1)
    lowest, highest = flat.amin(dim=1), flat.amax(dim=1)
    margin = MARGIN * torch.maximum(lowest.min().abs(), highest.max().abs())
    able: list[int] = torch.nonzero(highest >= lowest.max() - margin)[:, 0].tolist()
    return able
