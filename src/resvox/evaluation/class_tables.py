"""A table of predicted classes against the true classes: an ``.npz``, a manifest, or a folder for each class."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resvox.errors import EvaluationError

if TYPE_CHECKING:
    from resvox.evaluation import ClassScores

TABLE = "predictions.csv"
CHANCE = "p_"  # in front of a class's name in the table's head


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
    predictions: Path, references: Path, *, split: str | None = None
) -> tuple[ClassScores, tuple[str, ...], tuple[str, ...]]:
    """Scores, references without a prediction, predictions without a reference.

    Args:
        split: see `resvox.prediction.classes.predict_classes`.

    Raises:
        EvaluationError: files that cannot be compared. DatasetError: references that cannot be read.
    """
    import numpy as np

    from resvox.evaluation import score_classes

    table = read_class_table(predictions)
    truth = true_classes(references, table.classes, split)
    shared = [case for case in truth if case in table.rows]
    if not shared:
        raise EvaluationError(
            f"{len(table.rows)} predictions and {len(truth)} references in {references} share no case name",
            expected="references by the names of the predicted cases",
            fix="name as references what was named to resvox predict",
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
    missing = tuple(case for case in truth if case not in table.rows)
    return scores, missing, tuple(case for case in table.rows if case not in truth)


def read_class_table(predictions: Path) -> ClassTable:
    """Read ``predictions.csv`` as `resvox predict` writes it.

    Raises:
        EvaluationError: no such table, or one that is something else.
    """
    path = predictions if predictions.is_file() else predictions / TABLE
    if not path.is_file():
        raise EvaluationError("no table of predictions", expected=f"a .csv, or a folder with {TABLE}", path=predictions)
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or [])
        rows = list(reader)
    classes = tuple(name.removeprefix(CHANCE) for name in columns if name.startswith(CHANCE))
    try:
        read = {row["case"]: tuple(float(row[CHANCE + name]) for name in classes) for row in rows}
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
    return ClassTable(path=path, classes=classes, rows=read)


def true_classes(references: Path, classes: tuple[str, ...], split: str | None) -> dict[str, str]:
    """{case: class}; the names are those that `resvox predict` gives when it is told the same path.

    Raises:
        EvaluationError: nothing there, or an image in no folder of a class.
    """
    if references.is_dir():
        return _classes_of_folders(references, classes)
    from resvox.training import read_classification

    cases = read_classification(references).cases
    wanted = split or ("test" if any(case.split == "test" for case in cases) else "all")
    return {case.id: case.label for case in cases if wanted in ("all", case.split) and case.label is not None}


def _classes_of_folders(folder: Path, classes: tuple[str, ...]) -> dict[str, str]:
    from resvox.volumes import find_cases

    truth: dict[str, str] = {}
    for case in find_cases([folder], channels=None):
        above = case.paths[0].relative_to(folder).parts[:-1]
        label = next((name for name in above if name in classes), None)
        if label is None:
            raise EvaluationError(
                "an image in the folder of no class",
                expected=f"one of {', '.join(classes)}",
                path=case.paths[0],
            )
        truth[case.id] = label
    return truth
