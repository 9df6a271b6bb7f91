"""The fingerprint of scans without labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from resvox.datasets.scans import ScanDataset, read_scan
from resvox.preprocessing import nonzero_box
from resvox.training.plans.fingerprint import (
    CANONICAL,
    CaseFacts,
    Fingerprint,
    case_facts,
    channel_intensities,
    sampled_values,
)

SAMPLES_PER_CASE = 100_000  # voxels per channel


def take_scan_facts(dataset: ScanDataset, *, progress: Callable[[int, int, str], None] | None = None) -> Fingerprint:
    """Look at every scan once; the values are those of the scans that train.

    Raises:
        DatasetError, VolumeError: what `read_scan` refuses.
    """
    train = {case.id for case in dataset.split().train}
    facts: list[CaseFacts] = []
    values: list[np.ndarray[Any, Any]] = []
    for done, case in enumerate(dataset.cases, start=1):
        image = read_scan(case, dataset)
        start, stop = nonzero_box(image.with_channel_axis())
        inner = tuple(after - before for before, after in zip(start, stop, strict=True))
        facts.append(case_facts(case.id, image, {}, cropped_shape=inner))
        if case.id in train:
            values.append(sampled_values(case.id, image, SAMPLES_PER_CASE))
        if progress is not None:
            progress(done, len(dataset.cases), case.id)
    return Fingerprint(
        name=dataset.name,
        spatial_dims=dataset.spatial_dims,
        channel_names=dataset.channel_names,
        labels={},
        orientation=CANONICAL if dataset.spatial_dims == 3 else None,
        cases=tuple(facts),
        intensities=channel_intensities(dataset.channel_names, values),
    )
