"""Agreement of two engines: the measures of the accuracy guard, one per kind of output.

With ``precision="auto"`` an engine is used only if it agrees with plain torch in float32:

- segmentation: in the first window with at least 100 voxels of foreground at most 0.1 % of the voxels get another
  label, and each label of at least 100 voxels keeps a Dice of 0.97; of regions, the label map that they write counts.
  bfloat16 is tried.
- classification: every image of the first batch gets the same class, and no probability changes by more than
  0.01. bfloat16 is tried on CUDA only: on a processor whole images are fast enough in float32.
- regression: in the first window that is not uniform, values differ by at most 0.1 % of their standard deviation in
  training (root mean square), and none by more than 1 % of it. bfloat16, which holds two to three digits, is not tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from resvox.inference.decisions import Decision
from resvox.inference.engines.protocol import Engine
from resvox.inference.reduction import labels_from_regions, probabilities_from_logits

LABELS_CHANGED = 1e-3  # fraction of a window's voxels
DICE_LOST = 0.03  # of a label: in a window of little foreground all of it could change within the fraction above
LEAST_VOXELS = 100  # of the foreground, and of a label whose Dice counts
LEAST_SHARE = 0.02  # of a window too small for so many
PROBABILITY_MOVED = 0.01
VALUES_RMS = 1e-3  # in standard deviations of the training values, which is the unit of the network's outputs
VALUES_LARGEST = 1e-2


class Agreement(Protocol):
    """Compares the outputs of an engine with those of a reference.

    ``bfloat16_on``: types of devices on which bfloat16 is tried with ``precision="auto"``.
    """

    bfloat16_on: tuple[str, ...]

    @property
    def tolerance(self) -> float:
        """The largest difference with which an engine is used."""

    def can_tell(self, windows: np.ndarray, output: np.ndarray) -> bool:
        """Whether these windows are informative: whether they can show a difference of engines."""

    def expected(self, reference: Engine, windows: np.ndarray) -> np.ndarray:
        """The part of the reference's output that is kept for the comparison."""

    def difference(self, output: np.ndarray, expected: np.ndarray) -> float:
        """Distance of an engine's output from the expected one; at least 0."""

    def describe(self, difference: float) -> str:
        """The effect of an engine with this difference, for a message."""


@runtime_checkable
class LabelsAlone(Protocol):
    """An engine that can compute labels without returning logits."""

    def labels(self, windows: np.ndarray, /) -> np.ndarray:
        """The classes (batch, *roi) of the voxels of windows."""
        ...


class LostDice(float):
    """A loss of Dice, in the unit of the fractions of labels that change: `LABELS_CHANGED` stands for `DICE_LOST`."""

    @property
    def dice(self) -> float:
        """The Dice that is left."""
        return 1 - float(self) * DICE_LOST / LABELS_CHANGED


class LabelAgreement:
    """Agreement of label maps: the fraction of a window's voxels with another label, and the Dice of each label.

    Args:
        labels_of: the classes (batch, *roi) of an output; by default those of the largest logits.
    """

    tolerance = LABELS_CHANGED
    bfloat16_on: tuple[str, ...] = ("cpu", "cuda")

    def __init__(self, labels_of: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        self._labels_of = labels_of or labels_of_logits
        self._is_plain = labels_of is None

    def can_tell(self, windows: np.ndarray, output: np.ndarray) -> bool:
        """Whether the output has so much foreground that its loss would be seen."""
        labels = self._labels_of(output)
        least = max(1, min(LEAST_VOXELS, int(LEAST_SHARE * labels.size)))
        return int(np.count_nonzero(labels)) >= least

    def expected(self, reference: Engine, windows: np.ndarray) -> np.ndarray:
        """Labels only: with many classes two outputs are gigabytes."""
        if self._is_plain and isinstance(reference, LabelsAlone):
            return reference.labels(windows)
        return self._labels_of(reference(windows))

    def difference(self, output: np.ndarray, expected: np.ndarray) -> float:
        """The fraction of voxels with another label, or the largest loss of Dice if that is further over its limit."""
        found, labels = self._labels_of(output), np.asarray(expected)
        is_equal = found == labels
        changed = float(np.mean(~is_equal))
        lost = LostDice(_dice_lost(found, labels, is_equal) * LABELS_CHANGED / DICE_LOST)
        return lost if lost > max(changed, LABELS_CHANGED) else changed

    def describe(self, difference: float) -> str:
        """The fraction in percent, or the Dice."""
        if isinstance(difference, LostDice):
            return f"would lower the Dice of a label in a window to {difference.dice:.3f}"
        return f"would change {100 * difference:.2f} % of the labels of a window"


def _dice_lost(found: np.ndarray, expected: np.ndarray, is_equal: np.ndarray) -> float:
    """The largest loss of Dice of a foreground label with at least `LEAST_VOXELS` voxels; 0 if no label has so many."""
    values = [np.asarray(each, np.int64).ravel() for each in (found, expected)]
    count = 1 + max(int(each.max()) for each in values)
    ours, theirs = (np.bincount(each, minlength=count) for each in values)
    both = np.bincount(values[1][is_equal.ravel()], minlength=count)
    counts = np.arange(count)[theirs >= LEAST_VOXELS]
    dice = [2 * both[label] / (ours[label] + theirs[label]) for label in counts if label]
    return 1 - float(min(dice, default=1.0))


class ClassAgreement:
    """Agreement of classes: the largest change of a probability; 1 where an image gets another class."""

    tolerance = PROBABILITY_MOVED
    bfloat16_on: tuple[str, ...] = ("cuda",)

    def can_tell(self, windows: np.ndarray, output: np.ndarray) -> bool:
        """Always true: every batch has classes to compare."""
        return True

    def expected(self, reference: Engine, windows: np.ndarray) -> np.ndarray:
        """Probabilities (batch, classes)."""
        return _chances(reference(windows))

    def difference(self, output: np.ndarray, expected: np.ndarray) -> float:
        """The largest change of a probability, between 0 and 1."""
        found = _chances(output)
        if (_classes(found) != _classes(expected)).any():
            return 1.0
        return float(np.abs(found - expected).max())

    def describe(self, difference: float) -> str:
        """Another class, or the change of a probability."""
        if difference >= 1:
            return "would give an image another class"
        return f"would move a probability by {difference:.3f}"


class ValueAgreement:
    """Agreement of values: the root mean square difference, in standard deviations of the training values."""

    tolerance = VALUES_RMS
    bfloat16_on: tuple[str, ...] = ()

    def can_tell(self, windows: np.ndarray, output: np.ndarray) -> bool:
        """Whether the windows are not uniform."""
        return bool(windows.min() != windows.max())

    def expected(self, reference: Engine, windows: np.ndarray) -> np.ndarray:
        """A copy of the values."""
        return np.array(reference(windows), np.float32)

    def difference(self, output: np.ndarray, expected: np.ndarray) -> float:
        """The root mean square, or a tenth of the largest difference if that is larger."""
        off = np.abs(output - expected)
        return max(float(np.sqrt(np.mean(np.square(off)))), float(off.max()) * VALUES_RMS / VALUES_LARGEST)

    def describe(self, difference: float) -> str:
        """The difference in percent of the standard deviation."""
        return f"would change values by {100 * difference:.2f} % of their standard deviation"


def labels_of_logits(logits: np.ndarray) -> np.ndarray:
    """(batch, *roi): the class of each voxel, as `resvox.inference.labels_from_logits` decides."""
    if logits.shape[1] == 1:
        positive: np.ndarray = logits[:, 0] > 0
        return positive
    return logits.argmax(axis=1)


def region_labels(class_order: Sequence[int], decision: Decision | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """A function from the logits of regions (batch, regions, *roi) to labels, for `LabelAgreement`."""

    def labels_of(logits: np.ndarray) -> np.ndarray:
        values = logits if decision is None else [decision.values(each) for each in logits]
        return np.stack([labels_from_regions(each, class_order) for each in values])

    return labels_of


def _chances(logits: np.ndarray) -> np.ndarray:
    return probabilities_from_logits(logits.T).T


def _classes(chances: np.ndarray) -> np.ndarray:
    """(batch,): the most probable class; of a single one whether it is more probable than not."""
    found: np.ndarray = chances.argmax(axis=1) if chances.shape[1] > 1 else chances[:, 0] > 0.5
    return found
