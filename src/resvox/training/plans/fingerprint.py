"""What a dataset is like, in numbers that the planning rules of every task read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from resvox.volumes import Volume

CANONICAL = "SPL"  # head up, then back, then left: the axes of an axial scan as SimpleITK hands them out
FEW_OUTSIDE = 0.005  # of the labelled voxels of a case: labels reach over the edge of the scan by some voxels


@dataclass(frozen=True, kw_only=True)
class Intensities:
    """Values of one channel under the labels, over all cases, in the units of the files."""

    channel: str
    percentile_00_5: float
    percentile_99_5: float
    mean: float
    std: float
    minimum: float
    maximum: float


@dataclass(frozen=True, kw_only=True)
class CaseFacts:
    """Size in voxels and spacing in mm of one case, axes in canonical order, and voxels of each label.

    ``cropped_shape``: the size without the border that is 0 in every channel; empty where it is not known.
    ``labelled_outside``: voxels with a label outside of the mask of what is not 0 (see
    `resvox.preprocessing.nonzero_mask`); None where they were not counted.
    """

    id: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    axis_codes: str
    voxels: dict[str, int]
    cropped_shape: tuple[int, ...] = ()
    labelled_outside: int | None = None


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """A dataset's numbers: everything that the planning rules read.

    ``orientation`` is "SPL" for volumes (axes of every case are counted in that order) and None for images.
    ``regions`` are the values of each region, where a network learns regions in place of the labels; ``has_ignore``:
    some voxels were not annotated.
    """

    name: str
    spatial_dims: int
    channel_names: tuple[str, ...]
    labels: dict[str, int]
    orientation: str | None
    cases: tuple[CaseFacts, ...]
    intensities: tuple[Intensities, ...]
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    has_ignore: bool = False

    @property
    def median_cropped_share(self) -> float:
        """The median share of a case that is left without the border that is 0 in every channel."""
        return float(
            np.median([np.prod(case.cropped_shape or case.shape) / np.prod(case.shape) for case in self.cases])
        )

    @property
    def labels_are_inside(self) -> bool:
        """Whether the labels of all cases lie within the mask of what is not 0; false where it was not counted.

        A few voxels that a label reaches over the edge do not count, see `FEW_OUTSIDE`.
        """
        return all(
            case.labelled_outside is not None and case.labelled_outside <= FEW_OUTSIDE * self._labelled(case)
            for case in self.cases
        )

    def _labelled(self, case: CaseFacts) -> int:
        """How many voxels of a case have a label."""
        return sum(count for name, count in case.voxels.items() if self.labels[name] != 0)

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of what is segmented: the labels without the background, or the regions."""
        return tuple(self.regions) or tuple(name for name, value in self.labels.items() if value != 0)

    @property
    def median_spacing_mm(self) -> tuple[float, ...]:
        """Median spacing of each axis over cases."""
        return tuple(float(v) for v in np.median([case.spacing_mm for case in self.cases], axis=0))

    @property
    def voxels(self) -> dict[str, int]:
        """Voxels of each label over all cases, background included."""
        return {name: sum(case.voxels[name] for case in self.cases) for name in self.labels}

    @property
    def balance(self) -> dict[str, float]:
        """Each label's share of all voxels."""
        total = sum(self.voxels.values())
        return {name: count / total for name, count in self.voxels.items()}

    def median_shape(self, spacing_mm: tuple[float, ...], *, cropped: bool = False) -> tuple[int, ...]:
        """Median size in voxels once every case is resampled to ``spacing_mm``.

        Args:
            cropped: without the border that is 0 in every channel.
        """
        shapes = [(case.cropped_shape if cropped else ()) or case.shape for case in self.cases]
        sizes = [
            np.asarray(shape) * np.asarray(case.spacing_mm) / np.asarray(spacing_mm)
            for shape, case in zip(shapes, self.cases, strict=True)
        ]
        return tuple(max(1, round(float(size))) for size in np.median(sizes, axis=0))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a report or a JSON file."""
        return asdict(self)


def case_facts(
    case: str,
    volume: Volume,
    voxels: dict[str, int],
    *,
    cropped_shape: tuple[int, ...] = (),
    labelled_outside: int | None = None,
) -> CaseFacts:
    """Size and spacing of a case's volume with its axes in canonical order.

    Args:
        voxels: how many voxels each label has; empty where there are no labels.
        cropped_shape: the size without the empty border, axes as in the volume.
        labelled_outside: see `CaseFacts`.
    """
    codes = "".join(volume.axis_codes) if volume.spatial_dims == 3 else ""
    order = canonical_order(codes) if codes else tuple(range(volume.spatial_dims))
    return CaseFacts(
        id=case,
        shape=tuple(int(volume.grid.shape[axis]) for axis in order),
        spacing_mm=tuple(float(volume.spacing_mm[axis]) for axis in order),
        axis_codes=codes,
        voxels=voxels,
        cropped_shape=tuple(int(cropped_shape[axis]) for axis in order) if cropped_shape else (),
        labelled_outside=labelled_outside,
    )


def canonical_order(axis_codes: str) -> tuple[int, ...]:
    """Which array axis lies along S, P and L: ``canonical_order("PIR") == (1, 0, 2)``."""
    opposite = {"S": "I", "I": "S", "P": "A", "A": "P", "L": "R", "R": "L"}
    return tuple(
        next(axis for axis, code in enumerate(axis_codes) if letter in (code, opposite[code])) for letter in CANONICAL
    )


def case_generator(case: str) -> np.random.Generator:
    """Random numbers that depend on the case's id alone, so that a statistic ignores what else is in the dataset."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(case.encode()).digest()[:8], "little"))


def sampled_values(case: str, volume: Volume, count: int) -> np.ndarray[Any, Any]:
    """(channels, at most ``count``) values of a volume, see `compact`; of every volume of a case at the same places."""
    channels = volume.with_channel_axis().reshape(volume.channels, -1)
    if channels.shape[1] > count:
        channels = channels[:, case_generator(case).choice(channels.shape[1], size=count, replace=False)]
    return compact(channels)


def compact(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy of values in at most 4 bytes each: those of all cases are held until the last one is read."""
    return values.copy() if values.dtype.itemsize <= 4 else values.astype(np.float32)


def channel_intensities(names: Sequence[str], values: Sequence[np.ndarray[Any, Any]]) -> tuple[Intensities, ...]:
    """The statistics of each channel over arrays of shape (channels, samples), computed in float64.

    One channel at a time is pooled, so that no second copy of all values is made.
    """
    return tuple(
        intensities(name, np.concatenate([each[channel] for each in values], dtype=np.float64))
        for channel, name in enumerate(names)
    )


def intensities(name: str, values: np.ndarray[Any, Any]) -> Intensities:
    """The numbers of one channel's values."""
    low, high = np.percentile(values, (0.5, 99.5))
    return Intensities(
        channel=name,
        percentile_00_5=float(low),
        percentile_99_5=float(high),
        mean=float(values.mean()),
        std=float(values.std()),
        minimum=float(values.min()),
        maximum=float(values.max()),
    )
