"""Labels that name a side of the body, and the axes that may be mirrored without swapping them."""

from __future__ import annotations

import re
from collections.abc import Sequence

SIDES = {
    "S": ("superior", "inferior", "upper", "lower", "cranial", "caudal"),
    "P": ("anterior", "posterior", "ventral", "dorsal"),
    "L": ("left", "right", "l", "r", "lt", "rt", "lh", "rh", "sin", "dex", "sinister", "dexter"),
}
OPPOSITES = {"I": "S", "A": "P", "R": "L"}


def names_a_side(names: Sequence[str], words: Sequence[str]) -> bool:
    """Whether any label name speaks of a side, e.g. ``left`` in "left lung" or ``l`` in "kidney_L"."""
    for name in names:
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
        tokens = re.split(r"[^a-z]+", spaced)
        # Long words count inside others ("leftlung"); short ones only alone: "l", but not "liver".
        if any(word in tokens or (len(word) > 3 and word in spaced) for word in words):
            return True
    return False


def safe_mirror_axes(names: Sequence[str], orientation: str | None, spatial_dims: int) -> tuple[int, ...]:
    """Axes whose mirroring cannot turn one label into another, judged by the labels' names.

    A dataset with "left lung" and "right lung" must not be mirrored from left to right. Without an
    orientation nobody knows which axis that is, and any named side switches all mirroring off.
    """
    named = {letter for letter, words in SIDES.items() if names_a_side(names, words)}
    if orientation is None:
        return () if named else tuple(range(spatial_dims))
    return tuple(axis for axis, code in enumerate(orientation) if OPPOSITES.get(code, code) not in named)
