"""Reliability of probabilities: expected calibration error (ECE), Brier score, numbers of a reliability plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resvox.errors import EvaluationError
from resvox.evaluation.rounding import rounded

BINS = 15  # as Guo et al., arXiv:1706.04599
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Counts of predictions by their confidence, which is the probability of the class that is predicted.

    Args:
        counts: predictions in each of `BINS` equal intervals of confidence from 0 to 1.
        confidence: their summed confidence.
        correct: how many of them are right.
        squares: the summed squared difference of probabilities and truth, over classes.
    """

    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))
    confidence: Array = field(default_factory=lambda: np.zeros(BINS))
    correct: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))
    squares: float = 0.0

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(
            counts=self.counts + other.counts,
            confidence=self.confidence + other.confidence,
            correct=self.correct + other.correct,
            squares=self.squares + other.squares,
        )

    @property
    def total(self) -> int:
        """How many predictions there are."""
        return int(self.counts.sum())

    @property
    def ece(self) -> float | None:
        """Mean over predictions of the difference of confidence and accuracy in their interval; None without any."""
        return float(np.abs(self.confidence - self.correct).sum() / self.total) if self.total else None

    @property
    def brier(self) -> float | None:
        """Mean over predictions of the squared difference of probabilities and truth, summed over classes."""
        return self.squares / self.total if self.total else None

    @property
    def curve(self) -> list[tuple[float, float, int]]:
        """Mean confidence, accuracy and number of predictions of each interval that has any."""
        rows = zip(self.confidence, self.correct, self.counts, strict=True)
        return [(float(sure / count), float(right / count), int(count)) for sure, right, count in rows if count]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers; the curve as a list of objects."""
        points = [
            {"confidence": rounded(sure), "accuracy": rounded(right), "voxels": count}
            for sure, right, count in self.curve
        ]
        return {"ece": rounded(self.ece), "brier": rounded(self.brier), "voxels": self.total, "reliability": points}


def reliability_of(probabilities: Array, truth: Array) -> Reliability:
    """The reliability of probabilities (classes, n) against the index of the true class (n,).

    Raises:
        EvaluationError: other shapes, or numbers that are no probabilities.
    """
    if probabilities.ndim != 2 or truth.shape != probabilities.shape[1:]:
        raise EvaluationError(
            f"probabilities of shape {probabilities.shape} for {truth.shape}", expected="(classes, n) and (n,)"
        )
    if probabilities.size and not (probabilities.min() >= -1e-4 and probabilities.max() <= 1 + 1e-4):
        raise EvaluationError(
            f"probabilities from {probabilities.min():.3g} to {probabilities.max():.3g}", expected="0 to 1"
        )
    sure = probabilities.max(axis=0).astype(np.float64) if probabilities.size else np.zeros(0)
    right = probabilities.argmax(axis=0) == truth if probabilities.size else np.zeros(0, bool)
    place = np.minimum((sure * BINS).astype(np.intp), BINS - 1).clip(0)
    of_truth = np.take_along_axis(probabilities, truth[np.newaxis].astype(np.intp), axis=0)[0].astype(np.float64)
    squares = (probabilities.astype(np.float64) ** 2).sum() - (of_truth**2).sum() + ((1 - of_truth) ** 2).sum()
    return Reliability(
        counts=np.bincount(place, minlength=BINS),
        confidence=np.bincount(place, weights=sure, minlength=BINS),
        correct=np.bincount(place, weights=right, minlength=BINS).astype(np.int64),
        squares=float(squares),
    )
