"""The table of tasks in prediction: which model card and which predictor each has, and the options it uses."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from resvox.errors import InferenceError, WeightsError

if TYPE_CHECKING:
    import os

    from resvox.cards import ModelCard
    from resvox.prediction.options import PredictOptions
    from resvox.prediction.predictor import Predictor

ALWAYS_USED = frozenset({"engine", "device", "precision", "processes", "overwrite", "series"})


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """A task in prediction.

    Args:
        card: ``module:class`` of its `ModelCard`.
        predictor: ``module:class`` of its `Predictor`, which takes `PredictOptions`.
        uses: the options that it uses beside those that every task does; others are refused.
    """

    card: str
    predictor: str
    uses: frozenset[str]

    def card_class(self) -> type[ModelCard]:
        """The class of its model cards."""
        return cast("type[ModelCard]", _resolve(self.card))

    def predictor_class(self) -> type[Predictor[Any, Any]]:
        """The class of its predictors."""
        return cast("type[Predictor[Any, Any]]", _resolve(self.predictor))


TASKS: dict[str, TaskRow] = {
    "segmentation": TaskRow(
        card="resvox.cards.segmentation:SegmentationCard",
        predictor="resvox.prediction.segmenter:Segmenter",
        uses=frozenset(
            {
                "mirror",
                "overlap",
                "resample",
                "skip_empty",
                "memory_gb",
                "probabilities",
                "region_masks",
                "suffix",
                "format",
                "dicom",
                "sidecar",
                "report",
                "folds",
                "checkpoint",
                "exact",
                "orientation",
                "postprocess",
            }
        ),
    ),
    "classification": TaskRow(
        card="resvox.cards.classification:ClassificationCard",
        predictor="resvox.prediction.classifier:Classifier",
        uses=frozenset({"split"}),
    ),
    "regression": TaskRow(
        card="resvox.cards.regression:RegressionCard",
        predictor="resvox.prediction.regressor:Regressor",
        uses=frozenset({"mirror", "overlap", "memory_gb", "suffix"}),
    ),
}
DEFAULT_TASK = "segmentation"  # of model files that do not say


def row_of(task: str, path: str | os.PathLike[str] | None = None) -> TaskRow:
    """The row of a task.

    Raises:
        WeightsError: a task that this version does not know; ``path`` is the model file.
    """
    if task not in TASKS:
        raise WeightsError(
            f"a model for {task}",
            expected=f"a model for {', '.join(TASKS)}",
            fix="use the version of resvox that trained it, or a newer one",
            path=path,
        )
    return TASKS[task]


def refuse_unused(options: PredictOptions, task: str) -> None:
    """Refuse an option that a task has no use for.

    Raises:
        InferenceError: naming the option.
    """
    uses = TASKS[task].uses
    for name, value in options.changed().items():
        if name not in uses | ALWAYS_USED:
            raise InferenceError(
                f"{name}={value!r} with a model for {task}",
                expected=f"of such options only {', '.join(sorted(uses))}",
                fix=f"leave --{name.replace('_', '-')} out",
                path=Path(options.models[0]) if options.models else None,
            )


def _resolve(text: str) -> object:
    module, _, name = text.partition(":")
    found: object = getattr(importlib.import_module(module), name)
    return found
