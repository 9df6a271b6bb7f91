"""The fingerprint of a segmentation: spacing, size, intensities under the labels, voxels of each label."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.datasets.labelled import read_labelled
from resvox.datasets.segmentation import Case, Dataset
from resvox.errors import DatasetError
from resvox.preprocessing import nonzero_box, nonzero_mask
from resvox.training.plans.fingerprint import (
    CANONICAL,
    CaseFacts,
    Fingerprint,
    case_facts,
    case_generator,
    channel_intensities,
    compact,
)

if TYPE_CHECKING:
    from resvox.volumes import Volume

SAMPLES_PER_CASE = 100_000  # foreground voxels per channel: enough for stable 0.5 and 99.5 percentiles
logger = logging.getLogger("resvox.training")


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
        start, stop = nonzero_box(image.with_channel_axis())
        inner = tuple(after - before for before, after in zip(start, stop, strict=True))
        outside = _labelled_outside(image.with_channel_axis(), label.array, dataset.ignore)
        voxels = _voxels_of_labels(dataset, label)
        facts.append(case_facts(case.id, label, voxels, cropped_shape=inner, labelled_outside=outside))
        values.append(_foreground_values(case, image, label, samples, ignore=dataset.ignore))
        if progress is not None:
            progress(done, len(labelled), case.id)
        logger.debug("fingerprint %d/%d: %s %s", done, len(labelled), case.id, facts[-1])
    if not any(each.size for each in values):
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
        intensities=channel_intensities(dataset.channel_names, values),
        regions={} if dataset.regions is None else dict(dataset.regions.values),
        has_ignore=dataset.ignore is not None,
    )


def _labelled_outside(image: np.ndarray[Any, Any], label: np.ndarray[Any, Any], ignore: int | None) -> int:
    """How many voxels (*spatial) have a label where every channel (channels, *spatial) is 0, without enclosed holes."""
    empty = (image == 0).all(axis=0) & (label != 0)
    if ignore is not None:
        empty &= label != ignore
    if empty.any():  # holes are looked for only where it matters
        empty &= ~nonzero_mask(image)
    return int(np.count_nonzero(empty))


def _voxels_of_labels(dataset: Dataset, label: Volume) -> dict[str, int]:
    present, counts = np.unique(label.array, return_counts=True)
    found = dict(zip(present.tolist(), counts.tolist(), strict=True))
    return {name: int(found.get(value, 0)) for name, value in dataset.labels.items()}


def _foreground_values(
    case: Case, image: Volume, label: Volume, samples: int, *, ignore: int | None
) -> np.ndarray[Any, Any]:
    """(channels, at most ``samples``) values under the labels, less those of voxels that are ignored; see `compact`."""
    channels = image.array.reshape((image.channels, -1))
    inside = np.flatnonzero(label.array if ignore is None else (label.array != 0) & (label.array != ignore))
    if inside.size > samples:
        inside = case_generator(case.id).choice(inside, size=samples, replace=False)
    return compact(channels[:, inside])
