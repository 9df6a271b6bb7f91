"""Two passes: the full computation to the bit where all windows are computed, and bounded memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference.test_streaming import assembled, cases, classifier

from resvox.inference import sliding_window_inference
from resvox.inference.comparison import LabelComparison
from resvox.inference.passes.covering import covering, covering_windows
from resvox.inference.passes.label_changes import ChangeRates
from resvox.inference.passes.two_pass import Measured, TwoPasses, TwoPassTile, top_two_classes, top_two_of_regions
from resvox.inference.reduction import labels_from_regions
from resvox.inference.streaming import WindowCount, stream_sliding_window
from resvox.inference.windows import window_starts

ALL, SOME, NONE = -1.0, 1.0, 1e9  # limits: every window is computed, those in doubt, only those of the first pass


def passes(limit: float) -> TwoPasses:
    return TwoPasses(top_two=top_two_classes, limit=limit)


class Fixed(ChangeRates):
    """What is counted on a scan is forgotten, as less of it is seen where windows are left out."""

    def add(self, labels, runners_up, bins, after):
        pass


@settings(max_examples=60, deadline=None)
@given(cases())
def test_all_windows_give_the_full_computation_bit_for_bit(case):
    array = np.random.default_rng(0).normal(size=(2, *case.pop("shape"))).astype(np.float32)
    classes = case.pop("classes")
    own = {name: case.pop(name) for name in ("threads", "memory_gb", "ahead")}
    whole = sliding_window_inference(array, classifier(classes), **case)
    streamed = assembled(array, classifier(classes), classes, passes=passes(ALL), **own, **case)
    np.testing.assert_array_equal(streamed, whole)


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([NONE, 100.0, 10.0]))
def test_labels_do_not_depend_on_threads_batches_or_chance(case, limit):
    array = np.random.default_rng(1).normal(size=(2, *case.pop("shape"))).astype(np.float32)
    classes = case.pop("classes")
    memory = case.pop("memory_gb")
    own = {name: case.pop(name) for name in ("threads", "ahead", "sw_batch_size")}
    options = {**case, "memory_gb": memory}
    one = assembled(array, classifier(classes), classes, passes=passes(limit), **options)
    assert np.isfinite(one).all()
    again = assembled(array, classifier(classes), classes, passes=passes(limit), **options, **own)
    np.testing.assert_array_equal(again, one)


@settings(max_examples=40, deadline=None)
@given(cases(), st.sampled_from([NONE, 100.0, 10.0]))
def test_what_is_measured_is_what_a_run_at_that_limit_changes(case, limit):
    array = np.random.default_rng(2).normal(size=(2, *case.pop("shape"))).astype(np.float32)
    classes = case.pop("classes")
    measured = Measured(limit=limit)
    trial = TwoPasses(top_two=top_two_classes, measured=[measured], change_rates=Fixed())
    case["memory_gb"] = None  # tiles share a row, which would be counted twice
    full = assembled(array, classifier(classes), classes, passes=trial, **case)
    count = WindowCount()
    alone = TwoPasses(top_two=top_two_classes, limit=limit, change_rates=Fixed())
    own = assembled(array, classifier(classes), classes, passes=alone, count=count, **case)
    compared = LabelComparison()
    compared.add(own.argmax(axis=0), full.argmax(axis=0))
    assert measured.labels.difference() == compared.difference()
    assert (measured.computed, measured.computed + count.left_out) == (count.computed, count.windows)


@given(st.integers(1, 40), st.integers(1, 12), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
@settings(max_examples=80, deadline=None)
def test_covering_windows_are_the_fewest_that_leave_no_gap(size, side, overlap):
    size = max(size, side)
    starts = sorted({start for (start,) in window_starts((size,), (side,), (overlap,))})
    chosen = covering(starts, side)

    def least_overlap(some):
        return min((a + side - b for a, b in itertools.pairwise(some)), default=side)

    assert set(chosen) <= set(starts)
    assert (chosen[0], chosen[-1]) == (starts[0], starts[-1])
    assert least_overlap(chosen) >= 0
    if len(starts) <= 10:
        inner = starts[1:-1]
        ways = [
            sorted({starts[0], *some, starts[-1]})
            for count in range(len(inner) + 1)
            for some in itertools.combinations(inner, count)
        ]
        able = [way for way in ways if least_overlap(way) >= 0]
        fewest = min(map(len, able))
        assert len(chosen) == fewest
        assert least_overlap(chosen) == max(least_overlap(way) for way in able if len(way) == fewest)


def test_covering_windows_are_windows():
    starts = window_starts((20, 9, 14), (8, 9, 6), (0.5, 0.5, 0.5))
    chosen = covering_windows(starts, (8, 9, 6))
    assert chosen <= set(starts)
    seen = np.zeros((20, 9, 14), bool)
    for z, y, x in chosen:
        seen[z : z + 8, y : y + 9, x : x + 6] = True
    assert seen.all()
    assert len(chosen) == 3 * 1 * 3 < len(starts)


def sure(windows):
    """Two classes, by the sign of the voxel, a hundred logits apart."""
    return np.concatenate([-100 * windows, 100 * windows], axis=1)


def test_a_network_that_is_sure_is_asked_for_the_covering_windows_alone():
    array = np.where(np.random.default_rng(0).random((1, 16, 16, 16)) > 0.5, 1, -1).astype(np.float32)
    count, seen = WindowCount(), []
    options = {"roi_size": 8, "overlap": 0.5}
    own = assembled(
        array, sure, 2, passes=passes(SOME), count=count, progress=lambda *each: seen.append(each), **options
    )
    assert (count.windows, count.computed, count.left_out) == (27, 8, 19)
    assert seen[-1] == (27, 27)
    np.testing.assert_array_equal(own.argmax(0), sliding_window_inference(array, sure, **options).argmax(0))


def test_windows_are_computed_where_a_class_leads_by_little():
    array = np.ones((1, 8, 8, 64), np.float32)
    array[..., 44:52] = 0.001  # 0.2 of a logit apart
    count = WindowCount()
    assembled(array, sure, 2, roi_size=8, overlap=0.5, passes=passes(SOME), count=count)
    # windows begin at 0, 4, ..., 56; every second one covers, and of the others the one at 44 meets these voxels
    assert (count.windows, count.computed) == (15, 8 + 1)


def test_where_windows_of_air_are_skipped_the_others_still_cover_the_rest():
    array = np.full((1, 8, 8, 40), -1.0, np.float32)
    array[..., 20:30] = np.random.default_rng(0).normal(size=(1, 8, 8, 10))
    options = {"roi_size": 8, "overlap": 0.5, "skip_empty": 0.01}
    full = assembled(array, sure, 2, **options)
    own = assembled(array, sure, 2, passes=passes(NONE), **options)
    np.testing.assert_array_equal(own.argmax(0), full.argmax(0))


@pytest.mark.parametrize("classes", [2, 5])
def test_leads_of_classes_are_the_first_the_second_and_their_difference(classes):
    logits = np.random.default_rng(0).permutation(classes * 42).reshape(classes, 6, 7).astype(np.float32)
    order, top = np.argsort(logits, axis=0), top_two_classes(logits)
    np.testing.assert_array_equal(top.labels, order[-1])
    np.testing.assert_array_equal(top.runners_up, order[-2])
    np.testing.assert_array_equal(top.margins, np.sort(logits, axis=0)[-1] - np.sort(logits, axis=0)[-2])


def test_the_lead_of_a_single_class_is_its_distance_from_the_threshold_and_of_equal_ones_0():
    top = top_two_classes(np.array([[-3.0, 0.5, 0.0]], np.float32))
    assert (top.labels.tolist(), top.runners_up.tolist(), top.margins.tolist()) == (
        [0, 1, 0],
        [1, 0, 1],
        [3.0, 0.5, 0.0],
    )
    equal = top_two_classes(np.array([[1.0], [2.0], [2.0]], np.float32))
    assert (equal.labels.tolist(), equal.runners_up.tolist(), equal.margins.tolist()) == ([1], [2], [0.0])


def test_the_lead_of_regions_is_that_of_the_nearest_threshold():
    top = top_two_of_regions(
        np.array([[-3.0, 0.5], [2.0, -1.0]], np.float32), lambda logits: labels_from_regions(logits, [1, 2])
    )
    assert (top.labels.tolist(), top.runners_up.tolist(), top.margins.tolist()) == ([2, 1], [0, 0], [2.0, 0.5])


@pytest.mark.parametrize("measured", [(), (0.001, 0.1)])
def test_memory_is_what_the_tiles_were_planned_for(measured, monkeypatch):
    held = []
    original = TwoPassTile._second_pass

    def watched(self, row):
        sums = [self.sums, *(each for _, each, _ in self.trials)]
        arrays = [each for one in sums for each in one.sums.values()]
        held.append(sum(each.nbytes for each in [*arrays, *self.held.values()]))
        original(self, row)

    monkeypatch.setattr(TwoPassTile, "_second_pass", watched)
    array = np.random.default_rng(0).normal(size=(1, 40, 48, 24)).astype(np.float32)
    plan = TwoPasses(top_two=top_two_classes, limit=0.01, measured=[Measured(limit=each) for each in measured])
    count = WindowCount()
    limit = 5 * 8 * 24 * 48 * 4 * 1.5  # bytes: less than the sums and the outputs of the first pass take
    for _ in stream_sliding_window(
        array, classifier(5), roi_size=8, overlap=0.5, passes=plan, memory_gb=limit / 1e9, count=count
    ):
        pass
    assert count.tiles > 1
    assert max(held) <= limit


def test_windows_without_contrast_are_computed_once_and_give_the_same_bits():
    array = np.full((2, 8, 8, 40), -1.0, np.float32)
    array[1, ..., 16:] = 0.5
    array[:, ..., 28:] = np.random.default_rng(0).normal(size=(2, 8, 8, 12))
    asked = []

    def predict(windows):
        asked.append(len(windows))
        return classifier(3)(windows)

    count = WindowCount()
    options = {"roi_size": 8, "overlap": 0.5}
    own = assembled(array, predict, 3, constant_once=True, count=count, **options)
    np.testing.assert_array_equal(own, sliding_window_inference(array, classifier(3), **options))
    # windows begin at 0, 4, ..., 32: those at 0 to 8 are air, those at 16 and 20 have the second value
    assert (count.repeated, len(asked), count.windows) == (3, 6, 9)
