"""What a dataset for dense regression is: scans, and volumes of the values to be predicted for each voxel."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from resvox.datasets.splits import SPLITS, draw_ids
from resvox.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class RegressionCase:
    """One scan: its channel files in order, the files of its targets in order (one file may hold all), its split.

    ``targets`` is empty only for test cases. ``split`` None means "not said".
    """

    id: str
    images: tuple[Path, ...]
    targets: tuple[Path, ...] = ()
    split: str | None = None

    def __post_init__(self) -> None:
        if self.split is not None and self.split not in SPLITS:
            raise DatasetError(
                f"case {self.id!r} has split={self.split!r}",
                expected="'train', 'validation', 'test' or nothing",
                fix="correct the split column",
            )
        if not self.targets and self.split != "test":
            raise DatasetError(
                f"case {self.id!r} has an image and no target",
                expected="a target for every case that trains or validates",
                fix="add the target, or mark the case as split 'test'",
                path=self.images[0],
            )


@dataclass(frozen=True, kw_only=True)
class RegressionSplit:
    """The cases that train, the cases that validate, and one sentence on how they were told apart."""

    train: tuple[RegressionCase, ...]
    validation: tuple[RegressionCase, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class RegressionDataset:
    """Cases with the names of their channels and of the values to be predicted.

    Args:
        target_names: one for each channel of the targets and output of the network.
        channel_names: one a channel; "CT" is normalised by a window.
        source: the `dataset.json` or manifest that said so; errors name it.
    """

    name: str
    cases: tuple[RegressionCase, ...]
    channel_names: tuple[str, ...]
    target_names: tuple[str, ...]
    spatial_dims: int
    source: Path

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(case.id for case in self.cases).items() if count > 1]
        if twice:
            raise DatasetError(f"two cases are called {twice[0]!r}", expected="one id a case", path=self.source)
        for case in self.cases:
            for what, files, names in (
                ("image", case.images, self.channel_names),
                ("target", case.targets, self.target_names),
            ):
                if files and len(files) not in (1, len(names)):
                    raise DatasetError(
                        f"case {case.id!r} has {len(files)} {what} files",
                        expected=f"one for each of {', '.join(names)}, or one that holds them all",
                        path=self.source,
                    )

    @property
    def learned(self) -> tuple[str, tuple[str, ...]]:
        """What a network learns, as a plural noun, and the names."""
        return "values", self.target_names

    def split(self, *, fraction: float = 0.2, seed: int = 0) -> RegressionSplit:
        """Say who trains and who validates; the rules are those of `Dataset.split`.

        Raises:
            DatasetError: nothing to train on.
        """
        labelled = sorted((c for c in self.cases if c.split != "test"), key=lambda case: case.id)
        chosen = {case.id for case in labelled if case.split == "validation"}
        reason = "the dataset names its validation cases"
        if not chosen and len(labelled) > 1:
            chosen = set(draw_ids([case.id for case in labelled if case.split is None], fraction, seed))
            reason = f"{len(chosen)} of {len(labelled)} cases drawn for validation by id and seed {seed}"
        train = tuple(case for case in labelled if case.id not in chosen)
        if not train:
            raise DatasetError("no case to train on", expected="cases with targets to train on", path=self.source)
        validation = tuple(case for case in labelled if case.id in chosen)
        if not validation:
            validation = train
            reason = "no case is left for validation: validating on the training cases themselves"
        return RegressionSplit(train=train, validation=validation, reason=reason)


def read_regression(path: str | os.PathLike[str]) -> RegressionDataset:
    """Read a dataset of scans and volumes of values on the scans' grids.

    A folder: `dataset.json` with ``channel_names``, optionally ``target_names`` {"0": "dose"}; ``imagesTr`` and
    ``targetsTr``, optionally ``imagesTs`` and ``targetsTs``; several channels as ``<case>_0000``, ``<case>_0001``.
    A CSV manifest: columns ``image`` (several channels ``;``-separated, or ``image_0``, ``image_1``) and ``target``
    (the same), optionally ``split`` and ``id``; paths relative to the manifest.

    Raises:
        DatasetError: no such dataset, a file that is missing, an unknown split.
    """
    from resvox.datasets.target_folders import read_target_folder, read_target_manifest

    path = Path(path)
    if path.is_dir():
        return read_target_folder(path)
    if path.is_file() and path.name == "dataset.json":
        return read_target_folder(path.parent)
    if path.is_file() and path.suffix.lower() == ".csv":
        return read_target_manifest(path)
    raise DatasetError(
        "not a dataset" if path.exists() else "no such file or folder",
        expected="a folder with dataset.json, imagesTr and targetsTr, or a .csv manifest",
        path=path,
    )
