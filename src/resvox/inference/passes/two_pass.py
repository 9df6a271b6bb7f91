"""A tile in two passes: windows that cover it, then those whose output could still change labels.

The first pass gives each voxel a label, a margin and the part of its weight that the windows not seen yet have. From
these follows how many voxels a window would settle, by label and by doubt, and how many changes are expected of it, see
`resvox.inference.passes.label_changes`. Windows are left out as long as the expected changes of all that were left out
stay within what may change, of all voxels and of each label. How often labels change is counted while slices are
finished.

Windows are added in the order of the full computation, so where all of them are computed the sums are the same to the
bit. Beside the sums of one window's depth, memory holds the outputs of the first pass for at most two.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from resvox.inference.comparison import LabelComparison
from resvox.inference.passes.covering import Start
from resvox.inference.passes.label_changes import (
    BINS,
    Allowance,
    ChangeBudget,
    ChangeRates,
    ResolvedVoxels,
    TopTwo,
    bins_of,
    resolved_voxels,
)
from resvox.inference.slice_sums import FinishedSlice, SliceSums

SAMPLED = 4  # of so many slices one is counted, where nothing is measured

TopTwoOf = Callable[[np.ndarray], TopTwo]


@dataclass(kw_only=True)
class Measured:
    """What the second pass leaves out at one limit, and what this changes: filled while a scan is computed in full."""

    limit: float
    computed: int = 0
    labels: LabelComparison = field(default_factory=LabelComparison)


@dataclass(frozen=True, kw_only=True)
class TwoPasses:
    """How one scan is computed in two passes, and what was counted on the way.

    Args:
        top_two: labels, runners_up and margins (*rest), in logits, of outputs (classes, *rest).
        limit: the part of the allowance that the expected changes of windows that are left out may use. Below 0 all
            windows are computed.
        allowance: how much labels may differ.
        change_rates: how often labels change; counted further on this scan.
        measured: limits that are tried beside the full computation, whose slices are yielded then.
        labels_of: labels (*rest) of outputs (classes, *rest).
    """

    top_two: TopTwoOf
    limit: float = 1.0
    allowance: Allowance = field(default_factory=Allowance)
    change_rates: ChangeRates = field(default_factory=ChangeRates)
    measured: Sequence[Measured] = ()
    labels_of: Callable[[np.ndarray], np.ndarray] = lambda outputs: outputs.argmax(axis=0)
    budget: ChangeBudget = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "budget", ChangeBudget(allowance=self.allowance, limit=self.limit))


@dataclass(frozen=True)
class _Estimate:
    """What the first pass found in a slice.

    Args:
        labels: (*rest) label * BINS + bin of each voxel.
        runners_up: (*rest) the same with the label that it would have otherwise.
        share: (*rest) what a unit of weight is of the weight of all windows that were not seen.
    """

    labels: np.ndarray
    runners_up: np.ndarray
    share: np.ndarray


class TwoPassTile:
    """The slices of one tile.

    Args:
        passes: see `TwoPasses`.
        windows: the starts of all windows of the tile, in order.
        first: those of the first pass.
        outputs: computes windows, one after the other; an output is valid until the next one is requested.
        new_sums: makes empty sums of the tile.
        skipped: called with the number of windows that are left out.
    """

    def __init__(
        self,
        passes: TwoPasses,
        windows: Sequence[Start],
        first: set[Start],
        *,
        outputs: Callable[[Sequence[Start]], Iterator[np.ndarray]],
        new_sums: Callable[[], SliceSums],
        skipped: Callable[[int], object],
    ) -> None:
        self.passes, self.windows, self.outputs, self.skipped = passes, windows, outputs, skipped
        self.sums = new_sums()
        self.scan, self.share = self.sums.scan, self.sums.share
        self.trials = [
            (each, new_sums(), ChangeBudget(allowance=passes.allowance, limit=each.limit)) for each in passes.measured
        ]
        self.to_do = [start for start in windows if start in first]  # of the first pass, in order
        self.held: dict[Start, np.ndarray] = {}
        self.estimates: dict[int, _Estimate] = {}  # of each slice
        self.partial: dict[int, np.ndarray] = {}  # of each slice: whether some of a voxel's windows were left out
        self.estimated = min((start[0] for start in windows), default=0)  # slices before this one have their estimates

    def slices(self) -> Iterator[FinishedSlice]:
        """The slices of the tile, first to last."""
        for begin, group in itertools.groupby(self.windows, lambda start: start[0]):
            row = list(group)
            self._first_pass(begin + self.scan.roi[0])
            self._estimate(begin)
            yield from self._finished(begin)
            self._second_pass(row)
        yield from self._finished(self.scan.padded.shape[1])

    def _first_pass(self, stop: int) -> None:
        """Compute the covering windows that start before a slice."""
        count = sum(1 for _ in itertools.takewhile(lambda start: start[0] < stop, self.to_do))
        due, self.to_do = self.to_do[:count], self.to_do[count:]
        for start, output in zip(due, self.outputs(due), strict=True):
            self.held[start] = self.sums.rows(start, output).copy()

    def _second_pass(self, row: Sequence[Start]) -> None:
        """Add the windows of a row, those that the budget does not leave out and those that were computed before."""
        by_window = {start: self._resolved(start) for start in row if start not in self.held}
        left = set() if self.trials else self.passes.budget.skip(by_window, self.passes.change_rates)
        left_by = [budget.skip(by_window, self.passes.change_rates) for _, _, budget in self.trials]
        computed = self.outputs([start for start in by_window if start not in left])
        for start in row:
            if start in left:
                self._note_partial(start)
                continue
            held = start in self.held
            rows = self.held.pop(start) if held else self.sums.rows(start, next(computed))
            self.sums.add(start, rows)
            for (trial, sums, _), without in zip(self.trials, left_by, strict=True):
                if start not in without:
                    trial.computed += 1
                    sums.add(start, rows)
        self.skipped(len(left))

    def _note_partial(self, start: Start) -> None:
        for index in range(start[0], start[0] + self.scan.roi[0]):
            if index % SAMPLED == 0:
                self.partial.setdefault(index, np.zeros(self.sums.rest, np.bool_))[self.sums.place(start)] = True

    def _finished(self, stop: int) -> Iterator[FinishedSlice]:
        """Finished slices, whose labels are compared with those of the first pass and of the trials."""
        trials = [sums.finished_before(stop) for _, sums, _ in self.trials]
        before = self.scan.pads[0][0]
        for each in self.sums.finished_before(stop):
            index = each.index + before
            if self.trials or index % SAMPLED == 0:
                labels = self.passes.labels_of(each.logits)
                self._count(index, labels)
                for (trial, _, _), finished in zip(self.trials, trials, strict=True):
                    trial.labels.add(self.passes.labels_of(next(finished).logits), labels)
            yield each
        for index in [index for index in self.estimates if index < stop]:
            del self.estimates[index]
            self.partial.pop(index, None)

    def _count(self, index: int, labels: np.ndarray) -> None:
        """Count how often labels changed, in the voxels of a slice whose windows were all computed."""
        if index not in self.estimates:
            return
        estimate = self.estimates[index]
        known = estimate.share > 0
        if index in self.partial:
            known &= ~self.partial[index]
        arrays = (estimate.labels, estimate.runners_up, known)
        before, runners_up, known = (self.sums.cropped(each[np.newaxis])[0] for each in arrays)
        before, runners_up, after = before[known], runners_up[known], labels[known]
        self.passes.change_rates.add(before // BINS, runners_up // BINS, before % BINS, after.astype(np.int64))

    # ------------------------------------------------------------------------------------------ what is in doubt

    def _estimate(self, begin: int) -> None:
        """The estimates of the slices that the row of windows from a slice on covers, as far as they are not known."""
        stop = begin + self.scan.roi[0]
        new = range(max(self.estimated, begin), stop)
        self.estimated = max(self.estimated, stop)
        found: list[_Estimate | None] = [None] * len(new)

        def estimate(place: int) -> None:
            found[place] = self._estimate_of(new[place])

        self.share(estimate, len(new))
        for index, each in zip(new, found, strict=True):
            assert each is not None
            self.estimates[index] = each
            labels = each.labels // BINS
            for budget in [self.passes.budget, *(budget for _, _, budget in self.trials)]:
                budget.see(labels)

    def _estimate_of(self, index: int) -> _Estimate:
        sums = np.zeros((self.sums.classes, *self.sums.rest), np.float32)
        seen, weight = np.zeros(self.sums.rest, np.float32), np.zeros(self.sums.rest, np.float32)
        rest = np.zeros(self.sums.rest, np.float32)
        for start in self.windows:
            offset = index - start[0]
            if not 0 <= offset < self.scan.roi[0]:
                continue
            place, weights = self.sums.place(start), self.scan.weights[offset, self.sums.span(start)]
            weight[place] += weights
            if start in self.held:
                sums[(slice(None), *place)] += self.held[start][:, offset] * weights
                seen[place] += weights
            else:
                rest[place] += weights
        known = seen > 0
        sums /= np.where(known, seen, np.float32(1))
        unseen = np.divide(rest, weight, out=np.ones_like(seen), where=weight > 0)
        top = self.passes.top_two(sums)
        bins = bins_of(np.where(known, top.margins, np.float32(0)), unseen).astype(np.int32)
        share = np.divide(np.float32(1), rest, out=np.zeros_like(rest), where=rest > 0)
        return _Estimate(
            top.labels.astype(np.int32) * BINS + bins, top.runners_up.astype(np.int32) * BINS + bins, share
        )

    def _resolved(self, start: Start) -> ResolvedVoxels:
        """What a window settles: a voxel is shared among the windows that were not seen."""
        place, span = self.sums.place(start), self.sums.span(start)
        found: list[ResolvedVoxels] = []
        for offset in range(self.scan.roi[0]):
            each = self.estimates[start[0] + offset]
            weights = each.share[place] * self.scan.weights[offset, span]
            found.append(resolved_voxels(each.labels[place], each.runners_up[place], weights))
        return functools.reduce(operator.add, found)


def top_two_classes(logits: np.ndarray) -> TopTwo:
    """The class of the largest of logits (classes, *rest), that of the second, and their difference.

    A single class is 1 where its logit is above 0, and its rival is the other one.
    """
    if len(logits) == 1:
        labels = (logits[0] > 0).astype(np.int32)
        return TopTwo(labels, 1 - labels, np.abs(logits[0]))
    labels = logits.argmax(axis=0)[np.newaxis]
    best = np.take_along_axis(logits, labels, 0)[0]
    others = logits.copy()
    np.put_along_axis(others, labels, -np.inf, 0)
    runners_up = others.argmax(axis=0)[np.newaxis]
    return TopTwo(labels[0], runners_up[0], best - np.take_along_axis(others, runners_up, 0)[0])


def top_two_of_regions(logits: np.ndarray, labels_of: Callable[[np.ndarray], np.ndarray]) -> TopTwo:
    """The labels of regions (regions, *rest), those with the other side of the nearest threshold, and its distance.

    Args:
        labels_of: labels of logits.
    """
    nearest = np.abs(logits).argmin(axis=0)[np.newaxis]
    value = np.take_along_axis(logits, nearest, 0)
    other = logits.copy()
    np.put_along_axis(other, nearest, np.where(value > 0, np.float32(-1), np.float32(1)), 0)
    return TopTwo(labels_of(logits), labels_of(other), np.abs(value[0]))
