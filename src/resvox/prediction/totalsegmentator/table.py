"""The table of tasks, ``tasks.json``: labels, models, resolution, crop. A task is added as a row there.

Its contents are facts of TotalSegmentator 2.18: numbers of datasets, names of folders and labels, spacings.
``codes.csv`` has its SNOMED CT codes.
"""

from __future__ import annotations

import csv
import difflib
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from resvox.errors import InferenceError

PLANS = "nnUNetPlans"
PACKAGE = "resvox.prediction.totalsegmentator"


@dataclass(frozen=True, kw_only=True)
class PartModel:
    """One model of nnU-Net.

    Args:
        dataset: the name of its folder among the weights.
        folder: the name of the model folder in there, ``Trainer__Plans__configuration``.
        labels: the names of its labels 1, 2, ...
    """

    dataset: str
    folder: str
    labels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CropRule:
    """The box in which a task looks: around labels that another run finds, in mm more on each side."""

    task: str
    run: str
    labels: tuple[str, ...]
    addon_mm: float


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What is removed of a label: all but its largest component, or components up to a volume."""

    label: str
    up_to_mm3: float | None = None


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """A task at one resolution.

    Args:
        models: whose labels are merged; a later one writes over an earlier one.
        folds: of each model; None for all that are numbered.
        spacing_mm: to which the scan is brought, along x, y, z; None leaves that to the model's own preprocessing.
        step: between windows, in windows.
        download: the name of its weights for ``totalseg_download_weights``.
    """

    models: tuple[PartModel, ...]
    folds: tuple[str, ...] | None
    spacing_mm: tuple[float, ...] | None
    step: float
    crop: CropRule | None
    clean: tuple[Cleaning, ...]
    download: str


@dataclass(frozen=True, kw_only=True)
class TotalTask:
    """A task.

    Args:
        labels: names and values of the label map.
        runs: by their names: "default", and "fast" and "fastest" where there are such.
        subset_crop: where the labels of a subset are looked for first; None looks at the whole scan.
    """

    name: str
    labels: Mapping[str, int]
    runs: Mapping[str, TaskRun]
    subset_crop: CropRule | None

    def run(self, name: str) -> TaskRun:
        """The task at one resolution.

        Raises:
            InferenceError: it has no such run.
        """
        if name not in self.runs:
            raise InferenceError(
                f"--{name} with the TotalSegmentator task {self.name}",
                expected=f"one of its resolutions: {', '.join(self.runs)}",
                fix=f"leave --{name} out",
            )
        return self.runs[name]

    def check_labels(self, names: Sequence[str]) -> None:
        """Refuse names that are no labels.

        Raises:
            InferenceError: naming the nearest ones.
        """
        for name in names:
            if name not in self.labels:
                near = difflib.get_close_matches(name, self.labels, 3, 0.5) or list(self.labels)[:3]
                raise InferenceError(
                    f"--roi-subset {name}, which is no label of the TotalSegmentator task {self.name}",
                    expected=f"of its {len(self.labels)} labels, such as {', '.join(near)}",
                )


def task_names() -> tuple[str, ...]:
    """The names of all tasks."""
    return tuple(_rows())


@functools.cache
def task_of(name: str) -> TotalTask:
    """A task by its name, which is one of `task_names`."""
    row = _rows()[name]
    labels = tuple(row["labels"])
    crop = row.get("subset_crop")
    return TotalTask(
        name=name,
        labels={label: place + 1 for place, label in enumerate(labels)},
        runs={run: _run(values, labels) for run, values in row["runs"].items()},
        subset_crop=None if crop is None else CropRule(labels=(), **crop),
    )


def codes_of(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The SNOMED CT codes of labels, as a model card holds them; labels without any are left out."""
    return {name: _codes()[name] for name in labels if name in _codes()}


@functools.cache
def _rows() -> dict[str, Any]:
    rows: dict[str, Any] = json.loads((resources.files(PACKAGE) / "tasks.json").read_text(encoding="utf-8"))
    return rows


def _run(row: Mapping[str, Any], labels: tuple[str, ...]) -> TaskRun:
    folder = f"{row['trainer']}__{PLANS}__{row.get('configuration', '3d_fullres')}"
    models = tuple(
        PartModel(dataset=each["dataset"], folder=folder, labels=tuple(each.get("labels", labels)))
        for each in row["models"]
    )
    crop = row.get("crop")
    return TaskRun(
        models=models,
        folds=None if row.get("folds") == "all numbered" else ("0",),
        spacing_mm=tuple(row["spacing_mm"]) if "spacing_mm" in row else None,
        step=row["step"],
        crop=None if crop is None else CropRule(**{**crop, "labels": tuple(crop["labels"])}),
        clean=tuple(Cleaning(**each) for each in row.get("clean", ())),
        download=row["download"],
    )


@functools.cache
def _codes() -> dict[str, dict[str, Any]]:
    text = (resources.files(PACKAGE) / "codes.csv").read_text(encoding="utf-8")
    return {
        row["name"]: {
            "type": {"value": row["code"], "meaning": row["meaning"], "scheme": "SCT"},
            "category": {"value": row["category"], "meaning": row["category_meaning"], "scheme": "SCT"},
            **({"side": row["side"]} if row["side"] else {}),
        }
        for row in csv.DictReader(text.splitlines())
    }
