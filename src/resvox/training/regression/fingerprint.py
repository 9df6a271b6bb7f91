"""What scans and their values are like: all that a plan for dense regression is drawn from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from resvox.datasets.regression import RegressionCase, RegressionDataset
from resvox.training.regression.cache import read_pair
from resvox.training.segmentation.fingerprint import (
    CANONICAL,
    CaseFacts,
    Fingerprint,
    Intensities,
    canonical_order,
    intensities,
)
from resvox.volumes import Volume

SAMPLES_PER_CASE = 100_000  # voxels a channel


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
        facts.append(_case_facts(case, image))
        if case.id in train:
            inputs.append(_sampled(case, image))
            outputs.append(_sampled(case, target))
        if progress is not None:
            progress(done, len(labelled), case.id)
    scans = Fingerprint(
        name=dataset.name,
        spatial_dims=dataset.spatial_dims,
        channel_names=dataset.channel_names,
        labels={},
        orientation=CANONICAL if dataset.spatial_dims == 3 else None,
        cases=tuple(facts),
        intensities=_all_intensities(dataset.channel_names, inputs),
    )
    return RegressionFacts(scans=scans, targets=_all_intensities(dataset.target_names, outputs))


def _all_intensities(names: tuple[str, ...], values: list[np.ndarray[Any, Any]]) -> tuple[Intensities, ...]:
    pooled = np.concatenate(values, axis=1)
    return tuple(intensities(name, channel) for name, channel in zip(names, pooled, strict=True))


def _case_facts(case: RegressionCase, image: Volume) -> CaseFacts:
    codes = "".join(image.axis_codes) if image.spatial_dims == 3 else ""
    order = canonical_order(codes) if codes else tuple(range(image.spatial_dims))
    return CaseFacts(
        id=case.id,
        shape=tuple(int(image.grid.shape[axis]) for axis in order),
        spacing_mm=tuple(float(image.spacing_mm[axis]) for axis in order),
        axis_codes=codes,
        voxels={},
    )


def _sampled(case: RegressionCase, volume: Volume) -> np.ndarray[Any, Any]:
    """(channels, at most 100,000) values; of image and target at the same places, drawn by the case's id."""
    channels = volume.with_channel_axis().reshape(volume.channels, -1)
    if channels.shape[1] > SAMPLES_PER_CASE:
        seed = int.from_bytes(hashlib.sha256(case.id.encode()).digest()[:8], "little")
        places = np.random.default_rng(seed).choice(channels.shape[1], size=SAMPLES_PER_CASE, replace=False)
        channels = channels[:, places]
    return channels.astype(np.float64)
