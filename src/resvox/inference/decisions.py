"""What outputs are compared as, before they are interpolated: logits, or probabilities; and with which threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.reduction import probabilities_from_logits, region_probabilities_from_logits

ACTIVATIONS = ("none", "softmax", "sigmoid")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Values of which the largest, or each that is above 0, decides on a voxel's label.

    The interpolated probabilities of neighbours may have another largest class than their interpolated logits, so a
    model whose results are to be those of another program decides as that program does.

    Args:
        activation: "softmax" or "sigmoid" where probabilities are interpolated, "none" where logits are.
        threshold: of outputs that are decided one by one, in the same units: a voxel belongs where it is reached.
        order: the outputs in the order in which they are written, later over earlier ones; empty keeps the network's.
    """

    activation: str = "none"
    threshold: float | None = None
    order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise InferenceError(f"activation={self.activation!r}", expected=" or ".join(map(repr, ACTIVATIONS)))

    def values(self, logits: np.ndarray) -> np.ndarray:
        """(outputs, *spatial) float32 of logits: the same, or probabilities, above the threshold where positive."""
        found = logits[list(self.order)] if self.order else logits
        if self.activation == "softmax":
            found = probabilities_from_logits(found)
        elif self.activation == "sigmoid":
            found = region_probabilities_from_logits(found)
        return found if self.threshold is None else found - self._below

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """Probabilities of (interpolated) values."""
        found = values if self.threshold is None else values + self._below
        if self.activation != "none":
            return found
        one_by_one = self.threshold is not None
        return region_probabilities_from_logits(found) if one_by_one else probabilities_from_logits(found)

    @property
    def _below(self) -> np.float32:
        """The next number below the threshold, so that what reaches the threshold is above 0."""
        return np.float32(np.nextafter(np.float32(self.threshold or 0.0), np.float32(-np.inf)))
