"""Predictions against references: label maps, volumes of values, or a table of classes."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import EvaluationError, ResvoxError
from resvox.workflow.evaluate_classes import evaluate_classes, is_class_table

if TYPE_CHECKING:
    from resvox.evaluation import ClassScores, ScoreTable, ValueTable


@dataclass(frozen=True, kw_only=True)
class EvaluateResult:
    """The scores (of label maps, classes or values), and what could not be scored.

    ``missing`` are references without a prediction, ``extra`` predictions without a reference, ``failed`` one
    line a case that could not be compared, ``remarks`` what was odd about one that was.
    """

    scores: ScoreTable | ClassScores | ValueTable
    labels: Mapping[str, int]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every reference was scored."""
        return not self.missing and not self.failed


def evaluate(
    predictions: str | os.PathLike[str],
    references: str | os.PathLike[str],
    *,
    task: str | None = None,
    labels: Mapping[str, int] | str | os.PathLike[str] | None = None,
    tolerance_mm: float = 1.0,
    split: str | None = None,
    json_path: str | os.PathLike[str] | None = None,
    csv_path: str | os.PathLike[str] | None = None,
    on_case: Callable[[str, int, int], object] | None = None,
) -> EvaluateResult:
    """How well predictions agree with their references.

    Segmentation: Dice, 95th percentile Hausdorff distance (mm) and surface Dice of every label of every case.
    Classification: accuracy, AUC, confusion matrix. Regression: MAE, RMSE, PSNR and SSIM of every case.

    Args:
        predictions, references: two label map files, or two folders of them with the same case names. Classes:
            a ``predictions.csv`` or its folder, against an ``.npz``, a manifest, or folders of the classes.
        task: "segmentation", "classification" or "regression"; None takes classification where there is a
            table of classes, else segmentation.
        labels: ``{name: value}``, or a ``dataset.json``, a model file or a run folder that knows them. By
            default a ``dataset.json`` beside the references is used, else every value found in them.
        tolerance_mm: how far a boundary may be off and still count in surface Dice.
        split: of a manifest or ``.npz``: "train", "validation", "test" or "all"; None takes test where there is one.
        json_path, csv_path: also write the scores there; JSON is case -> label -> metrics.
        on_case: called with (case, number done, total) before each case.

    Raises:
        EvaluationError: nothing to compare, or labels that cannot be found.
    """
    from resvox.training.tasks import check_task

    ours, theirs = Path(predictions), Path(references)
    task = check_task(task or ("classification" if is_class_table(ours) else "segmentation"))
    if task == "classification":
        scores, missing, extra = evaluate_classes(ours, theirs, split=split)
        index = {name: number for number, name in enumerate(scores.classes)}
        result = EvaluateResult(scores=scores, labels=index, missing=missing, extra=extra)
    elif task == "regression":
        result = _values(ours, theirs, on_case)
    else:
        result = _label_maps_of(ours, theirs, labels, tolerance_mm, on_case)
    if json_path is not None:
        result.scores.to_json(json_path)
    if csv_path is not None:
        result.scores.to_csv(csv_path)
    return result


def _label_maps_of(
    predictions: Path,
    references: Path,
    labels: Mapping[str, int] | str | os.PathLike[str] | None,
    tolerance_mm: float,
    on_case: Callable[[str, int, int], object] | None,
) -> EvaluateResult:
    from resvox.evaluation import ScoreTable, score_files

    pairs, missing, extra = match(predictions, references)
    known = find_labels(labels, [reference for _, reference in pairs.values()])

    def score(prediction: Path, reference: Path) -> Any:
        return score_files(prediction, reference, known, tolerance_mm=tolerance_mm)

    scores, failed, remarks = _score_pairs(pairs, score, on_case)
    return EvaluateResult(
        scores=ScoreTable(scores, tolerance_mm=tolerance_mm),
        labels=known,
        missing=missing,
        extra=extra,
        failed=failed,
        remarks=remarks,
    )


def _values(predictions: Path, references: Path, on_case: Callable[[str, int, int], object] | None) -> EvaluateResult:
    from resvox.evaluation import ValueTable, score_value_files

    pairs, missing, extra = match(predictions, references)
    scores, failed, remarks = _score_pairs(pairs, score_value_files, on_case)
    return EvaluateResult(
        scores=ValueTable(scores), labels={}, missing=missing, extra=extra, failed=failed, remarks=remarks
    )


def _score_pairs(
    pairs: Mapping[str, tuple[Path, Path]],
    score: Callable[[Path, Path], Any],
    on_case: Callable[[str, int, int], object] | None,
) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]:
    """Scores by case, a line for each that could not be compared, and what was odd about others."""
    scores: dict[str, Any] = {}
    failed: list[str] = []
    remarks: list[str] = []
    for number, (case, (prediction, reference)) in enumerate(pairs.items()):
        if on_case is not None:
            on_case(case, number, len(pairs))
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                scores[case] = score(prediction, reference)
            remarks += [str(each.message) for each in caught if each.category is UserWarning]
        except (ResvoxError, OSError) as error:
            failed.append(str(error))
    if not scores:
        first = next(iter(pairs.values()))[0]
        raise EvaluationError(
            f"none of {len(pairs)} cases could be compared; the first: {failed[0]}", path=first.parent
        )
    return scores, tuple(failed), tuple(remarks)


def match(predictions: Path, references: Path) -> tuple[dict[str, tuple[Path, Path]], tuple[str, ...], tuple[str, ...]]:
    """Pairs by case name, references without a prediction, predictions without a reference."""
    from resvox.volumes.formats import stem_of

    for path in (predictions, references):
        if not path.exists():
            raise EvaluationError("no such file or folder", expected="label maps", path=path)
    if predictions.is_file() and references.is_file():
        return {stem_of(references): (predictions, references)}, (), ()
    if predictions.is_file() or references.is_file():
        raise EvaluationError(
            f"a file against a folder ({references})",
            expected="two files, or two folders",
            path=predictions,
        )
    ours, theirs = _label_maps(predictions), _label_maps(references)
    pairs = {case: (ours[case], theirs[case]) for case in theirs if case in ours}
    if not pairs:
        raise EvaluationError(
            f"{len(ours)} predictions and {len(theirs)} references in {references} share no case name",
            expected="files of the same names in both folders",
            fix="rename them, or name two files",
            path=predictions,
        )
    missing = tuple(case for case in theirs if case not in ours)
    return pairs, missing, tuple(case for case in ours if case not in theirs)


def find_labels(labels: Mapping[str, int] | str | os.PathLike[str] | None, references: list[Path]) -> dict[str, int]:
    """``{name: value}`` without the background, from what the caller gave or from what lies around."""
    if isinstance(labels, Mapping):
        found = dict(labels)
    elif labels is not None:
        found = _labels_of(Path(labels))
    else:
        folder = references[0].resolve().parent
        beside = [place / "dataset.json" for place in (folder, folder.parent)]
        described = next((path for path in beside if path.is_file()), None)
        found = _labels_of(described) if described else _values_in(references)
    return {name: int(value) for name, value in found.items() if int(value) != 0}


def _labels_of(path: Path) -> dict[str, int]:
    if path.suffix == ".json":
        try:
            described = json.loads(path.read_text(encoding="utf-8"))["labels"]
            if all(str(name).isdigit() for name in described):  # MSD writes {"1": "liver"}
                described = {name: value for value, name in described.items()}
            return {str(name): int(value) for name, value in described.items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise EvaluationError(
                f"no labels in it ({type(error).__name__}: {error})",
                expected='"labels": {"background": 0, "liver": 1}',
                path=path,
            ) from error
    from resvox.prediction.segmenter import model_file
    from resvox.weights import read_header

    metadata = read_header(model_file(path)).metadata
    if "labels" not in metadata:
        raise EvaluationError("a model without labels", expected="one made by resvox train", path=path)
    return dict(metadata["labels"])


def _values_in(references: list[Path]) -> dict[str, int]:
    import numpy as np

    from resvox.volumes import read_label_map

    values: set[int] = set()
    for path in references:
        array = read_label_map(path).array
        if len(found := np.unique(array)) > 1000 or not np.array_equal(found, np.rint(found)):
            raise EvaluationError(
                "not a label map (many different or fractional values)",
                expected="whole numbers, one a label",
                fix="compare values with --task regression",
                path=path,
            )
        values.update(int(value) for value in found)
    return {f"label {value}": value for value in sorted(values)}


def _label_maps(folder: Path) -> dict[str, Path]:
    from resvox.volumes.formats import is_label_map, stem_of

    files = (p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith("."))
    found = {stem_of(p): p for p in files if is_label_map(p) and "_probabilities." not in p.name}
    # The label map of an image file x_0000 is called x_0000 too, where its reference is called x.
    short = {case.removesuffix("_0000"): path for case, path in found.items()}
    return short if len(short) == len(found) else found
