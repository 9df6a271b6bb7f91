"""Evaluation: how well predictions agree with references: label maps, classes, or volumes of values.

Cheap to import: MONAI and torch are loaded when the first surface is measured.
"""

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
