"""Datasets without labels: scans alone, for pretraining."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from resvox.datasets.splits import NAMED, check_split, check_together, divide
from resvox.errors import DatasetError
from resvox.volumes import InputCase, Volume, find_cases, read_case

DESCRIBED = "dataset.json"  # states which files of a folder are images


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One scan: its channel files in order, or one file or DICOM folder that holds them all.

    Where ``split`` is None, `ScanDataset.split` decides. Scans of one ``group`` (a patient) are never divided.
    """

    id: str
    images: tuple[Path, ...]
    split: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        check_split(self.id, self.split)


@dataclass(frozen=True, kw_only=True)
class ScanSplit:
    """The scans that train, the scans that validate, and the reason in one sentence."""

    train: tuple[Scan, ...]
    validation: tuple[Scan, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class ScanDataset:
    """Scans of the same channels and dimensions.

    Args:
        channel_names: one per channel; "CT" is normalised by a window.
        source: the folder or description that it was read from; errors name it.
    """

    name: str
    cases: tuple[Scan, ...]
    channel_names: tuple[str, ...]
    spatial_dims: int
    source: Path

    def __post_init__(self) -> None:
        check_together(self.cases, self.source)

    @property
    def learned(self) -> tuple[str, tuple[str, ...]]:
        """What a network learns, as a plural noun, and the names."""
        return "hidden parts of", self.channel_names

    def split(self, *, fraction: float = 0.2, seed: int = 0) -> ScanSplit:
        """Decide which scans train and which validate, by the rules of `resvox.datasets.splits.divide`.

        Raises:
            DatasetError: nothing to train on.
        """
        train, validation, reason = divide(self.cases, fraction=fraction, seed=seed, source=self.source, named=NAMED)
        return ScanSplit(train=train, validation=validation, reason=reason)


def read_scans(path: str | os.PathLike[str]) -> ScanDataset:
    """The scans of a folder (files, DICOM series, sub-folders), or the images of a dataset whose labels are left aside.

    Args:
        path: a folder of scans, a folder with a ``dataset.json``, or a manifest, see `resvox.datasets.read_dataset`.

    Raises:
        DatasetError: no scans, scans with different channels, or a file that cannot be a scan.
    """
    source = Path(path).expanduser()
    if not source.exists():
        raise DatasetError("no such file or folder", expected="a folder of scans", path=source)
    described = (source / DESCRIBED).is_file() or source.is_file()
    if described:
        return _of_dataset(source)
    cases = tuple(_scan(case) for case in find_cases([source], channels=None))
    first = _first_volume(cases, source)
    dataset = ScanDataset(
        name=source.resolve().name,
        cases=cases,
        channel_names=tuple(f"channel {number}" for number in range(first.channels)),
        spatial_dims=first.spatial_dims,
        source=source,
    )
    for case in cases:
        _check_files(case, dataset)
    return dataset


def read_scan(case: Scan, dataset: ScanDataset) -> Volume:
    """The channels of a scan as one volume, (channels, *spatial) float32.

    Raises:
        VolumeError: a file that cannot be read. DatasetError: other channels or dimensions than the first scan.
    """
    channels = len(dataset.channel_names)
    volume = read_case(InputCase(id=case.id, paths=case.images, channels=channels))
    if volume.spatial_dims != dataset.spatial_dims:
        raise DatasetError(
            f"scan {case.id!r} has {volume.spatial_dims} dimensions",
            expected=f"{dataset.spatial_dims}, as the others",
            fix="pretrain with images or with volumes",
            path=case.images[0],
        )
    return volume


def _of_dataset(source: Path) -> ScanDataset:
    """All images of a dataset for segmentation; its test cases, which need no label, train too."""
    from resvox.datasets.reading import read_dataset

    found = read_dataset(source)
    scans = (
        Scan(
            id=case.id,
            images=case.images,
            split=None if case.split == "test" else case.split,
            group=case.group,
        )
        for case in found.cases
    )
    return ScanDataset(
        name=found.name,
        cases=tuple(scans),
        channel_names=found.channel_names,
        spatial_dims=found.spatial_dims,
        source=found.source or source,
    )


def _scan(case: InputCase) -> Scan:
    if case.problem is not None:
        error = case.problem
        raise DatasetError(error.got, expected=error.expected, fix=error.fix, path=error.path or case.paths[0])
    return Scan(id=case.id, images=tuple(case.paths))


def _first_volume(cases: tuple[Scan, ...], source: Path) -> Volume:
    if not cases:
        raise DatasetError("no scans", expected="a folder of images or DICOM series", path=source)
    first = cases[0]
    return read_case(InputCase(id=first.id, paths=first.images, channels=len(first.images) or None))


def _check_files(case: Scan, dataset: ScanDataset) -> None:
    if len(case.images) not in (1, len(dataset.channel_names)):
        raise DatasetError(
            f"scan {case.id!r} has {len(case.images)} files",
            expected=f"{len(dataset.channel_names)} channels, as scan {dataset.cases[0].id!r}",
            path=case.images[0],
        )
