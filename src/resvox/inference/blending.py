"""Weights of the voxels of a window, for the mean where windows overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.windows import per_axis

MODES = ("constant", "gaussian", "half-gaussian")
HIGHEST = 10  # weight of the centre in "half-gaussian"


def importance_map(
    roi_size: Sequence[int], *, mode: str = "gaussian", sigma_scale: float | Sequence[float] = 0.125
) -> np.ndarray:
    """Weights of one window, shape ``roi_size``, float32, all above 0; the same numbers as MONAI's, or nnU-Net's.

    Args:
        roi_size: the window in voxels.
        mode: ``"constant"`` weights all voxels equally; ``"gaussian"`` gives the centre, where the network has most
            context, the largest weight; ``"half-gaussian"`` is nnU-Net's: around voxel ``size // 2``, 10 there, and
            rounded to float16.
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
    if mode == "half-gaussian":
        return _half_gaussian(tuple(roi_size), scales)
    weights = np.ones((), np.float32)
    for size, scale in zip(roi_size, scales, strict=True):
        offset = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
        bell = np.exp(offset**2 / np.float32(-2 * (size * scale) ** 2))
        weights = weights[..., None] * bell
    # The Gaussian underflows in far corners; a voxel that only a corner covers would be divided by almost 0.
    return np.maximum(weights, np.float32(1e-3))


def _half_gaussian(roi_size: tuple[int, ...], scales: tuple[float, ...]) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    wide = [axis for axis, size in enumerate(roi_size) if size > 1]  # a slice of a volume has the weights of an image
    weights = np.zeros([roi_size[axis] for axis in wide])
    weights[tuple(size // 2 for size in weights.shape)] = 1
    sigmas = [roi_size[axis] * scales[axis] for axis in wide]
    weights = gaussian_filter(weights, sigmas, 0, mode="constant", cval=0)
    weights /= weights.max() / HIGHEST
    rounded: np.ndarray = weights.astype(np.float16)
    rounded[rounded == 0] = rounded[rounded != 0].min()
    return rounded.astype(np.float32).reshape(roi_size)
