"""The fingerprint of a dense regression: what scans and their values are like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from resvox.datasets.labelled import read_pair
from resvox.datasets.regression import RegressionDataset
from resvox.training.plans.fingerprint import (
    CANONICAL,
    CaseFacts,
    Fingerprint,
    Intensities,
    case_facts,
    channel_intensities,
    sampled_values,
)

SAMPLES_PER_CASE = 100_000  # voxels per channel


@dataclass(frozen=True, kw_only=True)
class RegressionFacts:
    """The scans' numbers, and those of each value to be predicted, in the units of the files."""

    scans: Fingerprint
    targets: tuple[Intensities, ...]


def take_regression_facts(
    dataset: RegressionDataset, *, progress: Callable[[int, int, str], None] | None = None
) -> RegressionFacts:
    """Look at every case with a target once; the values are those of the training cases alone.

    Raises:
        DatasetError, VolumeError: what `read_pair` refuses.
    """
    labelled = [case for case in dataset.cases if case.split != "test"]
    train = {case.id for case in dataset.split().train}
    facts: list[CaseFacts] = []
    inputs: list[np.ndarray[Any, Any]] = []
    outputs: list[np.ndarray[Any, Any]] = []
    for done, case in enumerate(labelled, start=1):
        image, target = read_pair(case, dataset)
        facts.append(case_facts(case.id, image, {}))
        if case.id in train:
            inputs.append(sampled_values(case.id, image, SAMPLES_PER_CASE))
            outputs.append(sampled_values(case.id, target, SAMPLES_PER_CASE))
        if progress is not None:
            progress(done, len(labelled), case.id)
    scans = Fingerprint(
        name=dataset.name,
        spatial_dims=dataset.spatial_dims,
        channel_names=dataset.channel_names,
        labels={},
        orientation=CANONICAL if dataset.spatial_dims == 3 else None,
        cases=tuple(facts),
        intensities=channel_intensities(dataset.channel_names, inputs),
    )
    return RegressionFacts(scans=scans, targets=channel_intensities(dataset.target_names, outputs))
