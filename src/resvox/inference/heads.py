"""The last layer of a network, applied after blending instead of in every window.

A 1-wide convolution is linear, and so are blending and interpolation: the weighted mean of logits is the head of the
weighted mean of features, to the rounding of float32. With more classes than features there is less to add, and memory
does not grow with the number of classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A 1-wide convolution: ``weight`` (classes, features) and ``bias`` (classes,), float32."""

    weight: Array
    bias: Array

    @property
    def classes(self) -> int:
        """The number of classes, that is of logits."""
        return len(self.weight)

    def __call__(self, features: Array) -> Array:
        """Logits (classes, *spatial) of features (features, *spatial)."""
        flat = self.weight @ features.reshape(len(features), -1)
        flat += self.bias[:, None]
        return flat.reshape(len(flat), *features.shape[1:])

    def labels(self, features: Array) -> Array:
        """The classes (batch, *roi) with the largest logits for features (batch, features, *roi), slice by slice."""
        labels = np.empty((len(features), *features.shape[2:]), np.intp)
        for sample, place in zip(features, labels, strict=True):
            for index in range(sample.shape[1]):
                place[index] = self(sample[:, index]).argmax(axis=0)
        return labels
