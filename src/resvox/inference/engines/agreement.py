"""Agreement of two engines: the measures of the accuracy guard, one per kind of output.

With ``precision="auto"`` an engine is used only if it agrees with plain torch in float32:

- segmentation: in the first window with a label of at least 1,000 voxels at most 0.1 % of the voxels get another label,
  and each label of at least 1,000 voxels keeps a Dice of 0.97; of regions, the label map that they write counts.
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
LEAST_VOXELS = 1000  # of a label whose Dice counts, and of one in a window that is compared: of a few it is chance
LEAST_SHARE = 0.02  # of a window too small for so many
PATIENCE = 8  # windows with less foreground, after which such a window is compared: some models find nothing larger
ROUNDING = 1e-9  # a Dice of exactly 0.97 is allowed
PROBABILITY_MOVED = 0.01
VALUES_RMS = 1e-3  # in standard deviations of the training values, which is the unit of the network's outputs
VALUES_LARGEST = 1e-2


class Agreement(Protocol):
    """Compares the outputs of an engine with those of a reference.

    ``bfloat16_on``: types of devices on which bfloat16 is tried with ``precision="auto"``. ``rule``: names what is
    compared and the limits; a verdict that was found by another rule does not count.
    """

    bfloat16_on: tuple[str, ...]
    rule: str

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

    It counts the windows that it is asked about, so each guard has one of its own.

    Args:
        labels_of: the classes (batch, *roi) of an output; by default those of the largest logits.
    """

    tolerance = LABELS_CHANGED
    rule = f"labels {LABELS_CHANGED} {DICE_LOST} {LEAST_VOXELS} {LEAST_SHARE} {PATIENCE}"
    bfloat16_on: tuple[str, ...] = ("cpu", "cuda")

    def __init__(self, labels_of: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        self._passed = 0  # windows with little foreground so far
        self._labels_of = labels_of or labels_of_logits
        self._is_plain = labels_of is None

    def can_tell(self, windows: np.ndarray, output: np.ndarray) -> bool:
        """Whether a label of the output is so large that its loss would be seen.

        After `PATIENCE` windows with smaller labels one of them is enough.
        """
        labels = self._labels_of(output)
        if not labels.any():
            return False
        largest = int(_counts(labels)[1].max())
        if largest >= min(LEAST_VOXELS, int(LEAST_SHARE * labels.size)):
            return True
        self._passed += 1
        return self._passed > PATIENCE

    def expected(self, reference: Engine, windows: np.ndarray) -> np.ndarray:
        """Labels only: with many classes two outputs are gigabytes."""
        if self._is_plain and isinstance(reference, LabelsAlone):
            return reference.labels(windows)
        return self._labels_of(reference(windows))

    def difference(self, output: np.ndarray, expected: np.ndarray) -> float:
        """The fraction of voxels with another label, or the largest loss of Dice if that is further over its limit."""
        found, labels = self._labels_of(output), np.asarray(expected)
        is_equal = found == labels
        changed, lost = float(np.mean(~is_equal)), _dice_lost(found, labels, is_equal)
        in_unit = LostDice(lost * LABELS_CHANGED / DICE_LOST)
        return in_unit if lost > DICE_LOST + ROUNDING and in_unit > changed else changed

    def describe(self, difference: float) -> str:
        """The fraction in percent, or the Dice."""
        if isinstance(difference, LostDice):
            return f"would lower the Dice of a label in a window to {difference.dice:.3f}"
        return f"would change {100 * difference:.2f} % of the labels of a window"


def _counts(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values above 0 in a label map, and how many voxels each has."""
    values, counts = np.unique(labels, return_counts=True)
    return values[values > 0], counts[values > 0]


def _dice_lost(found: np.ndarray, expected: np.ndarray, is_equal: np.ndarray) -> float:
    """The largest loss of Dice of a label with at least `LEAST_VOXELS` voxels in either map; 0 if none has so many."""
    ours, theirs, both = (
        dict(zip(*(each.tolist() for each in _counts(labels)), strict=True))
        for labels in (found, expected, np.where(is_equal, expected, 0))
    )
    lost = 0.0
    for label in {*ours, *theirs}:
        sizes = ours.get(label, 0), theirs.get(label, 0)
        if max(sizes) >= LEAST_VOXELS:
            lost = max(lost, 1 - 2 * both.get(label, 0) / sum(sizes))
    return lost


class ClassAgreement:
    """Agreement of classes: the largest change of a probability; 1 where an image gets another class."""

    tolerance = PROBABILITY_MOVED
    rule = f"classes {PROBABILITY_MOVED}"
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
    rule = f"values {VALUES_RMS} {VALUES_LARGEST}"
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
