"""The fingerprint of a classification: sizes, spacings, intensities, the number of images of each class."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from resvox.datasets.classification import ClassificationDataset, ImageCase, class_counts
from resvox.datasets.labelled import read_image
from resvox.training.plans.fingerprint import (
    CANONICAL,
    Intensities,
    canonical_order,
    channel_intensities,
    sampled_values,
)
from resvox.volumes import Volume

LOOKED_AT = 500  # images: medians and percentiles settle long before
SAMPLES_PER_IMAGE = 10_000  # voxels per channel


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """Size in voxels and spacing in mm of one image, axes in canonical order."""

    id: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ClassificationFacts:
    """A dataset's numbers, all that `draw_classification_plan` looks at."""

    name: str
    spatial_dims: int
    channel_names: tuple[str, ...]
    is_picture: bool
    orientation: str | None
    counts: dict[str, int]
    images: tuple[ImageFacts, ...]
    intensities: tuple[Intensities, ...]

    @property
    def median_shape(self) -> tuple[int, ...]:
        """Median size in voxels, axis by axis."""
        return tuple(max(1, round(float(n))) for n in np.median([image.shape for image in self.images], axis=0))

    @property
    def is_one_size(self) -> bool:
        """Whether every image that was looked at has the same size."""
        return len({image.shape for image in self.images}) == 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a report or a JSON file."""
        return asdict(self)


def take_classification_facts(
    dataset: ClassificationDataset, *, progress: Callable[[int, int, str], None] | None = None
) -> ClassificationFacts:
    """Look at the training cases, at 500 of them where there are more (chosen by id).

    Args:
        progress: called with (images done, images in all, id of the image just read).

    Raises:
        VolumeError: an image that cannot be read. DatasetError: see `ClassificationDataset.split`.
    """
    train = dataset.split().train
    looked_at = sorted(train, key=lambda case: hashlib.sha256(case.id.encode()).hexdigest())[:LOOKED_AT]
    images: list[ImageFacts] = []
    values: list[np.ndarray[Any, Any]] = []
    for done, case in enumerate(looked_at, start=1):
        volume = read_image(case, len(dataset.channel_names))
        images.append(_facts(case, volume))
        values.append(sampled_values(case.id, volume, SAMPLES_PER_IMAGE))
        if progress is not None:
            progress(done, len(looked_at), case.id)
    return ClassificationFacts(
        name=dataset.name,
        spatial_dims=dataset.spatial_dims,
        channel_names=dataset.channel_names,
        is_picture=dataset.is_picture,
        orientation=CANONICAL if dataset.spatial_dims == 3 and not dataset.is_picture else None,
        counts=class_counts(train, dataset.classes),
        images=tuple(images),
        intensities=channel_intensities(dataset.channel_names, values),
    )


def _facts(case: ImageCase, volume: Volume) -> ImageFacts:
    shape, spacing = volume.grid.shape, volume.spacing_mm
    order: Sequence[int] = range(volume.spatial_dims)
    if volume.spatial_dims == 3 and case.member is None:
        order = canonical_order("".join(volume.axis_codes))
    return ImageFacts(
        id=case.id,
        shape=tuple(int(shape[axis]) for axis in order),
        spacing_mm=tuple(float(spacing[axis]) for axis in order),
    )
