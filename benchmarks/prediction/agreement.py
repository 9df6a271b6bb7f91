"""How far two label maps of the same scan agree."""

from __future__ import annotations

import numpy as np


def agreement(own: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Fraction of equal voxels, and the least Dice of the foreground labels that either holds."""
    top = int(max(own.max(), reference.max())) + 1
    both = np.bincount(own.ravel().astype(np.int64) * top + reference.ravel(), minlength=top * top).reshape(top, top)
    sizes = both.sum(axis=0) + both.sum(axis=1)
    dice = [2 * both[value, value] / sizes[value] for value in range(1, top) if sizes[value]]
    return float(np.trace(both) / both.sum()), float(min(dice, default=1.0))
