"""Label maps against references: one file against one, or two folders matched by case name."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resvox.errors import EvaluationError, ResvoxError

if TYPE_CHECKING:
    from resvox.evaluation import LabelScore, ScoreTable

LABEL_MAP_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class EvaluateResult:
    """The scores, and what could not be scored.

    ``missing`` are references without a prediction, ``extra`` predictions without a reference, ``failed`` one
    line a case that could not be compared, ``remarks`` what was odd about one that was.
    """

    scores: ScoreTable
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
    labels: Mapping[str, int] | str | os.PathLike[str] | None = None,
    tolerance_mm: float = 1.0,
    json_path: str | os.PathLike[str] | None = None,
    csv_path: str | os.PathLike[str] | None = None,
    on_case: Callable[[str, int, int], object] | None = None,
) -> EvaluateResult:
    """Dice, 95th percentile Hausdorff distance (mm) and surface Dice of every label of every case.

    Args:
        predictions, references: two label map files, or two folders of them with the same case names.
        labels: ``{name: value}``, or a ``dataset.json``, a model file or a run folder that knows them. By
            default a ``dataset.json`` beside the references is used, else every value found in them.
        tolerance_mm: how far a boundary may be off and still count in surface Dice.
        json_path, csv_path: also write the scores there; JSON is case -> label -> metrics.
        on_case: called with (case, number done, total) before each case.

    Raises:
        EvaluationError: nothing to compare, or labels that cannot be found.
    """
    from resvox.evaluation import ScoreTable, score_files

    pairs, missing, extra = match(Path(predictions), Path(references))
    known = find_labels(labels, [reference for _, reference in pairs.values()])
    scores: dict[str, dict[str, LabelScore]] = {}
    failed: list[str] = []
    remarks: list[str] = []
    for number, (case, (prediction, reference)) in enumerate(pairs.items()):
        if on_case is not None:
            on_case(case, number, len(pairs))
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                scores[case] = score_files(prediction, reference, known, tolerance_mm=tolerance_mm)
            remarks += [str(each.message) for each in caught if each.category is UserWarning]
        except (ResvoxError, OSError) as error:
            failed.append(str(error))
    if not scores:
        raise EvaluationError(f"none of {len(pairs)} cases could be compared; the first: {failed[0]}", path=predictions)
    table = ScoreTable(scores, tolerance_mm=tolerance_mm)
    if json_path is not None:
        table.to_json(json_path)
    if csv_path is not None:
        table.to_csv(csv_path)
    return EvaluateResult(
        scores=table,
        labels=known,
        missing=missing,
        extra=extra,
        failed=tuple(failed),
        remarks=tuple(remarks),
    )


def match(predictions: Path, references: Path) -> tuple[dict[str, tuple[Path, Path]], tuple[str, ...], tuple[str, ...]]:
    """Pairs by case name, references without a prediction, predictions without a reference."""
    for path in (predictions, references):
        if not path.exists():
            raise EvaluationError("no such file or folder", expected="label maps", path=path)
    if predictions.is_file() and references.is_file():
        return {_case_name(references): (predictions, references)}, (), ()
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
    from resvox.weights import read_header
    from resvox.workflow.segmenter import model_file

    metadata = read_header(model_file(path)).metadata
    if "labels" not in metadata:
        raise EvaluationError("a model without labels", expected="one made by resvox train", path=path)
    return dict(metadata["labels"])


def _values_in(references: list[Path]) -> dict[str, int]:
    import numpy as np

    from resvox.volumes import read_volume

    values: set[int] = set()
    for path in references:
        array = read_volume(path).array
        if len(found := np.unique(array)) > 1000 or not np.array_equal(found, np.rint(found)):
            raise EvaluationError(
                "not a label map (many different or fractional values)",
                expected="whole numbers, one a label",
                path=path,
            )
        values.update(int(value) for value in found)
    return {f"label {value}": value for value in sorted(values)}


def _label_maps(folder: Path) -> dict[str, Path]:
    files = (p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith("."))
    found = {
        _case_name(p): p
        for p in files
        if p.name.lower().endswith(LABEL_MAP_ENDINGS) and "_probabilities." not in p.name
    }
    # The label map of an image file x_0000 is called x_0000 too, where its reference is called x.
    short = {case.removesuffix("_0000"): path for case, path in found.items()}
    return short if len(short) == len(found) else found


def _case_name(path: Path) -> str:
    lower = path.name.lower()
    ending = next((each for each in LABEL_MAP_ENDINGS if lower.endswith(each)), path.suffix)
    return path.name[: len(path.name) - len(ending)]
