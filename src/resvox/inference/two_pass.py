"""A tile in two passes: windows that cover it, then those whose output could still change a label.

The first pass gives each voxel a margin, the lead of its class over the next one, and the fraction of its weight that
the windows not seen yet have. A voxel is in doubt as far as its margin is small for that fraction: outputs of windows
that overlap differ by about a logit at most where the network is sure of itself. A window is computed where the doubt
that it would settle is more than a limit.

Windows are added in the order of the full computation, so where all of them are computed the sums are the same to the
bit. Beside the sums of one window's depth, memory holds the outputs of the first pass for at most two.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from resvox.inference.comparison import LabelComparison
from resvox.inference.covering import Start
from resvox.inference.slice_sums import FinishedSlice, SliceSums

SCALE = 1.0  # logits: by how much windows that overlap may differ

Margins = Callable[[np.ndarray], np.ndarray]


@dataclass(kw_only=True)
class Measured:
    """What the second pass leaves out at one limit, and what this changes: filled while a scan is computed in full."""

    limit: float
    computed: int = 0
    labels: LabelComparison = field(default_factory=LabelComparison)


@dataclass(frozen=True, kw_only=True)
class TwoPasses:
    """How a scan is computed in two passes.

    Args:
        margins: the lead of the best class of each voxel, (*rest), in logits, of outputs (classes, *rest).
        limit: windows are left out that would settle at most this much doubt: expected changes as a fraction of a
            window's voxels. Below 0 all windows are computed.
        measured: limits that are tried beside the full computation, whose slices are yielded then.
        labels_of: labels (*rest) of outputs (classes, *rest), for what is measured.
    """

    margins: Margins
    limit: float = 0.0
    measured: Sequence[Measured] = ()
    labels_of: Callable[[np.ndarray], np.ndarray] = lambda outputs: outputs.argmax(axis=0)


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
        self.trials = [(each, new_sums()) for each in passes.measured]
        self.to_do = [start for start in windows if start in first]  # of the first pass, in order
        self.held: dict[Start, np.ndarray] = {}
        self.doubts: dict[int, np.ndarray] = {}  # of each slice: doubt over the weight of all windows
        self.estimated = min((start[0] for start in windows), default=0)  # slices before this one have their doubts

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
        """Add the windows of a row, those in doubt and those that were computed before."""
        scores = {start: self._score(start) for start in row if start not in self.held}
        needed = [start for start in scores if self.trials or scores[start] > self.passes.limit]
        computed = self.outputs(needed)
        for start in row:
            if start in self.held:
                rows, score = self.held.pop(start), np.inf
            elif start in needed:
                rows, score = self.sums.rows(start, next(computed)), scores[start]
            else:
                continue
            self.sums.add(start, rows)
            for trial, sums in self.trials:
                if score > trial.limit:
                    trial.computed += 1
                    sums.add(start, rows)
        self.skipped(len(scores) - len(needed))

    def _finished(self, stop: int) -> Iterator[FinishedSlice]:
        trials = [sums.finished_before(stop) for _, sums in self.trials]
        for each in self.sums.finished_before(stop):
            if self.trials:
                reference = self.passes.labels_of(each.logits)
                for (trial, _), finished in zip(self.trials, trials, strict=True):
                    trial.labels.add(self.passes.labels_of(next(finished).logits), reference)
            yield each
        for index in [index for index in self.doubts if index < stop]:
            del self.doubts[index]

    # ------------------------------------------------------------------------------------------ what is in doubt

    def _estimate(self, begin: int) -> None:
        """The doubt of the slices that the row of windows from a slice on covers, as far as it is not known."""
        stop = begin + self.scan.roi[0]
        new = range(max(self.estimated, begin), stop)
        self.estimated = max(self.estimated, stop)
        found: list[np.ndarray] = [np.empty(0)] * len(new)

        def estimate(place: int) -> None:
            found[place] = self._doubt(new[place])

        self.share(estimate, len(new))
        self.doubts.update(zip(new, found, strict=True))

    def _doubt(self, index: int) -> np.ndarray:
        """(*rest): the doubt in each voxel of a slice, 0 to 1, divided by the weight that all windows have there."""
        sums = np.zeros((self.sums.classes, *self.sums.rest), np.float32)
        seen, weight = np.zeros(self.sums.rest, np.float32), np.zeros(self.sums.rest, np.float32)
        for start in self.windows:
            offset = index - start[0]
            if not 0 <= offset < self.scan.roi[0]:
                continue
            place, weights = self.sums.place(start), self.scan.weights[offset, self.sums.span(start)]
            weight[place] += weights
            if start in self.held:
                sums[(slice(None), *place)] += self.held[start][:, offset] * weights
                seen[place] += weights
        known = seen > 0
        sums /= np.where(known, seen, np.float32(1))
        unseen = np.float32(1) - np.divide(seen, weight, out=np.ones_like(seen), where=weight > 0)
        # a margin that all the unseen windows together could take away
        reach = np.float32(SCALE) * np.maximum(unseen, np.float32(1e-6))
        doubt = np.where(known, np.clip(1 - self.passes.margins(sums) / reach, 0, 1), np.float32(1))
        result: np.ndarray = np.divide(doubt, weight, out=np.zeros_like(seen), where=weight > 0)
        return result.astype(np.float32)

    def _score(self, start: Start) -> float:
        """The changes that are expected from a window, as a fraction of its voxels."""
        place, span = self.sums.place(start), self.sums.span(start)
        doubt = (
            float(np.vdot(self.doubts[start[0] + offset][place], self.scan.weights[offset, span]))
            for offset in range(self.scan.roi[0])
        )
        return sum(doubt) / self.scan.weights.size


def class_margins(logits: np.ndarray) -> np.ndarray:
    """(*rest): the largest minus the second largest of logits (classes, *rest); of a single one its size."""
    if len(logits) == 1:
        size: np.ndarray = np.abs(logits[0])
        return size
    best = logits.max(axis=0)
    others: np.ndarray = np.where(logits == best, -np.inf, logits).max(axis=0)
    equal = np.count_nonzero(logits == best, axis=0) > 1
    margins: np.ndarray = np.where(equal, np.float32(0), best - others)
    return margins


def region_margins(logits: np.ndarray) -> np.ndarray:
    """(*rest): how far the nearest region of (regions, *rest) is from its threshold."""
    margins: np.ndarray = np.abs(logits).min(axis=0)
    return margins
