"""Volumes in radiological orientation, whatever their axes were, and the selection of slices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from resvox.viewer.slices import display_window, most_informative_slice, to_radiological
from resvox.volumes import Volume

UPRIGHT = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # axes to I, P, L


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
@pytest.mark.parametrize("flips", itertools.product([1, -1], repeat=3))
def test_axes_in_any_order_and_sense_come_upright(order, flips):
    shown = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    array, direction = np.transpose(shown, order), UPRIGHT[:, order] * np.array(flips)
    for axis, sense in enumerate(flips):
        if sense < 0:
            array = np.flip(array, axis)
    spacing = np.array([6.0, 2.0, 3.0])
    volume = Volume(array, spacing_mm=tuple(spacing[list(order)]), direction=direction)
    turned, spacing_mm = to_radiological(volume)
    np.testing.assert_array_equal(turned, shown)
    assert spacing_mm == (6.0, 2.0, 3.0)


def test_an_oblique_scan_follows_its_nearest_axes():
    angle = np.deg2rad(44)
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    shown = np.arange(24).reshape(2, 3, 4)
    turned, _ = to_radiological(Volume(shown, spacing_mm=(1.0, 1.0, 1.0), direction=tilt @ UPRIGHT))
    np.testing.assert_array_equal(turned, shown)


def test_of_several_channels_the_first_is_shown():
    stacked = np.stack([np.zeros((2, 3)), np.ones((2, 3))])
    array, _ = to_radiological(Volume(stacked, spacing_mm=(1.0, 1.0)))
    assert array.shape == (2, 3)
    assert not array.any()


def test_a_small_label_counts_as_much_as_a_large_one():
    labels = np.zeros((10, 50, 50), np.uint8)
    labels[2:9] = 1
    labels[7, 3, 3] = 2
    assert most_informative_slice([labels], 0, 10) == 7
    assert most_informative_slice([np.zeros((10, 5, 5))], 0, 10) == 5
    assert most_informative_slice([], 0, 9) == 4


def test_the_display_window_leaves_padding_and_nonsense_out():
    array = np.linspace(-100, 200, 1000)
    padded = np.concatenate([array, np.full(5000, -3024.0), [np.nan, np.inf]])
    low, high = display_window(padded)
    assert -101 < low < -90
    assert 190 < high < 201
    assert display_window(np.full(5, np.nan)) == (0, 1)
    low, high = display_window(np.full(5, 3.0))
    assert high > low
