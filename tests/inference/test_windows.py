import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from resvox.errors import InferenceError
from resvox.inference.windows import padding, per_axis, window_size, window_starts

AXIS = st.tuples(st.integers(1, 40), st.integers(1, 40), st.floats(0, 0.95))


@settings(deadline=None, max_examples=150)
@given(st.lists(AXIS, min_size=2, max_size=3))
def test_windows_lie_where_monai_puts_them(axes):
    roi = tuple(axis[1] for axis in axes)
    size = tuple(max(axis[:2]) for axis in axes)  # padded up to the window, as both do
    overlap = tuple(axis[2] for axis in axes)
    step = _get_scan_interval(size, roi, len(size), overlap)
    theirs = [tuple(s.start for s in box) for box in dense_patch_slices(size, roi, step)]
    assert window_starts(size, roi, overlap) == theirs


@settings(deadline=None, max_examples=100)
@given(st.lists(AXIS, min_size=2, max_size=2))
def test_windows_cover_every_voxel_inside_the_volume_and_come_sorted(axes):
    roi = tuple(axis[1] for axis in axes)
    size = tuple(max(axis[:2]) for axis in axes)
    starts = window_starts(size, roi, tuple(axis[2] for axis in axes))
    seen = np.zeros(size, int)
    for start in starts:
        assert all(s >= 0 and s + r <= n for s, r, n in zip(start, roi, size, strict=True))
        seen[tuple(slice(s, s + r) for s, r in zip(start, roi, strict=True))] += 1
    assert seen.min() >= 1
    assert starts == sorted(set(starts))  # no window twice, and the first axis never goes back


def test_a_step_is_truncated_as_monai_truncates_it():
    # 10 * (1 - 0.8) is 1.9999999999999996: a step of 1, not 2.
    assert window_starts((13, 10), (10, 10), (0.8, 0.8)) == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_padding_puts_the_odd_voxel_after():
    assert padding((5, 9, 4), (8, 8, 8)) == ((1, 2), (0, 0), (2, 2))


@pytest.mark.parametrize("whole", [None, -1, 0])
def test_a_window_may_span_a_whole_axis(whole):
    assert window_size((16, whole), (40, 33)) == (16, 33)


def test_one_value_serves_every_axis():
    assert window_size(16, (40, 33, 7)) == (16, 16, 16)
    assert per_axis(np.array([0.5, 0.25]), 2, name="overlap") == (0.5, 0.25)


def test_a_window_of_other_rank_is_refused_in_words():
    with pytest.raises(InferenceError) as caught:
        window_size((16, 16), (40, 40, 40))
    assert str(caught.value) == (
        "roi_size=(16, 16) with 2 values; expected 3 values"
        + " for a volume of 3 spatial axes; fix: give roi_size one value, or one for every spatial axis"
        " without the channel axis"
    )
