"""Datasets for dense regression: scans, and volumes of the values to be predicted for each voxel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from resvox.datasets.splits import NAMED, check_split, check_together, divide
from resvox.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class RegressionCase:
    """One scan: its channel files in order, the files of its targets in order (one file may hold all), its split.

    ``targets`` is empty only for test cases. Where ``split`` is None, `RegressionDataset.split` decides. Cases of one
    ``group`` (a patient) are never divided between training and validation.
    """

    id: str
    images: tuple[Path, ...]
    targets: tuple[Path, ...] = ()
    split: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        check_split(self.id, self.split)
        if not self.targets and self.split != "test":
            raise DatasetError(
                f"case {self.id!r} has an image and no target",
                expected="a target for every case that trains or validates",
                fix="add the target, or mark the case as split 'test'",
                path=self.images[0],
            )


@dataclass(frozen=True, kw_only=True)
class RegressionSplit:
    """The cases that train, the cases that validate, and the reason in one sentence."""

    train: tuple[RegressionCase, ...]
    validation: tuple[RegressionCase, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class RegressionDataset:
    """Cases with the names of their channels and of the values to be predicted.

    Args:
        target_names: one for each channel of the targets and output of the network.
        channel_names: one per channel; "CT" is normalised by a window.
        source: the `dataset.json` or manifest that it was read from; errors name it.
        named: the reason to give where the dataset names its validation cases.
    """

    name: str
    cases: tuple[RegressionCase, ...]
    channel_names: tuple[str, ...]
    target_names: tuple[str, ...]
    spatial_dims: int
    source: Path
    named: str = NAMED

    def __post_init__(self) -> None:
        check_together(self.cases, self.source)
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
        """Decide which cases train and which validate, by the rules of `resvox.datasets.splits.divide`.

        Raises:
            DatasetError: only test cases, or nothing to train on.
        """
        train, validation, reason = divide(
            self.cases, fraction=fraction, seed=seed, source=self.source, named=self.named
        )
        return RegressionSplit(train=train, validation=validation, reason=reason)
