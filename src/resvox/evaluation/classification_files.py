"""Evaluation of classification: a table of classes against an ``.npz``, a manifest, or a folder for each class."""

from __future__ import annotations

import csv
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resvox.datasets import read_classification
from resvox.errors import EvaluationError
from resvox.evaluation.classification import score_classes
from resvox.evaluation.result import EvaluateOptions, EvaluateResult, OnCase
from resvox.volumes import find_cases

TABLE = "predictions.csv"
PREFIX = "p_"  # before the name of a class in the heading of its column


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """A table of predictions: {case: probabilities}, in the order of ``classes``."""

    path: Path
    classes: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]


def is_class_table(predictions: Path) -> bool:
    """Whether a path holds predicted classes: a .csv, or a folder with ``predictions.csv``."""
    return predictions.suffix.lower() == ".csv" or (predictions / TABLE).is_file()


def evaluate_classes(
    predictions: Path, references: Path, options: EvaluateOptions, on_case: OnCase | None
) -> EvaluateResult:
    """Accuracy, AUC and confusion matrix of a table of classes.

    Raises:
        EvaluationError: files that cannot be compared.
        DatasetError: references that cannot be read.
    """
    table = read_class_table(predictions)
    truth = true_classes(references, table.classes, options.split)
    shared = [case for case in truth if case in table.rows]
    if not shared:
        raise EvaluationError(
            f"{len(table.rows)} predictions and {len(truth)} references in {references} share no case name",
            expected="references by the names of the predicted cases",
            fix="give as references the path that was given to resvox predict",
            path=table.path,
        )
    index = {name: number for number, name in enumerate(table.classes)}
    unknown = sorted({truth[case] for case in shared} - set(index))
    if unknown:
        raise EvaluationError(
            f"references of class {', '.join(unknown)}", expected=f"one of {', '.join(table.classes)}", path=references
        )
    scores = score_classes(
        np.array([table.rows[case] for case in shared]),
        [index[truth[case]] for case in shared],
        table.classes,
        cases=shared,
    )
    return EvaluateResult(
        scores=scores,
        labels=index,
        missing=tuple(case for case in truth if case not in table.rows),
        extra=tuple(case for case in table.rows if case not in truth),
    )


def read_class_table(predictions: Path) -> ClassTable:
    """Read ``predictions.csv`` as `resvox predict` writes it.

    Raises:
        EvaluationError: no such table, or one that is something else.
    """
    path = predictions if predictions.is_file() else predictions / TABLE
    if not path.is_file():
        raise EvaluationError("no table of predictions", expected=f"a .csv, or a folder with {TABLE}", path=predictions)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(
            f"a table that cannot be read ({error})", expected="CSV in UTF-8, as resvox predict writes it", path=path
        ) from error
    classes = tuple(name.removeprefix(PREFIX) for name in columns if name.startswith(PREFIX))
    try:
        read = {row["case"]: tuple(float(row[PREFIX + name]) for name in classes) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluationError(
            f"columns {', '.join(columns)} that are not all there ({type(error).__name__}: {error})",
            expected="case, and p_<class> for each class",
            path=path,
        ) from error
    if len(classes) < 2 or not read:
        raise EvaluationError(
            f"{len(read)} rows with columns {', '.join(columns)}",
            expected="case, and p_<class> for each class",
            path=path,
        )
    twice = [case for case, count in Counter(row["case"] for row in rows).items() if count > 1]
    if twice:
        raise EvaluationError(f"two rows for case {twice[0]!r}", expected="one row per case", path=path)
    odd = [case for case, values in read.items() if not all(math.isfinite(value) for value in values)]
    if odd:
        raise EvaluationError(f"probabilities of case {odd[0]!r} that are not finite", expected="numbers", path=path)
    return ClassTable(path=path, classes=classes, rows=read)


def true_classes(references: Path, classes: tuple[str, ...], split: str | None) -> dict[str, str]:
    """{case: class}; the names are those that `resvox predict` gives for the same path.

    Raises:
        EvaluationError: an image that is not in the folder of a class.
    """
    if references.is_dir():
        return _classes_of_folders(references, classes)
    cases = read_classification(references).cases
    wanted = split or ("test" if any(case.split == "test" for case in cases) else "all")
    return {case.id: case.label for case in cases if wanted in ("all", case.split) and case.label is not None}


def _classes_of_folders(folder: Path, classes: tuple[str, ...]) -> dict[str, str]:
    truth: dict[str, str] = {}
    for case in find_cases([folder], channels=None):
        above = case.paths[0].relative_to(folder).parts[:-1]
        label = next((name for name in above if name in classes), None)
        if label is None:
            raise EvaluationError(
                "an image that is not in the folder of a class",
                expected=f"one of {', '.join(classes)}",
                path=case.paths[0],
            )
        truth[case.id] = label
    return truth
