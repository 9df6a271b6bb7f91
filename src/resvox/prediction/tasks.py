"""The table of tasks in prediction: which model card and which predictor each has, and the options it uses."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from resvox.errors import InferenceError, WeightsError

if TYPE_CHECKING:
    import os

    from resvox.cards import ModelCard
    from resvox.prediction.options import PredictOptions
    from resvox.prediction.predictor import Predictor

TOTALSEGMENTATOR = "totalsegmentator"  # the format of the model file that stands for one of its tasks
FORMAT_NAMES = {TOTALSEGMENTATOR: "TotalSegmentator"}
ALWAYS_USED = frozenset({"engine", "device", "precision", "processes", "overwrite", "series"})


@dataclass(frozen=True, kw_only=True)
class FormatRow:
    """Models of one format that have a predictor of their own, see `TaskRow`."""

    predictor: str
    uses: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """A task in prediction.

    Args:
        card: ``module:class`` of its `ModelCard`.
        predictor: ``module:class`` of its `Predictor`, which takes `PredictOptions`.
        uses: the options that it uses beside those that every task does; others are refused.
        formats: by the format of a model file, where that has another predictor.
    """

    card: str
    predictor: str
    uses: frozenset[str]
    formats: Mapping[str, FormatRow] = field(default_factory=dict)

    def card_class(self) -> type[ModelCard]:
        """The class of its model cards."""
        return cast("type[ModelCard]", _resolve(self.card))

    def of_format(self, format: str) -> TaskRow | FormatRow:
        """What counts for model files of a format."""
        return self.formats.get(format, self)

    def predictor_class(self, format: str) -> type[Predictor[Any, Any]]:
        """The class of its predictors, for model files of a format."""
        return cast("type[Predictor[Any, Any]]", _resolve(self.of_format(format).predictor))


TASKS: dict[str, TaskRow] = {
    "segmentation": TaskRow(
        card="resvox.cards.segmentation:SegmentationCard",
        predictor="resvox.prediction.segmenter:Segmenter",
        uses=frozenset(
            {
                "mirror",
                "overlap",
                "resample",
                "speed",
                "skip_empty",
                "memory_gb",
                "probabilities",
                "uncertainty",
                "calibrated",
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
        formats={
            TOTALSEGMENTATOR: FormatRow(
                predictor="resvox.prediction.totalsegmentator.predictor:TotalSegmenter",
                uses=frozenset(
                    {
                        "mirror",
                        "overlap",
                        "resample",
                        "speed",
                        "skip_empty",
                        "memory_gb",
                        "suffix",
                        "format",
                        "dicom",
                        "sidecar",
                        "report",
                        "exact",
                        "total",
                    }
                ),
            )
        },
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


def refuse_unused(options: PredictOptions, task: str, format: str = "") -> None:
    """Refuse an option that a task, or a format of model files, has no use for.

    Raises:
        InferenceError: naming the option.
    """
    uses = TASKS[task].of_format(format).uses
    what = f"a model for {task}" if format not in TASKS[task].formats else f"a task of {FORMAT_NAMES[format]}"
    for name, value in options.changed().items():
        if name in uses | ALWAYS_USED:
            continue
        flags = options.total.flags() if name == "total" else [f"--{name.replace('_', '-')}"]
        raise InferenceError(
            f"{', '.join(flags)} with {what}" if name == "total" else f"{name}={value!r} with {what}",
            expected="a task of TotalSegmentator"
            if name == "total"
            else f"of such options only {', '.join(sorted(uses))}",
            fix=f"leave {' and '.join(flags)} out",
            path=Path(options.models[0]) if options.models else None,
        )


def _resolve(text: str) -> object:
    module, _, name = text.partition(":")
    found: object = getattr(importlib.import_module(module), name)
    return found
