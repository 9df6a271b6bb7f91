"""From logits on the network's grid to labels on the scan's, slice by slice; only labels have full resolution.

The result equals that of interpolating the logits of all classes on the scan's grid and taking the largest. The grids
are aligned, so interpolation is separable, and in a box of voxels only the classes that can be largest anywhere in it
are interpolated: an interpolated value lies between the smallest and the largest of its neighbours, so a class whose
highest logit in the box is below the lowest logit of some other class cannot be the largest there. Most boxes have a
single class left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from resvox.inference.boxes import Array, AxisWeights, BoxWalk, Span, Targets, can_restore
from resvox.inference.decisions import Decision
from resvox.inference.heads import LinearHead
from resvox.inference.reduction import probabilities_from_logits
from resvox.inference.slice_sums import FinishedSlice
from resvox.inference.uncertainty.doubt import DoubtMaps
from resvox.preprocessing import Prepared
from resvox.volumes import Volume

__all__ = ["AxisWeights", "Restorer", "can_restore", "restore_labels_first"]
FEW = 4  # classes: up to this number, interpolating them is cheaper than the closer test
MARGIN = 1e-5  # relative: more than the rounding of three interpolations in float32


class Softening:
    """The probabilities of a box of logits, on the scan's grid.

    Args:
        walk: interpolates a box on its targets.
        probabilities: from logits (outputs, *box), of the same shape.
        decision: has probabilities of its own kind; None takes the others.
        temperature: by which logits are divided.
        last: probabilities are those of interpolated logits, instead of interpolated probabilities.
    """

    def __init__(
        self,
        walk: BoxWalk,
        probabilities: Callable[[Array], Array],
        *,
        decision: Decision | None,
        temperature: float,
        last: bool,
    ) -> None:
        self.walk, self.probabilities, self.decision = walk, probabilities, decision
        self.temperature, self.last = np.float32(temperature), last

    def __call__(self, box: Array, span: Span, targets: Targets) -> Array:
        """The probabilities (outputs, *targets)."""
        if self.decision is not None:
            return self.decision.probabilities(self.walk.interpolated(box, span, targets))
        if self.temperature != 1:
            box = box / self.temperature
        if self.last:
            return self.probabilities(self.walk.interpolated(box, span, targets))
        return self.walk.interpolated(self.probabilities(box), span, targets)


class Restorer:
    """Fills a label map on the scan's grid from finished slices.

    Args:
        prepared: the preprocessed scan, with its steps.
        values: the label of every class; None counts from 0. A single class means 0 and 1, by the logit's sign.
        head: computes logits from features, box by box; None where slices hold logits.
        outside: probabilities of the classes where the scan was cropped; None: see `BoxWalk.whole`.
        soften_last: probabilities are those of interpolated logits, instead of interpolated probabilities.
        decision: what is interpolated and compared; None interpolates logits, of which the largest wins.
        probabilities: also restore (classes, *source) float32; this needs memory for all of them.
        threads: number of threads that restore boxes.
        temperature: by which logits are divided for probabilities.
        doubt: takes each box, and what it has beside logits.

    Raises:
        InferenceError: steps that cannot be restored slice by slice, see `can_restore`.
    """

    def __init__(
        self,
        prepared: Prepared,
        *,
        values: Mapping[int, int] | None = None,
        head: LinearHead | None = None,
        outside: Sequence[float] | None = None,
        soften_last: bool = False,
        decision: Decision | None = None,
        probabilities: bool = False,
        threads: int = 1,
        temperature: float = 1.0,
        doubt: DoubtMaps | None = None,
    ) -> None:
        self.walk, self.decision = BoxWalk(prepared, threads=threads), decision
        self.doubt = doubt
        self.prepared, self.values, self.wants_probabilities = prepared, dict(values or {}), probabilities
        self.head = head
        self.softened = Softening(
            self.walk, probabilities_from_logits, decision=decision, temperature=temperature, last=soften_last
        )
        self.outside = None if outside is None else np.asarray(outside, np.float32)
        highest = max(self.values.values(), default=255)
        self.labels = np.zeros(prepared.source.shape, np.min_scalar_type(max(highest, 1)))
        self.scores: Array | None = None

    @property
    def seconds(self) -> float:
        """Time of restoring, without waiting for slices."""
        return self.walk.seconds

    def restore(self, slices: Iterable[FinishedSlice]) -> tuple[Volume, Volume | None]:
        """The label map (*source), and the probabilities if they are wanted."""
        if self.doubt is not None:
            slices = self.doubt.counted(slices, self.head)
        self.walk.run(self._allocating(slices), self._restore_box)
        self.prepared.clear_outside(self.labels)
        labels = Volume.on_grid(self.labels, self.prepared.source)
        if self.scores is None:
            return labels, None
        return labels, Volume.on_grid(self.walk.whole(self.scores, outside=self.outside), self.prepared.source)

    def _allocating(self, slices: Iterable[FinishedSlice]) -> Iterable[FinishedSlice]:
        """The slices; the array of probabilities is allocated at the first one, which has the number of classes."""
        for each in slices:
            if self.wants_probabilities and self.scores is None:
                beside = int(self.doubt is not None and self.doubt.members)
                classes = self.head.classes if self.head else len(each.logits) - beside
                self.scores = np.empty((classes, *self.walk.inner(self.labels).shape), np.float32)
            yield each

    def _restore_box(self, box: Array, span: Span, targets: Targets) -> None:
        if self.head is not None:
            box = self.head(box)
        if self.doubt is not None:
            box = self.doubt.take(self.walk, box, span, targets)
        if self.decision is not None:
            box = self.decision.values(box)
        self.walk.inner(self.labels)[targets] = self._labels_of(box, span, targets)
        if self.scores is not None:
            self.scores[(slice(None), *targets)] = self.softened(box, span, targets)

    def _labels_of(self, box: Array, span: Span, targets: Targets) -> Array | int:
        if len(box) == 1:
            return self._threshold(box, span, targets)
        able = _able_to_win(box)
        values = [self.values.get(int(index), int(index)) for index in able]
        if len(able) == 1:
            return values[0]
        scores = self.walk.interpolated(box[able], span, targets)
        best = scores[0]
        labels = np.full(best.shape, values[0], self.labels.dtype)
        for value, score in zip(values[1:], scores[1:], strict=True):
            # Greater, not equal: of equal scores the first class wins, as in argmax.
            np.copyto(labels, np.array(value, labels.dtype), where=score > best)
            np.maximum(best, score, out=best)
        return labels

    def _threshold(self, box: Array, span: Span, targets: Targets) -> Array | int:
        # an interpolated logit cannot leave the range of the box, so its extremes may decide for all voxels
        off, on = self.values.get(0, 0), self.values.get(1, 1)
        if box.max() <= 0:
            return off
        if box.min() > 0 and box.min() > MARGIN * box.max():
            return on
        return np.where(self.walk.interpolated(box, span, targets)[0] > 0, on, off).astype(self.labels.dtype)


def restore_labels_first(
    prepared: Prepared,
    slices: Iterable[FinishedSlice],
    labels_of: Callable[[Array], Array],
    head: LinearHead | None = None,
    *,
    clean: Callable[[Array], Array] | None = None,
) -> Volume:
    """Labels on the network's grid, slice by slice, and that label map brought to the scan's grid.

    Args:
        labels_of: label values (*spatial) of logits (classes, *spatial), always of one type.
        head: computes logits from features; None where slices hold logits.
        clean: changes the label map on the network's grid before it is brought to the scan's.
    """
    labels: Array | None = None
    for each in slices:
        found = labels_of(each.logits if head is None else head(each.logits))
        if labels is None:
            labels = np.zeros(prepared.grid.shape, found.dtype)
        labels[each.index, each.start : each.start + found.shape[0]] = found
    assert labels is not None  # a scan has at least one slice
    return prepared.restore_labels(labels if clean is None else clean(labels))


def _able_to_win(box: Array) -> Array:
    """The classes of (classes, *box) that can be the largest anywhere between the voxels of a box."""
    flat = box.reshape(len(box), -1)
    lowest, highest = flat.min(axis=1), flat.max(axis=1)
    margin = MARGIN * max(abs(float(lowest.min())), abs(float(highest.max())))
    able = np.flatnonzero(highest >= lowest.max() - margin)
    if len(able) <= FEW:
        return able
    # The same test for every cell between neighbouring voxels, which excludes more classes.
    low = high = box[able]
    for axis in range(1, box.ndim):
        if box.shape[axis] > 1:
            count = box.shape[axis] - 1
            # lowest and highest over both ends of each interval along this axis, hence over the corners of a cell
            first, second = (slice(None),) * axis + (slice(count),), (slice(None),) * axis + (slice(1, None),)
            low, high = np.minimum(low[first], low[second]), np.maximum(high[first], high[second])
    wins = high >= low.max(axis=0) - margin
    winners: Array = able[wins.reshape(len(able), -1).any(axis=1)]
    return winners
