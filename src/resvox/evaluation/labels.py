"""Names and values of labels: as given, from a ``dataset.json``, or from the label maps themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resvox.datasets.description import read_json
from resvox.datasets.label_values import check_labelled, labelled_names
from resvox.errors import EvaluationError, ResvoxError
from resvox.evaluation.label_maps import label_array
from resvox.evaluation.label_sets import Labels, LabelSet
from resvox.volumes.formats import stem_of

LISTS = ("training", "validation", "test")  # fields of a dataset.json that list cases
MOST_VALUES = 1000  # different ones in a label map whose labels are not named; an image of whole numbers has more
DESCRIPTION = "dataset.json"


def find_labels(labels: Labels | Path | None, references: list[Path], *, ignore: int | None = None) -> LabelSet:
    """The labels to score.

    Args:
        labels: name and value of each, or a ``dataset.json``. None takes the ``dataset.json`` beside the references
            or in the folder above, else every positive value in the references.
        references: label maps.
        ignore: a value that is left out.

    Raises:
        EvaluationError: no labels there, or labels that are not valid; it names the file.
    """
    if isinstance(labels, Mapping):
        return LabelSet.of(labels, ignore=ignore)
    path = labels
    if path is None:
        folder = references[0].resolve().parent
        path = next((each for each in (folder / DESCRIPTION, folder.parent / DESCRIPTION) if each.is_file()), None)
    if path is None:
        return LabelSet.of(_values_in(references, ignore), ignore=ignore)
    try:
        found = LabelSet.of(read_labels(path), ignore=ignore)
        labelled = labelled_cases(path)
        check_labelled(list(labelled.items()), list(found.scored), path)
        return replace(found, labelled=labelled)
    except EvaluationError as error:
        if error.path is not None:
            raise
        raise EvaluationError(error.got, expected=error.expected, fix=error.fix, path=path) from error


def read_labels(path: Path) -> dict[str, int | list[int]]:
    """The labels of a ``dataset.json``: ``{name: value}`` (nnU-Net), ``{value: name}`` (MSD), or a list of names.

    Raises:
        EvaluationError: no labels in it.
    """
    file = path / DESCRIPTION if path.is_dir() else path
    try:
        described = json.loads(file.read_text(encoding="utf-8-sig"))["labels"]
        if isinstance(described, list):
            described = {name: value for value, name in enumerate(described)}
        if all(str(name).isdigit() for name in described):
            described = {name: value for value, name in described.items()}
        return {str(name): _whole_or_region(value) for name, value in described.items()}
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise EvaluationError(
            f"no labels in it ({type(error).__name__}: {error})",
            expected='"labels": {"background": 0, "liver": 1}',
            path=file,
        ) from error


def labelled_cases(path: Path) -> dict[str, tuple[str, ...]]:
    """The labels of each case that a ``dataset.json`` does not give all labels, by the name of its label map.

    Raises:
        DatasetError: a field ``labelled`` that is not understood.
    """
    file = path / DESCRIPTION if path.is_dir() else path
    described = read_json(file)
    given = described.get("labelled")
    pairs = [(name, value, f"case {name!r}") for name, value in given.items()] if isinstance(given, Mapping) else []
    for key in LISTS:
        for number, entry in enumerate(described.get(key) or ()):
            if isinstance(entry, Mapping) and isinstance(entry.get("label"), str):
                pairs.append((stem_of(Path(entry["label"])), entry.get("labelled"), f"{key} entry {number}"))
    read = {name: labelled_names(value, where, file) for name, value, where in pairs}
    return {name: names for name, names in read.items() if names is not None}


def _whole_or_region(value: Any) -> int | list[int]:
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return _whole(value)


def _whole(value: Any) -> int:
    number = int(value)
    if isinstance(value, bool) or (isinstance(value, float) and number != value):
        raise ValueError(f"{value!r} is not a whole number")
    return number


def _values_in(references: list[Path], ignore: int | None) -> dict[str, int]:
    """The positive values of all label maps. One that is not a label map is skipped: its case fails by itself.

    Raises:
        EvaluationError: no label in any of them.
    """
    from resvox.volumes import read_label_map

    values: set[int] = set()
    problem: ResvoxError | None = None
    for path in references:
        try:
            array = label_array(read_label_map(path), path=path)
            found = np.unique(array)
            if len(found) > MOST_VALUES:
                raise EvaluationError(
                    f"{len(found)} different values",
                    expected=f"a label map of at most {MOST_VALUES} labels",
                    fix="name them with --labels, or compare values with --task regression",
                    path=path,
                )
            values.update(int(value) for value in found if value > 0 and value != ignore)
        except ResvoxError as error:
            problem = problem or error
    if not values and problem is not None:
        raise problem
    return {f"label {value}": value for value in sorted(values)}
