"""Evaluation: how well predictions agree with references: label maps, classes, or volumes of values.

Cheap to import: each name is loaded when it is first used, MONAI and torch when the first surface is measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.lazy import lazy_names

if TYPE_CHECKING:
    from resvox.evaluation.classification import ClassScores, score_classes
    from resvox.evaluation.label_maps import unknown_values
    from resvox.evaluation.regression import ValueScore, ValueTable, score_value_files, score_values
    from resvox.evaluation.segmentation import LabelScore, score_case, score_files
    from resvox.evaluation.table import LabelSummary, ScoreRow, ScoreTable


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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".classification": ("ClassScores", "score_classes"),
        ".segmentation": ("LabelScore", "score_case", "score_files"),
        ".table": ("LabelSummary", "ScoreRow", "ScoreTable"),
        ".regression": ("ValueScore", "ValueTable", "score_value_files", "score_values"),
        ".label_maps": ("unknown_values",),
    },
)
