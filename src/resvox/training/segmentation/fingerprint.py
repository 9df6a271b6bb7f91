"""What the data are like: spacing, size, intensities under the labels, how much of each label there is."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.datasets.labelled import read_labelled
from resvox.datasets.segmentation import Case, Dataset
from resvox.errors import DatasetError

if TYPE_CHECKING:
    from resvox.volumes import Volume

SAMPLES_PER_CASE = 100_000  # foreground voxels a channel: enough for stable 0.5 and 99.5 percentiles
CANONICAL = "SPL"  # head up, then back, then left: the axes of an axial scan as SimpleITK hands them out
logger = logging.getLogger("resvox.training")


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
    """Size in voxels and spacing in mm of one case, axes in canonical order, and voxels of each label."""

    id: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    axis_codes: str
    voxels: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """A dataset's numbers, all that `draw_plan` looks at.

    ``orientation`` is "SPL" for volumes (axes of every case are counted in that order) and None for images.
    """

    name: str
    spatial_dims: int
    channel_names: tuple[str, ...]
    labels: dict[str, int]
    orientation: str | None
    cases: tuple[CaseFacts, ...]
    intensities: tuple[Intensities, ...]

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

    def median_shape(self, spacing_mm: tuple[float, ...]) -> tuple[int, ...]:
        """Median size in voxels once every case is resampled to ``spacing_mm``."""
        sizes = [np.asarray(case.shape) * np.asarray(case.spacing_mm) / np.asarray(spacing_mm) for case in self.cases]
        return tuple(max(1, round(float(size))) for size in np.median(sizes, axis=0))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a report or a JSON file."""
        return asdict(self)


def take_fingerprint(
    dataset: Dataset,
    *,
    progress: Callable[[int, int, str], None] | None = None,
    samples: int = SAMPLES_PER_CASE,
) -> Fingerprint:
    """Look at every labelled case once.

    Args:
        progress: called with (cases done, cases in all, id of the case just read).
        samples: most foreground voxels a case gives to the intensity statistics (drawn by case id).

    Raises:
        DatasetError: what `read_labelled` refuses, or a dataset without a labelled voxel.
    """
    labelled = [case for case in dataset.cases if case.split != "test"]
    facts: list[CaseFacts] = []
    values: list[np.ndarray[Any, Any]] = []
    for done, case in enumerate(labelled, start=1):
        image, label = read_labelled(case, dataset)
        facts.append(_case_facts(case, dataset, label))
        values.append(_foreground_values(case, image, label, samples))
        if progress is not None:
            progress(done, len(labelled), case.id)
        logger.debug("fingerprint %d/%d: %s %s", done, len(labelled), case.id, facts[-1])
    pooled = np.concatenate(values, axis=1) if values else np.empty((0, 0))
    if pooled.size == 0:
        raise DatasetError(
            f"no labelled voxel in {len(labelled)} cases",
            expected="label maps with labels",
            path=dataset.source,
        )
    return Fingerprint(
        name=dataset.name,
        spatial_dims=dataset.spatial_dims,
        channel_names=dataset.channel_names,
        labels=dict(dataset.labels),
        orientation=CANONICAL if dataset.spatial_dims == 3 else None,
        cases=tuple(facts),
        intensities=tuple(
            intensities(name, channel) for name, channel in zip(dataset.channel_names, pooled, strict=True)
        ),
    )


def canonical_order(axis_codes: str) -> tuple[int, ...]:
    """Which array axis lies along S, P and L: ``canonical_order("PIR") == (1, 0, 2)``."""
    opposite = {"S": "I", "I": "S", "P": "A", "A": "P", "L": "R", "R": "L"}
    return tuple(
        next(axis for axis, code in enumerate(axis_codes) if letter in (code, opposite[code])) for letter in CANONICAL
    )


def _case_facts(case: Case, dataset: Dataset, label: Volume) -> CaseFacts:
    codes = "".join(label.axis_codes) if dataset.spatial_dims == 3 else ""
    order = canonical_order(codes) if codes else tuple(range(dataset.spatial_dims))
    present, counts = np.unique(label.array, return_counts=True)
    found = dict(zip(present.tolist(), counts.tolist(), strict=True))
    return CaseFacts(
        id=case.id,
        shape=tuple(int(label.array.shape[axis]) for axis in order),
        spacing_mm=tuple(float(label.spacing_mm[axis]) for axis in order),
        axis_codes=codes,
        voxels={name: int(found.get(value, 0)) for name, value in dataset.labels.items()},
    )


def _foreground_values(case: Case, image: Volume, label: Volume, samples: int) -> np.ndarray[Any, Any]:
    """(channels, at most ``samples``) values under the labels."""
    channels = image.array.reshape((image.channels, -1))
    inside = np.flatnonzero(label.array)
    if inside.size > samples:
        # Seeded by the id: the same voxels whatever else is in the dataset.
        seed = int.from_bytes(hashlib.sha256(case.id.encode()).digest()[:8], "little")
        inside = np.random.default_rng(seed).choice(inside, size=samples, replace=False)
    return channels[:, inside].astype(np.float64)


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
