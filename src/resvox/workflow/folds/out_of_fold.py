"""Each case predicted by the fold that did not train on it, on the grid of its scan, and scored."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.errors import ResvoxError
from resvox.evaluation.label_sets import LabelSet
from resvox.evaluation.segmentation import METRICS
from resvox.files import sha256_of, write_atomically
from resvox.workflow.folds.folder import Folds, FoldsFolder

if TYPE_CHECKING:
    from resvox.datasets.segmentation import Case, Dataset
    from resvox.evaluation.table import ScoreTable
    from resvox.prediction.outcomes import CaseOutcome
    from resvox.training.plans.options import TrainOptions
    from resvox.volumes import Volume

# The same on every machine and in every run: "auto" measures which engine is fastest.
ENGINE, PRECISION = "torch", "float32"
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """A case with its prediction out of fold."""

    case: Any
    fold: int
    path: Path

    def read(self, dataset: Dataset) -> tuple[Volume, Volume]:
        """Prediction and reference; where the reference is not annotated both are background."""
        prediction, reference, known = self.read_whole(dataset)
        if known is None:
            return prediction, reference
        return prediction.with_array(prediction.array * known), reference.with_array(reference.array * known)

    def read_whole(self, dataset: Dataset) -> tuple[Volume, Volume, Mask | None]:
        """Prediction and reference as they are, and where the reference is annotated; None if that is everywhere."""
        from resvox.datasets.labelled import read_labelled
        from resvox.volumes import read_label_map

        prediction, (_, reference) = read_label_map(self.path), read_labelled(self.case, dataset)
        return prediction, reference, None if dataset.ignore is None else reference.array != dataset.ignore


def predict_out_of_fold(
    dataset: Dataset, folder: FoldsFolder, folds: Folds, options: TrainOptions, say: Callable[[str], None]
) -> list[Predicted]:
    """Predict every case that is not predicted yet; what is there is kept, so a killed run goes on.

    Raises:
        ResvoxError: a case that could not be predicted.
    """
    from resvox.prediction.uncertainty.review import review_of

    by_id = {case.id: case for case in dataset.cases}
    found: list[Predicted] = []
    for fold in range(folds.count):
        cases = [by_id[name] for name, own in folds.cases.items() if own == fold]
        say(f"fold {fold}: predicting {len(cases)} cases that it did not train on")
        outcomes = _predicted(dataset, cases, folder, fold, options, say)
        if _remove_undoubted(folder, cases):
            outcomes = _predicted(dataset, cases, folder, fold, options, say)
        for case, outcome in zip(cases, outcomes, strict=True):
            if outcome.path is None or outcome.status not in ("written", "present"):
                raise ResvoxError(
                    f"case {case.id!r} could not be predicted: {outcome.reason}",
                    expected="a prediction for every case",
                    fix="the same command with --resume goes on",
                    path=folder.predictions,
                )
            found.append(Predicted(case=case, fold=fold, path=outcome.path))
    review_of(folder.predictions)
    return sorted(found, key=lambda each: str(each.case.id))


def _predicted(
    dataset: Dataset,
    cases: Sequence[Case],
    folder: FoldsFolder,
    fold: int,
    options: TrainOptions,
    say: Callable[[str], None],
) -> Sequence[CaseOutcome]:
    """The outcomes of some cases, predicted by one fold."""
    from resvox.prediction.batch import predict_cases
    from resvox.prediction.cases import Case as Scan
    from resvox.prediction.cases import Work
    from resvox.prediction.options import Callbacks, PredictOptions
    from resvox.volumes import InputCase
    from resvox.volumes.reading import is_flat_picture

    scans = tuple(
        Scan(
            id=file_name(case.id),
            inputs=tuple(str(Path(path).resolve()) for path in case.images),
            files=case.images,
            item=InputCase(id=case.id, paths=case.images, channels=len(dataset.channel_names)),
            is_picture=is_flat_picture(case.images[0]),
        )
        for case in cases
    )
    chosen = PredictOptions(
        model=folder.run(fold).model,
        out=folder.predictions,
        engine=ENGINE,
        precision=PRECISION,
        device=options.device,
        postprocess=False,
        uncertainty=True,
    )
    return predict_cases(chosen, Callbacks(on_note=say), Work(cases=scans)).cases


def _remove_undoubted(folder: FoldsFolder, cases: Sequence[Case]) -> bool:
    """Remove predictions of unknown doubt: a kill came between the label map and its line in the log."""
    from resvox.prediction.log import RunLog

    lines = RunLog(folder.predictions).by_case
    unknown = [lines[name] for name in map(file_name, (case.id for case in cases)) if name in lines]
    unknown = [line for line in unknown if "doubt" not in line]
    for line in unknown:
        (folder.predictions / str(line["file"])).unlink(missing_ok=True)
    return bool(unknown)


def forget_fold(folder: FoldsFolder, folds: Folds, fold: int) -> None:
    """Remove the predictions of a fold that is about to train on: they are of weights that will change."""
    from resvox.volumes.formats import stem_of

    names = {file_name(case) for case, own in folds.cases.items() if own == fold}
    for path in folder.predictions.glob("*") if folder.predictions.is_dir() else ():
        if path.is_file() and stem_of(path) in names:
            path.unlink(missing_ok=True)


def doubts_of(folder: FoldsFolder, folds: Folds) -> dict[str, float]:
    """The doubt of each case, of the fold that did not train on it."""
    from resvox.prediction.uncertainty.review import NAME, read_review

    found = read_review(folder.predictions / NAME)
    return {case: found[file_name(case)] for case in folds.cases if file_name(case) in found}


def file_name(case: str) -> str:
    """An id as the name of a file; ids come from manifests and may hold anything."""
    plain = re.sub(r"[^\w.-]", "_", case)
    return plain if plain == case else f"{plain}-{sha256_of(case.encode())[:8]}"


def label_set(dataset: Dataset) -> LabelSet:
    """The labels or regions of a dataset, and of each case those with which it is labelled."""
    labels: Mapping[str, Any] = dataset.foreground if dataset.regions is None else dataset.regions.values
    labelled = {case.id: dataset.labelled_with(case) for case in dataset.cases if case.labelled is not None}
    found = LabelSet.of(labels)
    return LabelSet(scored=found.scored, labelled=labelled, unscored=tuple(dataset.labels.values()))


def score_out_of_fold(dataset: Dataset, predicted: list[Predicted], say: Callable[[str], None]) -> ScoreTable:
    """Dice, HD95 and surface Dice of every case, in the order of ``predicted``."""
    from resvox.evaluation import ScoreTable, score_case

    labels, scores = label_set(dataset), {}
    for number, each in enumerate(predicted, start=1):
        prediction, reference = each.read(dataset)
        scores[each.case.id] = score_case(prediction, reference, labels.of_case(each.case.id))
        say(f"scored {number}/{len(predicted)} cases")
    return ScoreTable(scores)


def write_csv(table: ScoreTable, folds: Mapping[str, int], path: Path) -> Path:
    """One row per case and label, with the fold; undefined numbers are left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["fold", "case", "label", *METRICS, "outcome"])
    for row in table:
        values = row.score.to_dict().values()
        shown = ("" if value is None else value for value in values)
        writer.writerow([folds[row.case], row.case, row.label, *shown, row.score.outcome])
    return write_atomically(path, text.getvalue())


def members(array: np.ndarray[Any, Any], values: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The mask of a label or region."""
    found: np.ndarray[Any, Any] = array == values[0] if len(values) == 1 else np.isin(array, values)
    return found
