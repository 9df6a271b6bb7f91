"""Slices handed out as soon as they are final: the numbers of the full buffer, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.errors import InferenceError
from resvox.inference import TwoPasses, sliding_window_inference
from resvox.inference.passes.two_pass import top_two_classes
from resvox.inference.streaming import WindowCount, stream_sliding_window


def classifier(classes):
    """Logits that depend on the place within the window, so that blending has something to blend."""

    def predict(windows):
        total = windows.sum(axis=1)
        ramp = np.cumsum(np.ones(windows.shape[2:], np.float32), axis=-1) / 7
        return np.stack([np.sin(total * (k + 1) + ramp * k) for k in range(classes)], axis=1).astype(np.float32)

    return predict


def assembled(array, predictor, classes, **options):
    whole = np.full((classes, *array.shape[1:]), np.nan, np.float32)
    for each in stream_sliding_window(array, predictor, **options):
        whole[:, each.index, each.start : each.start + each.logits.shape[1]] = each.logits
    return whole


@st.composite
def cases(draw):
    count = draw(st.sampled_from([2, 3]))
    shape = tuple(draw(st.integers(1, 17 if count == 3 else 30)) for _ in range(count))
    roi = tuple(draw(st.integers(1, 9)) for _ in range(count))
    overlap = tuple(draw(st.sampled_from([0.0, 0.25, 0.5, 0.75])) for _ in range(count))
    return {
        "shape": shape,
        "roi_size": roi,
        "overlap": overlap,
        "mode": draw(st.sampled_from(["gaussian", "constant"])),
        "sw_batch_size": draw(st.integers(1, 4)),
        "classes": draw(st.integers(1, 5)),
        "threads": draw(st.integers(1, 2)),
        "ahead": draw(st.booleans()),
        "memory_gb": draw(st.sampled_from([2.5, 1e-6, 1e-12])),
    }


@settings(max_examples=60, deadline=None)
@given(cases())
def test_streaming_is_the_full_buffer_bit_for_bit(case):
    array = np.random.default_rng(0).normal(size=(2, *case.pop("shape"))).astype(np.float32)
    classes = case.pop("classes")
    own = {name: case.pop(name) for name in ("threads", "memory_gb", "ahead")}
    whole = sliding_window_inference(array, classifier(classes), **case)
    streamed = assembled(array, classifier(classes), classes, **own, **case)
    np.testing.assert_array_equal(streamed, whole)


def test_slices_come_in_order_and_as_soon_as_they_are_final():
    array = np.zeros((1, 12, 4, 4), np.float32)
    asked = []

    def predict(windows):
        asked.append(len(windows))
        return np.repeat(windows, 2, axis=1)

    seen = []
    for each in stream_sliding_window(array, predict, roi_size=4, overlap=0.5):
        seen.append((each.index, len(asked)))
    assert [index for index, _ in seen] == list(range(12))
    # windows start at 0, 2, 4, 6, 8: slices 0 and 1 are final when the second window has been computed
    assert seen[:4] == [(0, 2), (1, 2), (2, 3), (3, 3)]


def test_an_error_ahead_is_raised_where_its_windows_are_due():
    computed = []

    def predict(windows):
        computed.append(len(windows))
        if len(computed) == 3:
            raise MemoryError("the card is full")
        return np.repeat(windows, 2, axis=1)

    slices = stream_sliding_window(np.zeros((1, 12, 4, 4), np.float32), predict, roi_size=4, overlap=0.0, ahead=True)
    seen = []
    with pytest.raises(MemoryError, match="the card is full"):
        seen.extend(each.index for each in slices)
    assert len(computed) == 3


def test_no_more_slices_are_held_than_a_window_is_deep():
    from resvox.inference import streaming

    held = []

    class Watched(streaming.SliceSums):
        def add(self, start, logits):
            super().add(start, logits)
            held.append(len(self.sums))

    original, streaming.SliceSums = streaming.SliceSums, Watched
    try:
        list(stream_sliding_window(np.zeros((1, 40, 8, 8), np.float32), classifier(3), roi_size=8, overlap=0.5))
    finally:
        streaming.SliceSums = original
    assert max(held) == 8


def test_a_slab_that_is_too_large_is_done_in_tiles_and_windows_on_borders_are_counted():
    array = np.random.default_rng(0).normal(size=(1, 8, 40, 8)).astype(np.float32)
    count, seen = WindowCount(), []
    options = {"roi_size": 8, "overlap": 0.5}
    slices = stream_sliding_window(
        array, classifier(4), memory_gb=2e-5, count=count, progress=lambda *n: seen.append(n), **options
    )
    assert {each.start for each in slices} == {0, 13, 26}  # a tile begins with the row the last one ended with
    assert (count.windows, count.tiles) == (9, 3)
    assert count.computed > count.windows
    assert seen[-1] == (count.computed, count.computed)


def test_empty_windows_are_passed_over_on_request_and_are_background():
    array = np.full((1, 8, 8, 24), -1.0, np.float32)
    array[..., 18:] = np.random.default_rng(0).normal(size=(1, 8, 8, 6))
    asked = []

    def predict(windows):
        asked.append(len(windows))
        return np.repeat(windows, 3, axis=1) * np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1, 1)

    count = WindowCount()
    options = {"roi_size": 8, "overlap": 0.0}
    array[..., :16] = array.min()
    whole = assembled(array, predict, 3, skip_empty=0.01, count=count, **options)
    assert (sum(asked), count.windows, count.empty, count.computed) == (1, 3, 2, 1)
    assert (whole[..., :16].argmax(axis=0) == 0).all()
    np.testing.assert_array_equal(whole[..., 16:], sliding_window_inference(array, predict, **options)[..., 16:])


def test_of_a_volume_of_nothing_one_window_is_asked_and_the_rest_is_background():
    count = WindowCount()
    array = np.zeros((1, 9, 5, 5), np.float32)
    slices = list(stream_sliding_window(array, classifier(2), roi_size=4, overlap=0.0, skip_empty=0.0, count=count))
    assert [each.index for each in slices] == list(range(9))
    assert (count.computed, count.empty) == (1, count.windows - 1)
    assert all((each.logits.argmax(axis=0) == 0).all() for each in slices[4:])


def test_what_does_not_fit_is_refused():
    array = np.zeros((1, 4, 4, 4), np.float32)
    with pytest.raises(InferenceError, match=r"skip_empty=2; expected a fraction"):
        next(stream_sliding_window(array, classifier(2), roi_size=4, skip_empty=2))
    answers = iter([2, 3])

    def fickle(windows):
        return np.zeros((len(windows), next(answers), *windows.shape[2:]), np.float32)

    with pytest.raises(InferenceError, match=r"a window with 3 classes after windows with 2"):
        list(stream_sliding_window(np.zeros((1, 8, 4, 4), np.float32), fickle, roi_size=4, overlap=0))


@pytest.mark.parametrize("memory_gb", [None, 1e-6])
@pytest.mark.parametrize("passes", [False, True])
def test_the_first_batch_has_the_usual_size_and_no_window_is_computed_twice_for_it(passes, memory_gb):
    array, sizes, count = np.random.default_rng(0).normal(size=(1, 14, 15, 13)).astype(np.float32), [], WindowCount()

    def predict(windows):
        sizes.append(len(windows))
        return classifier(3)(windows)

    options = {"roi_size": 6, "overlap": 0.5, "sw_batch_size": 4}
    two = TwoPasses(top_two=top_two_classes, limit=-1) if passes else None  # below 0 all windows are computed
    streamed = assembled(array, predict, 3, passes=two, memory_gb=memory_gb, count=count, **options)
    assert sizes[0] == 4
    if memory_gb is None:
        assert sum(sizes) == count.computed == count.windows
    np.testing.assert_array_equal(streamed, sliding_window_inference(array, classifier(3), **options))
