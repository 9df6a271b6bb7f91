"""Datasets for classification: images, each with one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from resvox.datasets.splits import NAMED, check_split, check_together, divide
from resvox.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class ImageCase:
    """One image and its class.

    Args:
        images: one file (or DICOM folder) per channel, one file with all channels, or the ``.npz`` it lies in.
        label: the name of its class; None only for test cases.
        split: its part of the dataset; None where the dataset does not name one.
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
        check_split(self.id, self.split)
        if self.label is None and self.split != "test":
            raise DatasetError(
                f"case {self.id!r} has no class",
                expected="a class for every case that trains or validates",
                fix="fill in its class, or mark the case as split 'test'",
                path=self.images[0],
            )


@dataclass(frozen=True, kw_only=True)
class ClassSplit:
    """The cases that train, the cases that validate, and the reason in one sentence."""

    train: tuple[ImageCase, ...]
    validation: tuple[ImageCase, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class ClassificationDataset:
    """Cases with the names of their classes and channels.

    Args:
        classes: names in the order of the network's outputs.
        channel_names: one per channel; "CT" is normalised by a window.
        spatial_dims: 2 for images, 3 for volumes.
        is_picture: intensities have one scale for all images (PNG, JPEG, ``.npz``), as those of a scan may not.
        source: the folder, manifest or ``.npz`` that it was read from; errors name it.
        named: the reason to give where the dataset names its validation cases.
    """

    name: str
    cases: tuple[ImageCase, ...]
    classes: tuple[str, ...]
    channel_names: tuple[str, ...]
    spatial_dims: int
    is_picture: bool
    source: Path
    named: str = NAMED

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise DatasetError(
                f"{len(self.classes)} class{'' if len(self.classes) == 1 else 'es'}: {', '.join(self.classes)}",
                expected="at least two",
                path=self.source,
            )
        check_together(self.cases, self.source)

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
        """Decide which cases train and which validate, class by class: `resvox.datasets.splits.divide`.

        Raises:
            DatasetError: nothing to train on, or a class without a case to train on.
        """
        train, validation, reason = divide(
            self.cases,
            fraction=fraction,
            seed=seed,
            source=self.source,
            named=self.named,
            classes={case.id: case.label for case in self.cases},
        )
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
