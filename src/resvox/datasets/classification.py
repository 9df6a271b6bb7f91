"""What a dataset of classified images is: cases, their classes, and who trains and who validates."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from resvox.datasets.splits import SPLITS
from resvox.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class ImageCase:
    """One image and its class.

    Args:
        images: one file (or DICOM folder) a channel, one file with all channels, or the ``.npz`` it lies in.
        label: the name of its class; None only for test cases.
        split: its part of the dataset; None means "not said".
        group: cases of one group (a patient, a scan) are never divided between training and validation.
        member: name of the array and row, for an image in an ``.npz``.
    """

    id: str
    images: tuple[Path, ...]
    label: str | None = None
    split: str | None = None
    group: str | None = None
    member: tuple[str, int] | None = None

    def __post_init__(self) -> None:
        if self.split is not None and self.split not in SPLITS:
            raise DatasetError(
                f"case {self.id!r} has split={self.split!r}",
                expected="'train', 'validation', 'test' or nothing",
                fix="correct the split column",
            )
        if self.label is None and self.split != "test":
            raise DatasetError(
                f"case {self.id!r} has no class",
                expected="a class for every case that trains or validates",
                fix="fill in its class, or mark the case as split 'test'",
                path=self.images[0],
            )


@dataclass(frozen=True, kw_only=True)
class ClassSplit:
    """The cases that train, the cases that validate, and one sentence on how they were told apart."""

    train: tuple[ImageCase, ...]
    validation: tuple[ImageCase, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class ClassificationDataset:
    """Cases with the names of their classes and channels.

    Args:
        classes: names in the order of the network's outputs.
        channel_names: one a channel; "CT" is normalised by a window.
        spatial_dims: 2 for images, 3 for volumes.
        is_picture: intensities have one scale for all images (PNG, JPEG, ``.npz``), as those of a scan may not.
        source: the folder, manifest or ``.npz`` that said so; errors name it.
    """

    name: str
    cases: tuple[ImageCase, ...]
    classes: tuple[str, ...]
    channel_names: tuple[str, ...]
    spatial_dims: int
    is_picture: bool
    source: Path

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise DatasetError(
                f"{len(self.classes)} class{'' if len(self.classes) == 1 else 'es'}: {', '.join(self.classes)}",
                expected="at least two",
                path=self.source,
            )
        twice = [name for name, count in Counter(case.id for case in self.cases).items() if count > 1]
        if twice:
            raise DatasetError(
                f"two cases are called {twice[0]!r}",
                expected="one id a case",
                fix="add an 'id' column to the manifest",
                path=self.source,
            )

    @property
    def num_classes(self) -> int:
        """Outputs of a network for this dataset."""
        return len(self.classes)

    @property
    def learned(self) -> tuple[str, tuple[str, ...]]:
        """What a network learns, as a plural noun, and the names."""
        return "classes", self.classes

    def cases_of(self, split: str) -> tuple[ImageCase, ...]:
        """The cases that are marked with a split."""
        return tuple(case for case in self.cases if case.split == split)

    def split(self, *, fraction: float = 0.2, seed: int = 0) -> ClassSplit:
        """Say who trains and who validates; the same for the same ids, fraction and seed, in any order.

        Explicit splits are kept. Where no case is marked for validation, ``fraction`` of each class is drawn from
        the unmarked ones, whole groups at a time. Where that leaves nothing to train on, the training cases
        validate themselves.

        Raises:
            DatasetError: a class without a case to train on.
        """
        labelled = sorted((c for c in self.cases if c.split != "test"), key=lambda case: case.id)
        chosen = {case.id for case in labelled if case.split == "validation"}
        reason = "the dataset names its validation cases"
        if not chosen:
            chosen = _draw([case for case in labelled if case.split is None], fraction, seed)
            reason = f"{len(chosen)} of {len(labelled)} cases drawn for validation, class by class, by seed {seed}"
        train = tuple(case for case in labelled if case.id not in chosen)
        validation = tuple(case for case in labelled if case.id in chosen)
        if not validation:
            validation = train
            reason = "no case is left for validation: validating on the training cases themselves"
        seen = {case.label for case in train}
        missing = [name for name in self.classes if name not in seen]
        if missing:
            raise DatasetError(
                f"no case to train on for {', '.join(missing)}",
                expected="training cases of every class",
                fix="mark some as split 'train', or leave the class out",
                path=self.source,
            )
        return ClassSplit(train=train, validation=validation, reason=reason)


def class_counts(cases: Iterable[ImageCase], classes: tuple[str, ...]) -> dict[str, int]:
    """Cases of each class."""
    found = Counter(case.label for case in cases)
    return {name: found[name] for name in classes}


def read_classification(path: str | os.PathLike[str]) -> ClassificationDataset:
    """Read a dataset of classified images.

    A folder: one sub-folder a class (``cat/1.png``), or the same below ``train``, ``val`` and ``test``. A CSV
    manifest: columns ``image`` (several channels ``;``-separated, or ``image_0``, ``image_1``) and ``class``,
    optionally ``split``, ``id`` and ``group``; paths relative to the manifest. An ``.npz`` as MedMNIST lays it
    out: ``train_images``, ``train_labels``, ``val_*``, ``test_*``; images (n, h, w[, channels]) or (n, d, h, w).

    Raises:
        DatasetError: no such dataset, one class only, a class that is unknown or a file that is missing.
    """
    from resvox.datasets.class_folders import read_class_folders, read_class_manifest
    from resvox.datasets.npz import read_npz

    path = Path(path)
    if path.is_dir():
        return read_class_folders(path)
    if path.is_file() and path.suffix.lower() == ".csv":
        return read_class_manifest(path)
    if path.is_file() and path.suffix.lower() == ".npz":
        return read_npz(path)
    raise DatasetError(
        "not a dataset" if path.exists() else "no such file or folder",
        expected="a folder with a sub-folder for each class, a .csv manifest, or a .npz",
        path=path,
    )


def _draw(candidates: list[ImageCase], fraction: float, seed: int) -> set[str]:
    """Ids for validation: of each class about ``fraction``, whole groups, by a hash of the group's name."""
    groups: dict[str, list[ImageCase]] = {}
    for case in candidates:
        groups.setdefault(case.group or case.id, []).append(case)
    ranked = sorted(groups, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
    wanted = {
        label: max(1, round(fraction * count)) if count > 1 else 0
        for label, count in Counter(case.label for case in candidates).items()
    }
    left = Counter(case.label for case in candidates)
    chosen: set[str] = set()
    for name in ranked:
        found = Counter(case.label for case in groups[name])
        needed = any(wanted[label] > 0 for label in found)
        # A group that holds the last cases of a class must train, or nobody learns that class.
        if needed and all(left[label] > count for label, count in found.items()):
            chosen.update(case.id for case in groups[name])
            wanted = {label: count - found[label] for label, count in wanted.items()}
            left -= found
    return chosen
