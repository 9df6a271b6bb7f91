"""Predicted classes against true ones: accuracy, AUC, confusion matrix."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.errors import EvaluationError
from resvox.evaluation.rounding import rounded
from resvox.files import write_atomically

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

SMALLEST_CHANCE = 1e-7  # in the logarithm: a certain mistake costs 16, not infinity


@dataclass(frozen=True, eq=False)
class ClassScores:
    """How well probabilities of classes agree with the true classes.

    Args:
        classes: names, in the order of all that follows.
        probabilities: (cases, classes).
        truth: (cases) class indices.
        cases: names of the cases.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray[Any, Any]
    truth: np.ndarray[Any, Any]
    cases: tuple[str, ...]

    @property
    def predicted(self) -> np.ndarray[Any, Any]:
        """(cases) index of the most probable class, the lowest on a tie."""
        found: np.ndarray[Any, Any] = self.probabilities.argmax(axis=1)
        return found

    @property
    def confusion(self) -> np.ndarray[Any, Any]:
        """(classes, classes) cases; rows are true classes, columns predicted ones."""
        count = len(self.classes)
        return np.bincount(self.truth * count + self.predicted, minlength=count**2).reshape(count, count)

    @property
    def accuracy(self) -> float:
        """Fraction of cases with the correct class."""
        return float((self.predicted == self.truth).mean())

    @property
    def recall(self) -> dict[str, float | None]:
        """Fraction of the cases of each class that are predicted as it; None for a class without cases."""
        return self._shares(self.confusion.sum(axis=1))

    @property
    def precision(self) -> dict[str, float | None]:
        """Fraction of correct cases among those predicted as each class; None for a class that was never predicted."""
        return self._shares(self.confusion.sum(axis=0))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have cases: what accuracy would be if all had as many."""
        known = [value for value in self.recall.values() if value is not None]
        return sum(known) / len(known)

    @property
    def auc(self) -> dict[str, float | None]:
        """Area under the ROC curve of each class against all others; None where one side has no case."""
        return {
            name: area_under_curve(self.probabilities[:, index], self.truth == index)
            for index, name in enumerate(self.classes)
        }

    @property
    def mean_auc(self) -> float | None:
        """Mean over the classes that have one."""
        known = [value for value in self.auc.values() if value is not None]
        return sum(known) / len(known) if known else None

    @property
    def log_loss(self) -> float:
        """Mean negative logarithm of the true class's probability."""
        chance = self.probabilities[np.arange(len(self.truth)), self.truth]
        return float(-np.log(np.clip(chance, SMALLEST_CHANCE, 1.0)).mean())

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and None, as `rounded`."""
        recall, precision, auc = self.recall, self.precision, self.auc
        cases = self.confusion.sum(axis=1).tolist()
        return {
            "cases": len(self.cases),
            "accuracy": rounded(self.accuracy),
            "balanced_accuracy": rounded(self.balanced_accuracy),
            "auc": rounded(self.mean_auc),
            "log_loss": rounded(self.log_loss),
            "classes": {
                name: {
                    "cases": cases[index],
                    "recall": rounded(recall[name]),
                    "precision": rounded(precision[name]),
                    "auc": rounded(auc[name]),
                }
                for index, name in enumerate(self.classes)
            },
            "confusion": {
                name: dict(zip(self.classes, row, strict=True))
                for name, row in zip(self.classes, self.confusion.tolist(), strict=True)
            },
        }

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`to_dict`, at once or not at all."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        return write_atomically(Path(path), text + "\n")

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write one row for every case: reference, predicted, and the probability given to the reference."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["case", "reference", "predicted", "correct", "probability_of_reference"])
        for case, true, ours, row in zip(self.cases, self.truth, self.predicted, self.probabilities, strict=True):
            writer.writerow([case, self.classes[true], self.classes[ours], int(true == ours), rounded(row[true])])
        return write_atomically(Path(path), text.getvalue())

    def table(self, *, title: str = "") -> Group:
        """Accuracy and AUC of all classes and of each, then the confusion matrix, for a terminal."""
        from rich.console import Group
        from rich.text import Text

        right = int(self.confusion.trace())
        line = Text(f"accuracy {self.accuracy:.4f} ({right} of {len(self.cases)})", style="bold")
        return Group(self._numbers(title), self._matrix(), line)

    def _numbers(self, title: str) -> Table:
        from resvox.evaluation.console import UNDEFINED, Row, draw, shown

        recall, precision, auc = self.recall, self.precision, self.auc
        rows = [
            Row(cells=(name, str(cases), shown(recall[name], 3), shown(precision[name], 3), shown(auc[name], 3)))
            for name, cases in zip(self.classes, self.confusion.sum(axis=1).tolist(), strict=True)
        ]
        means = (shown(self.balanced_accuracy, 3), UNDEFINED, shown(self.mean_auc, 3))
        mean = Row(cells=("mean of classes", str(len(self.cases)), *means), style="bold")
        headings = ("class", "cases", "recall", "precision", "AUC")
        return draw(headings, [rows, [mean]], title=title, text_columns=(0,))

    def _matrix(self) -> Table:
        from resvox.evaluation.console import Row, draw

        rows = [
            Row(cells=(name, *(str(count) for count in counts)))
            for name, counts in zip(self.classes, self.confusion.tolist(), strict=True)
        ]
        title = "confusion: rows are true classes, columns predicted ones"
        return draw(("", *self.classes), [rows], title=title, text_columns=(0,))

    def _shares(self, totals: np.ndarray[Any, Any]) -> dict[str, float | None]:
        right = self.confusion.diagonal()
        return {
            name: float(right[index] / totals[index]) if totals[index] else None
            for index, name in enumerate(self.classes)
        }


def score_classes(
    probabilities: np.ndarray[Any, Any],
    truth: Sequence[int],
    classes: Sequence[str],
    *,
    cases: Sequence[str] | None = None,
) -> ClassScores:
    """Score probabilities (cases, classes) against class indices.

    Raises:
        EvaluationError: shapes that do not fit, probabilities that are not finite, a class index out of range.
    """
    table, indices = np.asarray(probabilities, np.float64), np.asarray(truth, np.int64)
    if table.ndim != 2 or table.shape != (len(indices), len(classes)) or not len(indices):
        raise EvaluationError(
            f"probabilities of shape {table.shape} for {len(indices)} cases and {len(classes)} classes",
            expected="(cases, classes), one case at least",
        )
    if not np.isfinite(table).all() or indices.min() < 0 or indices.max() >= len(classes):
        raise EvaluationError(
            "probabilities that are not finite, or a class index out of range", expected=f"indices below {len(classes)}"
        )
    names = tuple(cases) if cases is not None else tuple(str(number) for number in range(len(indices)))
    return ClassScores(tuple(classes), table, indices, names)


def area_under_curve(scores: np.ndarray[Any, Any], positive: np.ndarray[Any, Any]) -> float | None:
    """The probability that a positive case scores higher than a negative one, ties counting half (Mann and Whitney).

    Args:
        scores: (cases); positive: (cases) booleans.

    Returns:
        None where there are no positive or no negative cases.
    """
    ours = int(positive.sum())
    others = len(positive) - ours
    if not ours or not others:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # of equal scores, the mean of their ranks
    return float((ranks[place][positive].sum() - ours * (ours + 1) / 2) / (ours * others))
