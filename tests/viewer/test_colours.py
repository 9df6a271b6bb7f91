"""Colours: distinct, steady, and apart for colour-blind eyes."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from resvox.viewer import label_colours
from resvox.viewer.colours import rgb

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
BLINDNESS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour, blindness=None):
    """CIE L*a*b* of a colour as seen with a colour blindness."""
    srgb = np.array(rgb(colour))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    if blindness:
        linear = np.clip(np.array(BLINDNESS[blindness]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("blindness", [None, *BLINDNESS])
def test_the_first_five_stay_apart_for_every_eye(blindness):
    colours = list(label_colours("abcde").values())
    for first, second in itertools.combinations(colours, 2):
        assert np.linalg.norm(lab(first, blindness) - lab(second, blindness)) > 20, (first, second)


def test_every_label_has_its_own_colour_up_to_35():
    colours = label_colours([f"label {number}" for number in range(35)])
    assert len(set(colours.values())) == 35
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in colours.values())


def test_the_background_is_black_and_takes_no_turn():
    assert label_colours(["background", "liver"]) == {"background": "#000000", "liver": "#56B4E9"}
    assert label_colours(["liver"])["liver"] == "#56B4E9"
