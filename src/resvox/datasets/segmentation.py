"""Datasets for segmentation: cases with label maps, and the names of labels and channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from resvox.datasets.label_values import check_labelled
from resvox.datasets.splits import NAMED, check_split, check_together, divide
from resvox.errors import DatasetError
from resvox.regions import Regions


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scan: its channel files in order (or one file with all), its label map, its part of the dataset.

    ``label`` is None only for test cases. Where ``split`` is None, `Dataset.split` decides. Cases of one ``group`` (a
    patient) are never divided between training and validation. ``labelled`` are the labels (or regions) that were
    annotated in this case; None for all. Of the others nothing is known: they are not learned from this case.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None = None
    split: str | None = None
    group: str | None = None
    labelled: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(Path(image) for image in self.images))
        check_split(self.id, self.split)
        if self.label is None and self.split != "test":
            raise DatasetError(
                f"case {self.id!r} has an image and no label map",
                expected="a label map for every case that trains or validates",
                fix="add the label map, or mark the case as split 'test'",
                path=self.images[0] if self.images else None,
            )


@dataclass(frozen=True, kw_only=True)
class Split:
    """The cases that train, the cases that validate, and the reason in one sentence."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Cases with the names of their labels and channels.

    Args:
        labels: ``{name: value in the label map}``, background (0) included, ascending by value. The class
            index of a network's output is the position in this order, so values need not be consecutive.
        channel_names: one per channel, e.g. ``("CT",)`` or ``("T1", "FLAIR")``; "CT" is normalised by a window.
        spatial_dims: 2 for images, 3 for volumes.
        source: the `dataset.json` or manifest that it was read from; errors name it.
        named: the reason to give where the dataset names its validation cases.
        regions: what a network learns in place of the labels, where labels join several values: one output each.
            ``labels`` then name every value of a label map.
        ignore: the value of voxels that were not annotated: they are left out of loss, sampling and scores.
    """

    name: str
    cases: tuple[Case, ...]
    labels: Mapping[str, int]
    channel_names: tuple[str, ...]
    spatial_dims: int
    source: Path | None = None
    named: str = NAMED
    regions: Regions | None = None
    ignore: int | None = None

    def __post_init__(self) -> None:
        ordered = dict(sorted(self.labels.items(), key=lambda item: item[1]))
        object.__setattr__(self, "labels", ordered)
        object.__setattr__(self, "cases", tuple(self.cases))
        object.__setattr__(self, "channel_names", tuple(self.channel_names))
        _check_cases(self)
        _check_labels(self)
        check_labelled([(case.id, case.labelled) for case in self.cases], self.targets, self.source)
        if self.spatial_dims not in (2, 3):
            raise DatasetError(
                f"images of {self.spatial_dims} dimensions", expected="2 or 3 dimensions", path=self.source
            )

    @property
    def num_classes(self) -> int:
        """Number of outputs of a network: the labels with the background, or the regions."""
        return len(self.labels) if self.regions is None else len(self.regions.names)

    @property
    def foreground(self) -> dict[str, int]:
        """Labels without the background, ``{name: value}``."""
        return {name: value for name, value in self.labels.items() if value != 0}

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of what is segmented: the labels without the background, or the regions."""
        return tuple(self.foreground) if self.regions is None else self.regions.names

    @property
    def is_partly_labelled(self) -> bool:
        """Whether some of the cases were annotated with some of the labels alone."""
        return any(self.labelled_with(case) != self.targets for case in self.cases)

    def labelled_with(self, case: Case) -> tuple[str, ...]:
        """The names of what was annotated in a case, in the order of `targets`."""
        return tuple(name for name in self.targets if case.labelled is None or name in case.labelled)

    @property
    def learned(self) -> tuple[str, tuple[str, ...]]:
        """What a network learns, as a plural noun, and the names."""
        return "labels" if self.regions is None else "regions", self.targets

    def split(self, *, fraction: float = 0.2, seed: int = 0) -> Split:
        """Decide which cases train and which validate, by the rules of `resvox.datasets.splits.divide`.

        Raises:
            DatasetError: only test cases, or nothing to train on.
        """
        train, validation, reason = divide(
            self.cases, fraction=fraction, seed=seed, source=self.source, named=self.named
        )
        return Split(train=train, validation=validation, reason=reason)


def _check_cases(dataset: Dataset) -> None:
    check_together(dataset.cases, dataset.source)
    for case in dataset.cases:
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
    if dataset.ignore in values:
        raise DatasetError(
            f"ignore={dataset.ignore}, which is also the value of a label",
            expected="a value of its own",
            path=dataset.source,
        )
    unknown = sorted(set() if dataset.regions is None else set(dataset.regions.label_values) - set(values))
    if unknown:
        raise DatasetError(
            f"a region of the value {unknown[0]}",
            expected=f"values out of those of the labels, {dict(dataset.labels)}",
            path=dataset.source,
        )
