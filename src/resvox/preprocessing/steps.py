"""The interface of a geometric step: arrays from its source grid to its target grid, and back."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from resvox.volumes import Grid

Kind = Literal["image", "labels", "scores"]
Array = npt.NDArray[Any]


class Step(Protocol):
    """One step of a preprocessing with all its numbers resolved for one case.

    Arrays have a channel axis in front of the spatial axes: (channels, *spatial). ``kind`` is the meaning of the
    values: intensities of an image, label values (never interpolated), or one score per class.
    """

    @property
    def source(self) -> Grid:
        """The grid of the input."""
        ...

    @property
    def target(self) -> Grid:
        """The grid of the output."""
        ...

    def forward(self, array: Array, kind: Kind) -> Array:
        """From the source grid to the target grid."""
        ...

    def inverse(self, array: Array, kind: Kind) -> Array:
        """From the target grid back to the source grid."""
        ...


def background_fill(array: Array, kind: Kind) -> Array:
    """The value of background, one per channel, shape (channels, 1, ...).

    Labels: 0. Images: the lowest value of the channel, which is air or dark in every modality. Scores: the
    highest of all scores for class 0 and the lowest for the other classes, so that an argmax is background
    for logits and for probabilities; a single channel gets its lowest value.
    """
    axes = tuple(range(1, array.ndim))
    if kind == "labels":
        return np.zeros((len(array), *(1 for _ in axes)), array.dtype)
    fill: Array = array.min(axis=axes, keepdims=True)
    if kind == "scores" and len(array) > 1:
        fill[0] = array.max()
    return fill
