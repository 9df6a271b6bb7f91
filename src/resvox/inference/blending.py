"""Weights of the voxels of a window, for the mean where windows overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.windows import per_axis

MODES = ("constant", "gaussian")


def importance_map(
    roi_size: Sequence[int], *, mode: str = "gaussian", sigma_scale: float | Sequence[float] = 0.125
) -> np.ndarray:
    """Weights of one window, shape ``roi_size``, float32, all above 0; the same numbers as MONAI's.

    Args:
        roi_size: the window in voxels.
        mode: ``"constant"`` weights all voxels equally; ``"gaussian"`` gives the centre, where the network has most
            context, the largest weight.
        sigma_scale: the Gaussian's standard deviation as a fraction of the window, one value, or one per axis.

    Raises:
        InferenceError: unknown ``mode``, or a ``sigma_scale`` that is not positive.
    """
    if mode not in MODES:
        raise InferenceError(f"mode={mode!r}", expected=" or ".join(map(repr, MODES)))
    if mode == "constant":
        return np.ones(tuple(roi_size), np.float32)
    scales = per_axis(sigma_scale, len(roi_size), name="sigma_scale")
    if not all(scale > 0 for scale in scales):
        raise InferenceError(f"sigma_scale={sigma_scale}", expected="numbers above 0, e.g. 0.125")
    weights = np.ones((), np.float32)
    for size, scale in zip(roi_size, scales, strict=True):
        offset = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
        bell = np.exp(offset**2 / np.float32(-2 * (size * scale) ** 2))
        weights = weights[..., None] * bell
    # The Gaussian underflows in far corners; a voxel that only a corner covers would be divided by almost 0.
    return np.maximum(weights, np.float32(1e-3))
