"""How much two label maps differ, slice by slice: the share of labels and the Dice of each label."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much labels differ from a reference.

    ``share``: fraction of the voxels with another label. ``least_dice``: the smallest Dice of the labels above 0 that
    either map has; 1 where neither has any.
    """

    share: float
    least_dice: float


@dataclass
class LabelComparison:
    """Counts, slice by slice, from which `difference` is computed."""

    voxels: int = 0
    changed: int = 0
    own: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    reference: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    both: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))

    def add(self, own: np.ndarray, reference: np.ndarray) -> None:
        """Count two label maps of the same shape, whole numbers from 0 on."""
        same = own == reference
        self.voxels += own.size
        self.changed += own.size - int(np.count_nonzero(same))
        self.own = _added(self.own, own)
        self.reference = _added(self.reference, reference)
        self.both = _added(self.both, own[same])

    def difference(self) -> Difference:
        """The difference of all slices so far."""
        size = max(map(len, (self.own, self.reference, self.both)))
        own, reference, both = (np.pad(each, (0, size - len(each))) for each in (self.own, self.reference, self.both))
        there = np.flatnonzero((own + reference)[1:]) + 1
        dice = 2 * both[there] / (own + reference)[there]
        return Difference(share=self.changed / max(self.voxels, 1), least_dice=float(dice.min(initial=1.0)))


def _added(counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    new = np.bincount(labels.ravel(), minlength=len(counts))
    new[: len(counts)] += counts
    return new
