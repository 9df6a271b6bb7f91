"""What TotalSegmentator removes of label maps after the network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resvox.prediction.totalsegmentator.table import Cleaning


def cleaned(
    labels: np.ndarray, rules: Iterable[Cleaning], values: Mapping[str, int], spacing_mm: tuple[float, ...]
) -> np.ndarray:
    """A label map without components that are too small.

    Components touch at faces. Of several of the largest size the first one in the order x, y, z is kept.

    Args:
        labels: (z, y, x); it is changed.
        rules: what is removed, one after the other.
        values: of the labels.
        spacing_mm: of the label map.
    """
    from scipy.ndimage import label

    for rule in rules:
        mask = labels == values[rule.label]
        components, count = label(mask.T)
        if count == 0:
            continue
        sizes = np.bincount(components.ravel())
        if rule.up_to_mm3 is None:
            sizes[0] = 0
            keep = np.zeros(len(sizes), bool)
            keep[sizes.argmax()] = True
        else:
            keep = sizes > rule.up_to_mm3 / np.prod(np.asarray(spacing_mm, np.float32))
        labels[mask & ~keep[components.T]] = 0
    return labels
