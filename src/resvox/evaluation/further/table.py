"""The further metrics, one row each: a new one is a row here and a function."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from resvox.errors import EvaluationError, suggest

Array = Any  # of numpy, which this table does not load: the command line reads it for its help
Values = tuple[tuple[str, "float | None"], ...]  # name and value of each column
Measure = Callable[[Array, Array, Sequence[float]], Values]


@dataclass(frozen=True, kw_only=True)
class FurtherMetric:
    """A metric of two masks.

    Args:
        measure: dotted name of a function of prediction, reference (both bool) and spacing in mm.
        what: what it is, in words.
    """

    measure: str
    what: str


FURTHER = {
    "volume": FurtherMetric(measure="resvox.evaluation.further.table.volumes", what="volumes and their difference"),
    "cldice": FurtherMetric(
        measure="resvox.evaluation.further.centrelines.centreline_dice", what="Dice of centrelines, for vessels"
    ),
}


def check_further(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once.

    Raises:
        EvaluationError: a metric that does not exist.
    """
    for name in names:
        if name not in FURTHER:
            raise EvaluationError(
                f"metric {name!r}", expected="one of " + ", ".join(FURTHER), fix=suggest(name, list(FURTHER))
            )
    return tuple(dict.fromkeys(names))


def further_values(names: Sequence[str], prediction: Array, reference: Array, spacing_mm: Sequence[float]) -> Values:
    """The columns of several metrics for one label of one case."""
    found: list[tuple[str, float | None]] = []
    for name in names:
        module, _, function = FURTHER[name].measure.rpartition(".")
        measure: Measure = getattr(importlib.import_module(module), function)
        found += measure(prediction, reference, spacing_mm)
    return tuple(found)


def volumes(prediction: Array, reference: Array, spacing_mm: Sequence[float]) -> Values:
    """Size of prediction and reference, and prediction less reference: mL of volumes, mm² of images."""
    import numpy as np

    is_volume = prediction.ndim == 3
    unit = math.prod(spacing_mm) / (1000 if is_volume else 1)
    own, true = (int(np.count_nonzero(mask)) * unit for mask in (prediction, reference))
    what, ending = ("volume", "ml") if is_volume else ("area", "mm2")
    return (f"{what}_{ending}", own), (f"reference_{ending}", true), (f"{what}_difference_{ending}", own - true)
