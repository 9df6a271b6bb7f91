"""Outlines of masks enclose exactly the mask: every piece, every hole, pieces that touch at a corner."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import label

from resvox.datasets.contours import fill, rings_of

MASKS = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12).flatmap(lambda shape: arrays(bool, shape))


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_rings_enclose_exactly_the_mask(mask):
    rings = rings_of(mask)
    np.testing.assert_array_equal(fill([ring - 0.5 for ring in rings], mask.shape), mask)
    assert len(rings) == label(mask)[1]  # one per piece, 4-connected
    assert all(len(ring) >= 4 for ring in rings)


@settings(max_examples=50, deadline=None)
@given(MASKS, st.floats(-0.4, 0.4), st.floats(-0.4, 0.4))
def test_a_shift_of_less_than_half_a_pixel_changes_nothing(mask, down, right):
    rings = [ring - 0.5 + np.array([down, right]) for ring in rings_of(mask)]
    np.testing.assert_array_equal(fill(rings, mask.shape), mask)


def test_a_ring_goes_round_a_disc_with_a_hole_once_and_through_a_channel():
    rows, columns = np.mgrid[:40, :40]
    far = np.hypot(rows - 20, columns - 20)
    (ring,) = rings_of((far < 18) & (far > 6))
    area = 0.5 * abs(np.dot(ring[:, 0], np.roll(ring[:, 1], 1)) - np.dot(ring[:, 1], np.roll(ring[:, 0], 1)))
    assert area == ((far < 18) & (far > 6)).sum()


def test_rings_of_one_slice_combine_by_exclusive_or():
    outer = np.array([[0, 0], [0, 8], [8, 8], [8, 0]]) - 0.5
    inner = np.array([[2, 2], [2, 5], [5, 5], [5, 2]]) - 0.5
    found = fill([outer, inner], (10, 10))
    assert found.sum() == 64 - 9
    assert not found[3, 3]


def test_a_ring_beyond_the_image_fills_what_lies_inside():
    assert fill([np.array([[-5, -5], [-5, 20], [20, 20], [20, -5]]) - 0.5], (4, 6)).all()
