"""Evaluation: how well a predicted label map agrees with its reference.

Cheap to import: MONAI and torch are loaded when the first surface is measured.
"""

from resvox.evaluation.files import score_files
from resvox.evaluation.label_maps import unknown_values
from resvox.evaluation.scores import LabelScore, score_case
from resvox.evaluation.table import LabelSummary, ScoreRow, ScoreTable

__all__ = [
    "LabelScore",
    "LabelSummary",
    "ScoreRow",
    "ScoreTable",
    "score_case",
    "score_files",
    "unknown_values",
]
