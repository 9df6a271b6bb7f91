"""A whole image at one size: resized in its own box, or cropped and padded around its middle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.errors import PlanError
from resvox.preprocessing import Preprocessing, Window, prepare_whole
from resvox.volumes import Volume

PLAIN = Preprocessing()


def slope(shape, axis):
    """Values that grow linearly along one axis, from 0 at one face of the image to 1 at the other."""
    n = shape[axis]
    line = (np.arange(n) + 0.5) / n
    return np.broadcast_to(line.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape).astype(np.float32)


@given(shape=st.tuples(*[st.integers(8, 20)] * 2), size=st.tuples(*[st.integers(8, 20)] * 2), axis=st.integers(0, 1))
@settings(deadline=None, max_examples=25)
def test_resizing_keeps_the_box_of_the_image(shape, size, axis):
    made = prepare_whole(Volume(slope(shape, axis), spacing_mm=(2.0, 0.7)), PLAIN, size, "resize")
    assert made.shape == (1, *size)
    # away from the faces, where the edge is repeated, a slope stays the same slope
    inner = tuple(slice(3, n - 3) for n in size)
    np.testing.assert_allclose(made[0][inner], slope(size, axis)[inner], atol=2e-3)


@given(shape=st.tuples(*[st.integers(1, 9)] * 3), size=st.tuples(*[st.integers(1, 9)] * 3))
@settings(deadline=None, max_examples=50)
def test_cropping_moves_no_voxel_and_pads_with_the_lowest(shape, size):
    array = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    made = prepare_whole(Volume(array, spacing_mm=(1.0, 1.0, 1.0)), PLAIN, size, "crop")
    assert made.shape == (2, *size)
    back = prepare_whole(Volume(made, spacing_mm=(1.0, 1.0, 1.0)), PLAIN, shape, "crop")
    inner = tuple(
        slice((n - min(n, s)) // 2, (n - min(n, s)) // 2 + min(n, s)) for n, s in zip(shape, size, strict=True)
    )
    shifts = [(n - s) % 2 for n, s in zip(shape, size, strict=True)]
    if not any(shifts):
        np.testing.assert_array_equal(back[(slice(None), *inner)], array[(slice(None), *inner)])
    for channel in range(2):
        low = array[channel].min()
        assert made[channel].min() >= low
        if all(s > n for s, n in zip(size, shape, strict=True)):
            assert made[channel, 0, 0, 0] == low or size[0] == shape[0] + 1


def test_the_preprocessing_comes_first():
    scan = Volume(np.full((4, 4), 500.0), spacing_mm=(1.0, 1.0))
    made = prepare_whole(scan, Preprocessing(normalization=(Window(low=0, high=100),)), (2, 2), "resize")
    np.testing.assert_array_equal(made, np.ones((1, 2, 2)))
    with pytest.raises(PlanError, match=r"fit='squeeze'; expected one of resize, crop"):
        prepare_whole(scan, PLAIN, (2, 2), "squeeze")
