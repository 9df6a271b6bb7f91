"""Evaluation of regression: volumes of values against volumes of values."""

from __future__ import annotations

from pathlib import Path

from resvox.evaluation.matching import match, score_pairs
from resvox.evaluation.regression import ValueScore, ValueTable, score_value_files
from resvox.evaluation.result import EvaluateOptions, EvaluateResult, OnCase


def evaluate_values(
    predictions: Path, references: Path, options: EvaluateOptions, on_case: OnCase | None
) -> EvaluateResult:
    """MAE, RMSE, PSNR and SSIM of every value of every case.

    Raises:
        EvaluationError: nothing to compare.
    """
    pairs = match(predictions, references)

    def score(prediction: Path, reference: Path) -> dict[str, ValueScore]:
        return score_value_files(prediction, reference, resample_to_reference=options.resample)

    found = score_pairs(pairs.files, score, on_case)
    return EvaluateResult(
        scores=ValueTable(found.scores),
        labels={},
        missing=pairs.missing,
        extra=pairs.extra,
        failed=found.failed,
        remarks=found.remarks,
    )
