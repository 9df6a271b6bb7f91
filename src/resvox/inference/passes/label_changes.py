"""What the windows that were not computed could still change: counted, and weighed against what may change.

A voxel has a margin, the difference between its best class and the next one, and a part of its weight that belongs to
other windows. The margin divided by that part is by how much these windows would have to differ, in logits, to change
the label. How often they do is counted (`ChangeRates`): on the first scan of a batch, and on each scan in the voxels
whose windows were all computed. So the changes that a window would make are expected changes in voxels
(`ChangeBudget`), label by label: those that a label would lose, and those of other labels that would become this one.
The allowance of a small label is small, which protects it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from resvox.inference.comparison import Difference

EDGES = np.array([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6], np.float32)  # logits
BINS = len(EDGES) + 1
# Before anything was counted: rates with which hardly trained networks change labels, each worth so many voxels.
GUESS = np.array([0.45, 0.4, 0.35, 0.3, 0.2, 0.12, 0.05, 0.01, 1e-3, 1e-4, 1e-5])
GUESS_WEIGHT = 50.0
LABEL_WEIGHT = 5.0  # changes: what a label's own rate is drawn to that of all labels by
# Windows that are computed move labels too, towards those that were left out or away from them, and scans differ: with
# twice the counted rates one scan of twenty changed more than is allowed (docs/performance.md).
CAUTION = 3.0
SPREAD = 1.0  # of n changes that are expected, n + SPREAD * sqrt(n) must be allowed
LEAST_ALLOWED = 0.5  # voxels: the allowance of the smallest labels, and of those that the first pass did not find

Array = np.ndarray[Any, Any]
Key = TypeVar("Key")


@dataclass(frozen=True)
class TopTwo:
    """The label of the highest output of each voxel, that of the second highest, and their difference in logits."""

    labels: Array
    runners_up: Array
    margins: Array


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How often labels changed: voxels and changes per bin; changes per label, and those that were to be expected."""

    voxels: tuple[float, ...] = (0.0,) * BINS
    changes: tuple[float, ...] = (0.0,) * BINS
    of_labels: tuple[float, ...] = ()
    expected: tuple[float, ...] = ()


class ChangeRates:
    """How often the label of a voxel changes, by bin and by label: counted on this scan and on one before.

    Args:
        known: the counts of another scan; None for a guess.
    """

    def __init__(self, known: Counts | None = None) -> None:
        known = known or Counts()
        self.known = known
        self.voxels, self.changes = np.zeros(BINS), np.zeros(BINS)  # of this scan
        self.touched, self.of_labels = np.zeros((1, BINS)), np.zeros(1)

    def add(self, labels: Array, runners_up: Array, bins: Array, after: Array) -> None:
        """Count voxels whose windows were all computed, and the labels that they have then; arrays of one length."""
        changed = labels != after
        self.voxels += np.bincount(bins, minlength=BINS)
        self.changes += np.bincount(bins[changed], minlength=BINS)
        for each in (labels, runners_up):
            self.touched = _sum(self.touched, _rows(np.bincount(each * BINS + bins)))
        for each in (labels, after):
            self.of_labels = _sum(self.of_labels, np.bincount(each[changed]).astype(np.float64))

    @property
    def rates(self) -> Array:
        """(BINS,): the chance that the label of a voxel changes; never higher with a larger margin."""
        changes = np.asarray(self.known.changes) + self.changes + GUESS_WEIGHT * GUESS
        rates = changes / (np.asarray(self.known.voxels) + self.voxels + GUESS_WEIGHT)
        smooth: Array = np.maximum.accumulate(rates[::-1])[::-1]
        return smooth

    def changes_of(self, touched: Array) -> Array:
        """(labels,): the changes that are expected of voxels (labels, BINS) that a label may lose or gain."""
        changes, expected = self._of_labels()
        size = max(len(touched), len(changes), len(expected))
        own = (_longer(changes, size) + LABEL_WEIGHT) / (_longer(expected, size) + LABEL_WEIGHT)
        found: Array = (touched @ self.rates) * own[: len(touched)]
        return found

    def _of_labels(self) -> tuple[Array, Array]:
        expected = self.touched @ self.rates
        known = (np.asarray(self.known.of_labels), np.asarray(self.known.expected))
        return _sum(known[0], self.of_labels), _sum(known[1], expected)

    def counts(self) -> Counts:
        """What was counted on this scan."""
        return Counts(
            voxels=tuple(self.voxels.tolist()),
            changes=tuple(self.changes.tolist()),
            of_labels=tuple(self.of_labels.tolist()),
            expected=tuple((self.touched @ self.rates).tolist()),
        )


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """How much labels may differ: the share of voxels, and the least Dice of a label."""

    share: float = 1e-3
    least_dice: float = 0.995

    def allows(self, difference: Difference, *, part: float = 1.0) -> bool:
        """Whether a difference is at most this, or a part of it."""
        return difference.share <= part * self.share and 1 - difference.least_dice <= part * (1 - self.least_dice)


@dataclass(frozen=True)
class ResolvedVoxels:
    """The voxels that windows would resolve: (BINS,) of all, and (labels, BINS) those that a label may lose or gain."""

    every: Array
    touched: Array

    def __add__(self, other: ResolvedVoxels) -> ResolvedVoxels:
        return ResolvedVoxels(self.every + other.every, _sum(self.touched, other.touched))


@dataclass(kw_only=True)
class ChangeBudget:
    """The windows that were left out of a scan, as the voxels that they would have resolved.

    Args:
        allowance: of the scan.
        limit: the part of the allowance that expected changes may use. Below 0 no window is left out.
    """

    allowance: Allowance = field(default_factory=Allowance)
    limit: float = 1.0
    seen: Array = field(default_factory=lambda: np.zeros(1))  # voxels per label
    left: ResolvedVoxels = field(default_factory=lambda: ResolvedVoxels(np.zeros(BINS), np.zeros((1, BINS))))

    def see(self, labels: Array) -> None:
        """Count the voxels of each label of a slice."""
        self.seen = _sum(self.seen, np.bincount(labels.ravel()).astype(np.float64))

    def skip(self, windows: Mapping[Key, ResolvedVoxels], change_rates: ChangeRates) -> set[Key]:
        """Leave windows out, the least doubtful ones first, as long as the allowance lasts.

        Args:
            windows: what each would resolve.
        """
        left: set[Key] = set()
        if self.limit < 0:
            return left
        for key in sorted(windows, key=lambda each: self._used(windows[each], change_rates)):
            together = self.left + windows[key]
            if self._used(together, change_rates) <= self.limit:
                self.left = together
                left.add(key)
        return left

    def used(self, change_rates: ChangeRates) -> float:
        """The part of the allowance that may be needed for what was left out; 1 is all of it."""
        return self._used(self.left, change_rates)

    def expected(self, change_rates: ChangeRates) -> Difference:
        """The difference that is expected."""
        changes, seen = self._by_label(self.left, change_rates)
        there = seen > 0
        lost = (changes[there] / (2 * seen[there])).max(initial=0.0)
        share = CAUTION * float(self.left.every @ change_rates.rates) / max(float(self.seen.sum()), 1.0)
        return Difference(share=share, least_dice=max(0.0, 1 - float(lost)))

    def _used(self, voxels: ResolvedVoxels, change_rates: ChangeRates) -> float:
        """The largest part of an allowance, that of all voxels or that of a label."""
        changes, seen = self._by_label(voxels, change_rates)
        allowed = np.maximum(2 * seen * (1 - self.allowance.least_dice), LEAST_ALLOWED)
        every = (
            CAUTION
            * float(voxels.every @ change_rates.rates)
            / max(float(self.seen.sum()) * self.allowance.share, 1e-9)
        )
        return max(every, float(((changes + SPREAD * np.sqrt(changes)) / allowed).max(initial=0.0)))

    def _by_label(self, voxels: ResolvedVoxels, change_rates: ChangeRates) -> tuple[Array, Array]:
        """The expected changes of each label above 0, and the voxels of it that were seen."""
        changes = CAUTION * change_rates.changes_of(voxels.touched)
        return changes[1:], _longer(self.seen, len(changes))[1 : len(changes)]


def bins_of(margins: Array, unseen: Array) -> Array:
    """The bin of each voxel, uint8: 0 for the most doubtful.

    Args:
        margins: in logits, at least 0.
        unseen: the part of the weight that windows have which were not computed, 0 to 1.
    """
    reach = margins / np.maximum(unseen, np.float32(1e-6))
    bins: Array = np.searchsorted(EDGES, reach, side="right").astype(np.uint8)
    return bins


def resolved_voxels(labels: Array, runners_up: Array, weights: Array) -> ResolvedVoxels:
    """The sums of weights by codes, which are label * BINS + bin and the same of the rival; all of one shape."""
    flat = weights.ravel()
    lost, gained = (_rows(np.bincount(each.ravel(), weights=flat)) for each in (labels, runners_up))
    return ResolvedVoxels(lost.sum(axis=0), _sum(lost, gained))


def _rows(counts: Array) -> Array:
    """Counts by code as (labels, BINS)."""
    rows = -(-len(counts) // BINS)
    return _longer(counts.astype(np.float64), rows * BINS).reshape(rows, BINS)


def _longer(array: Array, size: int) -> Array:
    """With zeros at the end up to a length."""
    return np.concatenate([array, np.zeros(max(0, size - len(array)))])


def _sum(one: Array, other: Array) -> Array:
    """The sum of arrays of which one may have more rows."""
    small, large = sorted((one, other), key=len)
    total = large.copy()
    total[: len(small)] += small
    return total
