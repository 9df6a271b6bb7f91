"""The tasks: how predictions and references of each are matched and scored. A new task is a file and a row here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from resvox.errors import EvaluationError, suggest
from resvox.evaluation.result import EvaluateOptions, EvaluateResult, OnCase

Evaluate = Callable[[Path, Path, EvaluateOptions, "OnCase | None"], EvaluateResult]


@dataclass(frozen=True, kw_only=True)
class EvaluationTask:
    """How a task is evaluated.

    Args:
        evaluate: dotted name of a function of predictions, references, options and a callback.
        options: the fields of `EvaluateOptions` that it uses; others are rejected.
        recognises: dotted name of a function that checks whether a path holds predictions of this task; "" where
            only the name of the task can.
    """

    evaluate: str
    options: tuple[str, ...] = ()
    recognises: str = ""


TASKS = {
    "segmentation": EvaluationTask(
        evaluate="resvox.evaluation.segmentation_files.evaluate_label_maps",
        options=("labels", "tolerance_mm", "ignore", "resample", "calibration", "further"),
    ),
    "classification": EvaluationTask(
        evaluate="resvox.evaluation.classification_files.evaluate_classes",
        options=("split",),
        recognises="resvox.evaluation.classification_files.is_class_table",
    ),
    "regression": EvaluationTask(evaluate="resvox.evaluation.regression_files.evaluate_values", options=("resample",)),
}
DEFAULT = next(iter(TASKS))


def evaluate_task(
    task: str | None, predictions: Path, references: Path, options: EvaluateOptions, on_case: OnCase | None
) -> EvaluateResult:
    """Evaluate predictions of a task; None finds the task from the predictions.

    Raises:
        EvaluationError: an unknown task, an option that it does not use, or predictions that cannot be compared.
    """
    name = task or _recognised(predictions)
    if name not in TASKS:
        raise EvaluationError(f"task={name!r}", expected="one of " + ", ".join(TASKS), fix=suggest(name, TASKS))
    row = TASKS[name]
    unused = [
        field.name
        for field in fields(EvaluateOptions)
        if field.name not in row.options and getattr(options, field.name) != field.default
    ]
    if unused:
        raise EvaluationError(
            f"{unused[0]}={getattr(options, unused[0])!r} for {name}",
            expected="one of its options: " + ", ".join(row.options),
            fix=f"leave --{unused[0].replace('_', '-')} out, or choose the --task that it belongs to",
        )
    evaluate: Evaluate = _resolved(row.evaluate)
    return evaluate(predictions, references, options, on_case)


def _recognised(predictions: Path) -> str:
    for name, row in TASKS.items():
        if row.recognises and _resolved(row.recognises)(predictions):
            return name
    return DEFAULT


def _resolved(dotted: str) -> Any:
    module, _, attribute = dotted.rpartition(".")
    return getattr(importlib.import_module(module), attribute)
