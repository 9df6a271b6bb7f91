"""Copies that a large scan cannot afford: 512 x 512 x 800 voxels are 0.84 GB in float32, 1.7 GB in float64."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from resvox.preprocessing import Preprocessing, Window, ZScore
from resvox.volumes import Volume

FLOAT32_BYTES = 4
SLACK_BYTES = 200_000  # small arrays and Python's own


def peak_bytes_of(call: Callable[[], object]) -> int:
    """The most that numpy and Python held at once during a call, beyond what was there before."""
    call()  # modules that are imported on the first call are not part of it
    tracemalloc.start()
    try:
        result = call()
        del result
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def a_scan(channels: int = 1) -> Volume:
    array = np.random.default_rng(0).normal(100, 50, (channels, 40, 64, 64)).astype(np.float32)
    return Volume(array, spacing_mm=(2.0, 1.0, 1.0), direction=[[0, 0, -1], [0, -1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("rule", "bytes_a_voxel"),
    [(Window(low=-100, high=300), 4), (ZScore(), 4), (ZScore(nonzero_only=True), 6)],
    ids=["window", "zscore", "nonzero"],
)
def test_a_scan_is_copied_once_when_it_is_normalized(rule: Window | ZScore, bytes_a_voxel: int) -> None:
    scan = a_scan()
    preprocessing = Preprocessing(orientation="SPL", normalization=(rule,))
    peak = peak_bytes_of(lambda: preprocessing.apply(scan))
    assert peak <= bytes_a_voxel * scan.array.size + SLACK_BYTES


def test_one_more_channel_at_a_time_is_held_when_several_are_prepared() -> None:
    scan = a_scan(channels=4)
    voxels = scan.array[0].size
    preprocessing = Preprocessing(orientation="SPL", normalization=(Window(low=-100, high=300),) * 4)
    peak = peak_bytes_of(lambda: preprocessing.apply(scan))
    assert peak <= (4 + 1) * FLOAT32_BYTES * voxels + SLACK_BYTES


def test_scores_are_restored_class_by_class() -> None:
    scan = a_scan()
    prepared = Preprocessing(spacing_mm=(2.0, 2.0, 2.0), normalization=(ZScore(),)).apply(scan)
    scores = np.zeros((6, *prepared.grid.shape), np.float32)
    peak = peak_bytes_of(lambda: prepared.restore_scores(scores))
    assert peak <= (6 + 1) * FLOAT32_BYTES * scan.array.size + SLACK_BYTES


def test_labels_are_restored_beside_two_weights_a_voxel_and_a_slab_of_one_more() -> None:
    scan = a_scan()
    prepared = Preprocessing(spacing_mm=(2.0, 2.0, 2.0), normalization=(ZScore(),)).apply(scan)
    labels = np.zeros(prepared.grid.shape, np.uint8)
    labels[:, :, :16] = 1
    labels[:, :, 16:] = 2
    peak = peak_bytes_of(lambda: prepared.restore_labels(labels))
    one_byte_each = 2  # the answer, and where a label is stronger
    a_slab = 1  # of a weight and its steps, an eighth of the scan
    assert peak <= (one_byte_each + 2 * FLOAT32_BYTES + a_slab) * scan.array.size + SLACK_BYTES
