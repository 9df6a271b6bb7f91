"""Evaluation of segmentation: label map files against label map files."""

from __future__ import annotations

from pathlib import Path

from resvox.evaluation.calibration.files import calibration_of
from resvox.evaluation.further.table import check_further
from resvox.evaluation.labels import find_labels
from resvox.evaluation.matching import match, score_pairs
from resvox.evaluation.result import EvaluateOptions, EvaluateResult, OnCase
from resvox.evaluation.segmentation import LabelScore, score_files
from resvox.evaluation.table import ScoreTable


def evaluate_label_maps(
    predictions: Path, references: Path, options: EvaluateOptions, on_case: OnCase | None
) -> EvaluateResult:
    """Dice, HD95 and surface Dice of every label of every case.

    Raises:
        EvaluationError: nothing to compare, or no labels.
    """
    check_further(options.further)  # a typing error is no fault of every case
    pairs = match(predictions, references)
    case_of = {reference: case for case, (_, reference) in pairs.files.items()}
    labels = find_labels(options.labels, pairs.references, ignore=options.ignore)

    def score(prediction: Path, reference: Path) -> dict[str, LabelScore]:
        return score_files(
            prediction,
            reference,
            labels.of_case(case_of[reference]),
            tolerance_mm=options.tolerance_mm,
            further=options.further,
            resample_to_reference=options.resample,
        )

    found = score_pairs(pairs.files, score, on_case)
    table = ScoreTable(found.scores, tolerance_mm=options.tolerance_mm)
    scored = {case: pairs.files[case] for case in found.scores}
    calibration = calibration_of(scored, labels, table) if options.calibration else None
    return EvaluateResult(
        scores=table,
        calibration=calibration,
        labels=labels.to_dict(),
        missing=pairs.missing,
        extra=pairs.extra,
        failed=found.failed,
        remarks=(*found.remarks, *(() if calibration is None else calibration.remarks)),
    )
