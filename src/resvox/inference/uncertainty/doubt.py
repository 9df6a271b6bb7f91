"""How sure a network is: entropy of its calibrated probabilities, and how far several networks disagree.

Both are maps from 0 (sure) to 1, computed on the network's grid and interpolated linearly on the scan's, slice by
slice as labels are: memory holds two volumes of the scan's size and no probabilities of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.boxes import BoxWalk, Span, Targets
from resvox.inference.engines.protocol import Engine
from resvox.inference.reduction import probabilities_from_logits, region_probabilities_from_logits
from resvox.inference.slice_sums import FinishedSlice
from resvox.preprocessing import Prepared
from resvox.volumes import Volume

Array = np.ndarray[Any, Any]
SMALLEST = 10.0  # voxels that are added to both halves of an expected Dice, so that a few voxels decide nothing
TINY = 1e-12


def likely(logits: Array, *, temperature: float, independent: bool) -> Array:
    """Calibrated probabilities (outputs, *spatial); ``independent``: of outputs that are decided one by one."""
    scaled = logits / np.float32(temperature)
    return region_probabilities_from_logits(scaled) if independent else probabilities_from_logits(scaled)


def entropy(probabilities: Array, *, independent: bool) -> Array:
    """(*spatial) from 0 to 1: of classes divided by the log of their number; the mean of binary ones of outputs."""
    if independent or len(probabilities) == 1:
        mean: Array = _binary_entropy(probabilities).mean(axis=0, dtype=np.float32)
        return mean
    found: Array = -(probabilities * np.log(probabilities + TINY)).sum(axis=0) / math.log(len(probabilities))
    return found.clip(0, 1).astype(np.float32)


def _binary_entropy(probabilities: Array) -> Array:
    inverse = 1 - probabilities
    found: Array = -(probabilities * np.log2(probabilities + TINY) + inverse * np.log2(inverse + TINY))
    clipped: Array = found.clip(0, 1)
    return clipped


class DisagreeingEngine:
    """An ensemble with one more output: how far its members disagree, from 0 to 1.

    The other outputs are those of `EnsembleEngine`, to the bit. The last one is the mutual information of prediction
    and member: the entropy of the members' mean probabilities less the mean of their entropies (Houlsby et al.,
    arXiv:1112.5745), each as `entropy`.

    Args:
        engines: at least two.
        temperature: by which logits are divided before.
        independent: outputs are decided one by one.
    """

    def __init__(self, engines: Sequence[Engine], *, temperature: float, independent: bool) -> None:
        from resvox.inference.ensemble import EnsembleEngine

        if len(engines) < 2:
            raise InferenceError("the disagreement of one network", expected="at least two")
        self.ensemble = EnsembleEngine(engines)
        self.temperature, self.independent = temperature, independent

    def __call__(self, windows: Array, /) -> Array:
        """(batch, outputs + 1, *roi)."""
        outputs: list[Array] = []
        total: Array = np.zeros(0, np.float32)
        for engine in self.ensemble.engines:
            output = np.array(engine(windows), np.float32)  # a copy: an engine may reuse its memory
            total = output.copy() if not outputs else total + output
            outputs.append(output)
        total /= len(outputs)
        apart = np.stack([self._disagreement([output[at] for output in outputs]) for at in range(len(total))])
        return np.concatenate([total, apart[:, np.newaxis]], axis=1)

    def _disagreement(self, outputs: Sequence[Array]) -> Array:
        each = [likely(output, temperature=self.temperature, independent=self.independent) for output in outputs]
        mean = np.asarray(np.mean(each, axis=0, dtype=np.float32))
        together = entropy(mean, independent=self.independent)
        alone = np.mean([entropy(one, independent=self.independent) for one in each], axis=0, dtype=np.float32)
        apart: Array = (together - alone).clip(0, 1)
        return apart

    @property
    def name(self) -> str:
        """The name of the ensemble."""
        return self.ensemble.name

    @property
    def device(self) -> str:
        """The devices of the ensemble."""
        return self.ensemble.device

    @property
    def precision(self) -> str:
        """The precisions of the ensemble."""
        return self.ensemble.precision


@dataclass(frozen=True, kw_only=True)
class DoubtScores:
    """How sure the network is of one case.

    Args:
        expected_dice: of each output but the background, the Dice that calibrated probabilities lead to expect:
            2 sum(p over the label) / (voxels of the label + sum(p)).
        disagreement: of several networks, the mean over voxels that are labelled; None of one.
    """

    expected_dice: tuple[float, ...]
    disagreement: float | None = None

    @property
    def doubt(self) -> float:
        """From 0 (sure) to 1: 1 less the mean of the expected Dice."""
        return 1 - sum(self.expected_dice) / len(self.expected_dice) if self.expected_dice else 0.0


class DoubtMaps:
    """Maps on the scan's grid and scores of a case, gathered while its labels are restored.

    Args:
        prepared: the preprocessed scan, with its steps.
        temperature: by which logits are divided.
        independent: outputs are decided one by one, as those of regions.
        members: whether the last channel of slices is the disagreement of several networks.
    """

    def __init__(self, prepared: Prepared, *, temperature: float, independent: bool, members: bool) -> None:
        self.prepared, self.temperature, self.independent, self.members = prepared, temperature, independent, members
        self.entropy = np.zeros(prepared.source.shape, np.float32)
        self.disagreement = np.zeros(prepared.source.shape, np.float32) if members else None
        mask = prepared.mask
        self._inside = None if mask is None else prepared.labels(mask) > 0  # on the network's grid
        self._sums = np.zeros((3, 0))  # per output: probability where it is predicted, probability, voxels
        self._apart, self._labelled = 0.0, 0

    def counted(self, slices: Iterable[FinishedSlice], head: Any = None) -> Iterator[FinishedSlice]:
        """The slices, of which the scores are gathered on the way.

        Args:
            head: computes logits from features; None where slices hold logits.
        """
        for each in slices:
            own = each.logits[:, 1:] if each.start else each.logits  # tiles overlap by one row
            inside = None
            if self._inside is not None:
                row = each.start + 1 if each.start else 0
                inside = self._inside[each.index, row : row + own.shape[1]]
            self._count(own if head is None else head(own), inside)
            yield each

    def take(self, walk: BoxWalk, box: Array, span: Span, targets: Targets) -> Array:
        """Fill the maps of one box; returns its logits alone."""
        logits = box[:-1] if self.members else box
        found = entropy(self._likely(logits), independent=self.independent)
        walk.inner(self.entropy)[targets] = walk.interpolated(found[np.newaxis], span, targets)[0]
        if self.disagreement is not None:
            walk.inner(self.disagreement)[targets] = walk.interpolated(box[-1:].copy(), span, targets)[0]
        return logits

    @property
    def scores(self) -> DoubtScores:
        """The scores of the slices so far."""
        inside, total, voxels = self._sums
        expected = (2 * inside + SMALLEST) / (total + voxels + SMALLEST)
        apart = self._apart / self._labelled if self._labelled else 0.0
        return DoubtScores(
            expected_dice=tuple(float(value) for value in expected), disagreement=apart if self.members else None
        )

    def volumes(self) -> tuple[Volume, Volume | None]:
        """Entropy and disagreement (*spatial) float32 on the scan's grid."""
        grid = self.prepared.source
        for map_ in (self.entropy, self.disagreement):
            if map_ is not None:
                self.prepared.clear_outside(map_)
        apart = None if self.disagreement is None else Volume.on_grid(self.disagreement, grid)
        return Volume.on_grid(self.entropy, grid), apart

    def _likely(self, logits: Array) -> Array:
        return likely(logits, temperature=self.temperature, independent=self.independent)

    def _count(self, found: Array, inside: Array | None) -> None:
        """Add the voxels of a slice; outside of a mask no output is predicted, and none is possible."""
        logits = found[:-1] if self.members else found
        probabilities = self._likely(logits)
        if self.independent or len(logits) == 1:
            masks = logits > 0
        else:
            best = logits.argmax(axis=0)
            masks, probabilities = np.stack([best == at for at in range(1, len(logits))]), probabilities[1:]
        if inside is not None:
            masks, probabilities = masks & inside, probabilities * inside
        axes = tuple(range(1, probabilities.ndim))
        sums = np.stack(
            [
                (probabilities * masks).sum(axis=axes, dtype=np.float64),
                probabilities.sum(axis=axes, dtype=np.float64),
                masks.sum(axis=axes, dtype=np.float64),
            ]
        )
        self._sums = sums if not self._sums.shape[1] else self._sums + sums
        if self.members:
            labelled = masks.any(axis=0)
            self._apart += float(found[-1][labelled].sum(dtype=np.float64))
            self._labelled += int(np.count_nonzero(labelled))
