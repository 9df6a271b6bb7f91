"""Evaluation: how well predictions agree with references: label maps, classes, or volumes of values.

Cheap to import: each name is loaded when it is first used, MONAI and torch when the first surface is measured.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resvox.evaluation.classification import ClassScores, score_classes
    from resvox.evaluation.label_maps import unknown_values
    from resvox.evaluation.regression import ValueScore, ValueTable, score_value_files, score_values
    from resvox.evaluation.segmentation import LabelScore, score_case, score_files
    from resvox.evaluation.table import LabelSummary, ScoreRow, ScoreTable

_DEFINED_IN = {
    "ClassScores": "classification",
    "LabelScore": "segmentation",
    "LabelSummary": "table",
    "ScoreRow": "table",
    "ScoreTable": "table",
    "ValueScore": "regression",
    "ValueTable": "regression",
    "score_case": "segmentation",
    "score_classes": "classification",
    "score_files": "segmentation",
    "score_value_files": "regression",
    "score_values": "regression",
    "unknown_values": "label_maps",
}

__all__ = [
    "ClassScores",
    "LabelScore",
    "LabelSummary",
    "ScoreRow",
    "ScoreTable",
    "ValueScore",
    "ValueTable",
    "score_case",
    "score_classes",
    "score_files",
    "score_value_files",
    "score_values",
    "unknown_values",
]


def __getattr__(name: str) -> Any:
    if name in _DEFINED_IN:
        return getattr(importlib.import_module(f"resvox.evaluation.{_DEFINED_IN[name]}"), name)
    raise AttributeError(f"module 'resvox.evaluation' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_DEFINED_IN})
