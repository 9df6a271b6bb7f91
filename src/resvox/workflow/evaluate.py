"""Predictions against references."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resvox.errors import EvaluationError
from resvox.evaluation.result import EvaluateOptions, EvaluateResult
from resvox.files import write_atomically

if TYPE_CHECKING:
    from resvox.evaluation.calibration.files import Calibration

__all__ = ["EvaluateResult", "evaluate"]


def evaluate(
    predictions: str | os.PathLike[str],
    references: str | os.PathLike[str],
    *,
    task: str | None = None,
    labels: Mapping[str, int | Sequence[int]] | str | os.PathLike[str] | None = None,
    tolerance_mm: float = 1.0,
    ignore: int | None = None,
    resample: bool = False,
    split: str | None = None,
    further: Sequence[str] = (),
    json_path: str | os.PathLike[str] | None = None,
    csv_path: str | os.PathLike[str] | None = None,
    calibration_path: str | os.PathLike[str] | None = None,
    on_case: Callable[[str, int, int], object] | None = None,
) -> EvaluateResult:
    """How well predictions agree with their references.

    Segmentation: Dice, 95th percentile Hausdorff distance (mm) and surface Dice of every label of every case.
    Classification: accuracy, AUC, confusion matrix. Regression: MAE, RMSE, PSNR and SSIM of every case.

    Args:
        predictions: a label map, a volume of values, or a folder of them; for classes a ``predictions.csv`` or its
            folder.
        references: a file for a file, or a folder with the same case names; for classes an ``.npz``, a manifest, or
            folders of the classes. Both may be addresses (``s3://`` and others), which are copied into the cache.
        task: one of ``resvox.catalog.TASKS``; None takes classification where there is a table of classes, else
            segmentation.
        labels: ``{name: value}``, ``{name: [value, ...]}`` for regions, or a ``dataset.json``, a model file or a run
            folder that has them. By default a ``dataset.json`` beside the references is used, else every positive
            value found in them. Where the reference has the label called "ignore", voxels are left out.
        tolerance_mm: distance up to which a boundary voxel counts as right in surface Dice.
        ignore: value of the reference whose voxels are left out of every score, such as -1 or 255.
        resample: bring a prediction on another grid to the reference's, instead of rejecting it.
        split: of a manifest or ``.npz``: "train", "validation", "test" or "all"; None takes test where there is one.
        further: metrics beyond these: "volume" (mL, and the difference to the reference), "cldice" (centrelines).
        json_path: also write the scores there as JSON: case -> label -> metrics.
        csv_path: also write the scores there as CSV.
        calibration_path: also score the probabilities (``<case>_probabilities.nii.gz``) and the ``review.csv`` beside
            the label maps, and write ECE, Brier score, reliability and risk there as JSON; a plot beside it (.png).
        on_case: called with (case, number done, total) before each case.

    Raises:
        EvaluationError: nothing to compare, labels that cannot be found, or an option that the task does not use.
    """
    from resvox.evaluation.tasks import evaluate_task
    from resvox.storage import local_copy

    options = EvaluateOptions(
        labels=labels if labels is None or isinstance(labels, Mapping) else _labels_in(Path(labels)),
        tolerance_mm=tolerance_mm,
        ignore=ignore,
        resample=resample,
        split=split,
        calibration=calibration_path is not None,
        further=tuple(further),
    )
    result = evaluate_task(task, local_copy(predictions), local_copy(references), options, on_case)
    if json_path is not None:
        result.scores.to_json(json_path)
    if csv_path is not None:
        result.scores.to_csv(csv_path)
    if calibration_path is not None and result.calibration is not None:
        _write_calibration(result.calibration, Path(calibration_path))
    return result


def _write_calibration(calibration: Calibration, path: Path) -> None:
    from resvox.viewer.plots import calibration_png

    write_atomically(path, json.dumps(calibration.to_dict(), indent=2, ensure_ascii=False) + "\n")
    risk = [] if calibration.risk is None else calibration.risk.curve
    write_atomically(path.with_suffix(".png"), calibration_png(calibration.overall.curve, risk))


def _labels_in(path: Path) -> Mapping[str, int | Sequence[int]] | Path:
    """The labels of a model, or its regions; a ``dataset.json`` is left to the task."""
    if path.suffix.lower() == ".json" or (path / "dataset.json").is_file():
        return path
    from resvox.prediction.model_files import metadata_of, model_file

    found = metadata_of(model_file(path))
    if "labels" not in found and "regions" not in found:
        raise EvaluationError("a model without labels", expected="one made by resvox train", path=path)
    # A model for regions is scored by them: a label map holds the values of all that overlap.
    labels = dict(found.get("regions") or found["labels"])
    return labels if found.get("ignore") is None else {**labels, "ignore": int(found["ignore"])}
