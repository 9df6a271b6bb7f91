"""Test-time mirroring: the mean of the outputs for a window and for its mirror images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from resvox.errors import InferenceError

Predictor = Callable[[np.ndarray], np.ndarray]


def mirrored(predictor: Predictor, mirror_axes: Sequence[int], spatial_dims: int) -> Predictor:
    """A predictor that averages ``predictor`` over every subset of flips of the given spatial axes.

    Args:
        predictor: ``(batch, channels, *roi)`` to ``(batch, classes, *roi)``, logits.
        mirror_axes: spatial axes, 0 for the first one after the channels; ``k`` axes cost ``2**k`` passes.
            Use only axes that were mirrored in training, and no axis if labels have a side (left and right lung).
        spatial_dims: 2 or 3.

    Raises:
        InferenceError: an axis that the volume does not have, or one given twice.
    """
    axes = tuple(mirror_axes)
    if len(set(axes)) != len(axes) or not all(0 <= axis < spatial_dims for axis in axes):
        raise InferenceError(
            f"mirror_axes={axes}",
            expected=f"spatial axes, each once, out of {tuple(range(spatial_dims))}",
            fix="count spatial axes from 0, without batch and channels",
        )
    if not axes:
        return predictor
    subsets = flips_of(axes)

    def predict(windows: np.ndarray) -> np.ndarray:
        total = np.array(predictor(windows), np.float32)
        for subset in subsets:
            # A flip is a view with negative strides, which torch cannot take.
            output = predictor(np.ascontiguousarray(np.flip(windows, subset)))
            total += np.flip(output, subset)
        total /= len(subsets) + 1
        return total

    return predict


def flips_of(mirror_axes: Sequence[int]) -> list[tuple[int, ...]]:
    """The axes of (batch, channels, *roi) to flip for each mirror image, in the order in which outputs are added."""
    axes = tuple(mirror_axes)
    return [
        tuple(axis + 2 for axis in subset)
        for count in range(1, len(axes) + 1)
        for subset in itertools.combinations(axes, count)
    ]
