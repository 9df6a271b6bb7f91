"""What a dataset is: labelled cases, the names of labels and channels, and who trains and who validates."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from resvox.datasets.splits import SPLITS, draw_ids
from resvox.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scan: its channel files in order (or one file with all), its label map, its part of the dataset.

    ``label`` is None only for test cases. ``split`` None means "not said": `Dataset.split` decides.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(Path(image) for image in self.images))
        if self.split is not None and self.split not in SPLITS:
            raise DatasetError(
                f"case {self.id!r} has split={self.split!r}",
                expected="'train', 'validation', 'test' or nothing",
                fix="correct the split column",
            )
        if self.label is None and self.split != "test":
            raise DatasetError(
                f"case {self.id!r} has an image and no label map",
                expected="a label map for every case that trains or validates",
                fix="add the label map, or mark the case as split 'test'",
                path=self.images[0] if self.images else None,
            )


@dataclass(frozen=True, kw_only=True)
class Split:
    """The cases that train, the cases that validate, and one sentence on how they were told apart."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Cases with the names of their labels and channels.

    Args:
        labels: ``{name: value in the label map}``, background (0) included, ascending by value. The class
            index of a network's output is the position in this order, so values need not be consecutive.
        channel_names: one a channel, e.g. ``("CT",)`` or ``("T1", "FLAIR")``; "CT" is normalised by a window.
        spatial_dims: 2 for images, 3 for volumes.
        source: the `dataset.json` or manifest that said so; errors name it.
    """

    name: str
    cases: tuple[Case, ...]
    labels: Mapping[str, int]
    channel_names: tuple[str, ...]
    spatial_dims: int
    source: Path | None = None

    def __post_init__(self) -> None:
        ordered = dict(sorted(self.labels.items(), key=lambda item: item[1]))
        object.__setattr__(self, "labels", ordered)
        object.__setattr__(self, "cases", tuple(self.cases))
        object.__setattr__(self, "channel_names", tuple(self.channel_names))
        _check_cases(self)
        _check_labels(self)
        if self.spatial_dims not in (2, 3):
            raise DatasetError(
                f"images of {self.spatial_dims} dimensions", expected="2 or 3 dimensions", path=self.source
            )

    @property
    def num_classes(self) -> int:
        """Classes a network must tell apart, background included."""
        return len(self.labels)

    @property
    def foreground(self) -> dict[str, int]:
        """Labels without the background, ``{name: value}``."""
        return {name: value for name, value in self.labels.items() if value != 0}

    @property
    def learned(self) -> tuple[str, tuple[str, ...]]:
        """What a network learns, as a plural noun, and the names."""
        return "labels", tuple(self.foreground)

    def split(self, *, fraction: float = 0.2, seed: int = 0) -> Split:
        """Say who trains and who validates; the same for the same ids, fraction and seed, in any order.

        Explicit splits are kept. Where no case is marked for validation, ``fraction`` of the unmarked ones
        (one at least) are drawn. Where nothing is left to draw from, the training cases validate themselves.
        """
        labelled = sorted((c for c in self.cases if c.split != "test"), key=lambda case: case.id)
        if not labelled:
            raise DatasetError("only test cases", expected="at least one labelled case", path=self.source)
        chosen = tuple(case for case in labelled if case.split == "validation")
        reason = "the dataset names its validation cases"
        if not chosen and len(labelled) > 1:
            drawn = draw_ids([case.id for case in labelled if case.split is None], fraction, seed)
            chosen = tuple(case for case in labelled if case.id in drawn)
            reason = f"{len(chosen)} of {len(labelled)} cases drawn for validation by id and seed {seed}"
        train = tuple(case for case in labelled if case not in chosen)
        if not train:
            raise DatasetError(
                "every labelled case is marked 'validation'", expected="cases to train on", path=self.source
            )
        if not chosen:
            chosen = train
            reason = "no case is left for validation: validating on the training cases themselves"
        return Split(train=train, validation=chosen, reason=reason)


def read_dataset(path: str | os.PathLike[str]) -> Dataset:
    """Read a dataset: a folder with `dataset.json` (MSD or nnU-Net dialect) or a CSV manifest.

    Folder: ``imagesTr``, ``labelsTr`` and optionally ``imagesTs``, ``labelsTs``; several channels of a case
    as ``<case>_0000``, ``<case>_0001``. Manifest: columns ``image`` (several channels ``;``-separated, or
    ``image_0``, ``image_1``), ``label``, optionally ``split`` and ``id``; paths relative to the manifest.

    Raises:
        DatasetError: a missing `dataset.json`, label or image file, an unknown split, an unsupported dialect.
    """
    from resvox.datasets.folders import read_folder, read_manifest

    path = Path(path)
    if path.is_dir():
        return read_folder(path)
    if path.suffix.lower() == ".csv" and path.is_file():
        return read_manifest(path)
    if path.name == "dataset.json" and path.is_file():
        return read_folder(path.parent)
    raise DatasetError(
        "not a dataset" if path.exists() else "no such file or folder",
        expected="a folder with dataset.json, or a .csv manifest",
        fix="an .npz holds images and their classes: --task classification" if path.suffix.lower() == ".npz" else "",
        path=path,
    )


def _check_cases(dataset: Dataset) -> None:
    seen: set[str] = set()
    for case in dataset.cases:
        if case.id in seen:
            raise DatasetError(
                f"two cases are called {case.id!r}",
                expected="one id a case",
                fix="rename one, or add an 'id' column to the manifest",
                path=dataset.source,
            )
        seen.add(case.id)
        if len(case.images) not in (1, len(dataset.channel_names)):
            raise DatasetError(
                f"case {case.id!r} has {len(case.images)} image files",
                expected=f"one for each of {', '.join(dataset.channel_names)}, or one that holds them all",
                path=dataset.source,
            )


def _check_labels(dataset: Dataset) -> None:
    values = list(dataset.labels.values())
    if len(set(values)) != len(values) or 0 not in values or min(values) < 0 or len(values) < 2:
        raise DatasetError(
            f"labels {dict(dataset.labels)}",
            expected="a background of 0 and at least one other label, each with its own positive value",
            path=dataset.source,
        )
