"""The part of a scan over which calibration is measured."""

from __future__ import annotations

from typing import Any

import numpy as np

MARGIN = 5  # voxels around what is labelled or predicted: far background is always right and shows nothing
Array = np.ndarray[Any, Any]


def box_around(mask: Array) -> tuple[slice, ...]:
    """The smallest box with all of a mask and a margin; the whole array for an empty mask."""
    box = []
    for axis, size in enumerate(mask.shape):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not found.size:
            return tuple(slice(0, each) for each in mask.shape)
        box.append(slice(max(int(found[0]) - MARGIN, 0), min(int(found[-1]) + 1 + MARGIN, size)))
    return tuple(box)
