"""Regions on the scan's grid from slices of logits: as if each logit were brought there and then compared with 0."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference.test_restoring import prepared_scan, scans, smooth_predictor

from resvox.errors import InferenceError
from resvox.inference import (
    RegionRestorer,
    labels_from_regions,
    region_probabilities_from_logits,
    restore_labels_first,
    sliding_window_inference,
)
from resvox.inference.engines.agreement import LabelAgreement, region_labels
from resvox.inference.streaming import stream_sliding_window


def by_brute_force(logits, class_order):
    """Voxel by voxel, with probabilities."""
    labels = np.zeros(logits.shape[1:], np.int64)
    for place in np.ndindex(*labels.shape):
        for region, value in enumerate(class_order):
            if 1 / (1 + np.exp(-np.float64(logits[(region, *place)]))) > 0.5:
                labels[place] = value
    return labels


ORDERS = st.lists(st.integers(1, 300), min_size=1, max_size=4)


@given(order=ORDERS, seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_later_regions_overwrite_earlier_ones(order, seed):
    logits = np.random.default_rng(seed).normal(size=(len(order), 3, 4)).astype(np.float32)
    labels = labels_from_regions(logits, order)
    np.testing.assert_array_equal(labels, by_brute_force(logits, order))
    assert labels.dtype == (np.uint8 if max(order) < 256 else np.uint16)


def test_another_number_of_regions_is_refused():
    with pytest.raises(InferenceError, match="logits of 2 regions; expected as many as values to write, 3"):
        labels_from_regions(np.zeros((2, 4, 4)), (1, 2, 3))


def test_probabilities_are_sigmoids_that_do_not_overflow():
    logits = np.array([[-1e4, -1.0, 0.0, 1.0, 1e4]] * 2, np.float32)
    np.testing.assert_allclose(
        region_probabilities_from_logits(logits)[0], [0, 0.2689414, 0.5, 0.7310586, 1], rtol=1e-6
    )


@given(scan=scans(), order=ORDERS, threads=st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=60)
def test_regions_are_those_of_interpolated_logits(scan, order, threads):
    prepared = prepared_scan(scan)[1]
    predictor, roi = smooth_predictor(len(order)), (5,) * len(scan["shape"])
    slices = stream_sliding_window(prepared.array, predictor, roi_size=roi, overlap=0.5, memory_gb=1e-6)
    restorer = RegionRestorer(prepared, class_order=order, probabilities=True, masks=True, threads=threads)
    labels, chances, masks = restorer.restore(slices)
    logits = sliding_window_inference(prepared.array, predictor, roi_size=roi, overlap=0.5)
    # Outside of a crop no region is: a logit of -9 there.
    inside = prepared.restore_labels(np.ones(prepared.grid.shape, np.uint8)).array > 0
    whole = np.where(inside, prepared.restore_scores(logits).array, -9)
    sure = (np.abs(whole) > 1e-4).all(axis=0)  # at 0 the two differ by rounding
    np.testing.assert_array_equal(labels.array[sure], labels_from_regions(whole, order)[sure])
    np.testing.assert_array_equal(masks.array[:, sure].astype(bool), whole[:, sure] > 0)
    likely = prepared.restore_scores(region_probabilities_from_logits(logits)).array
    np.testing.assert_allclose(chances.array[:, inside], likely[:, inside], atol=1e-5)
    assert not chances.array[:, ~inside].any()
    assert labels.grid == masks.grid == chances.grid == prepared.source


@given(scan=scans(), order=ORDERS)
@settings(deadline=None, max_examples=20)
def test_labels_first_are_those_of_the_network_s_grid(scan, order):
    prepared = prepared_scan(scan)[1]
    predictor, roi = smooth_predictor(len(order)), (5,) * len(scan["shape"])
    slices = stream_sliding_window(prepared.array, predictor, roi_size=roi, overlap=0.5)
    found = restore_labels_first(prepared, slices, lambda logits: labels_from_regions(logits, order))
    logits = sliding_window_inference(prepared.array, predictor, roi_size=roi, overlap=0.5)
    expected = prepared.restore_labels(labels_from_regions(logits, order))
    assert np.mean(found.array != expected.array) < 0.01  # a logit at 0 may differ by rounding


def test_voxels_of_skipped_windows_have_no_region():
    array = np.zeros((1, 16, 8, 8), np.float32)
    array[:, 8:] = np.random.default_rng(0).normal(size=(1, 8, 8, 8))
    everywhere = lambda windows: np.ones((len(windows), 2, *windows.shape[2:]), np.float32)  # noqa: E731
    for independent in (True, False):
        slices = stream_sliding_window(
            array, everywhere, roi_size=8, overlap=0, skip_empty=0.0, independent=independent
        )
        logits = np.stack([each.logits for each in slices], axis=1)
        assert (labels_from_regions(logits[:, 8:], (1, 2)) == 2).all()
        assert (labels_from_regions(logits[:, :8], (1, 2)) == 0).all() == independent


def test_the_guard_compares_the_label_maps_that_are_written():
    measure = LabelAgreement(region_labels((1, 2)))
    expected = np.array([[[[1.0, 1.0, -1.0, -1.0]], [[1.0, -1.0, -1.0, -1.0]]]])
    assert measure.can_tell(expected, expected)
    assert not measure.can_tell(expected, -np.abs(expected))
    labels = measure.expected(lambda windows: windows, expected)
    np.testing.assert_array_equal(labels, [[[2, 1, 0, 0]]])
    other = expected * np.array([5.0, 0.1]).reshape(1, 2, 1, 1)
    assert measure.difference(other, labels) == 0  # the largest logit is another one, the regions are the same
    hidden = expected.copy()
    hidden[0, 0, 0, 0] = -1  # the first region changes under the second one
    assert measure.difference(hidden, labels) == 0
    hidden[0, 0, 0, 1] = -1
    assert measure.difference(hidden, labels) == 0.25
