"""Labels and probabilities from logits: of labels, of which a voxel has one, or of regions, each by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resvox.errors import InferenceError


def labels_from_logits(logits: np.ndarray) -> np.ndarray:
    """Label map of shape ``(*spatial)`` from logits of shape ``(classes, *spatial)``.

    Several classes: the index of the largest logit (the lowest index on a tie). One class: 1 where the logit
    is above 0, which is where its sigmoid is above 0.5. Type uint8 up to 256 labels, uint16 above.

    Raises:
        InferenceError: no class axis, no classes, or more classes than fit in uint16.
    """
    classes = _class_count(logits)
    if classes == 1:
        positive: np.ndarray = logits[0] > 0
        return positive.astype(np.uint8)
    labels = np.empty(logits.shape[1:], np.uint8 if classes <= 256 else np.uint16)
    for index in range(len(labels)):  # argmax returns int64: slice by slice, so that it is never a whole volume
        labels[index] = logits[:, index].argmax(axis=0)
    return labels


def probabilities_from_logits(logits: np.ndarray) -> np.ndarray:
    """Probabilities (float32) of logits ``(classes, *spatial)``, same shape: softmax, or sigmoid for one class.

    Raises:
        InferenceError: no class axis, no classes, or more classes than fit in uint16.
    """
    if _class_count(logits) == 1:
        return _sigmoid(logits)
    powers: np.ndarray = np.subtract(logits, logits.max(axis=0), dtype=np.float32)
    np.exp(powers, out=powers)  # in place: with many classes each copy of a whole scan is gigabytes
    powers /= powers.sum(axis=0)
    return powers


def labels_from_regions(logits: np.ndarray, class_order: Sequence[int]) -> np.ndarray:
    """Label map (*spatial) from logits of regions (regions, *spatial).

    A region is where its logit is above 0, that is where its sigmoid is above 0.5. Each region writes its value of
    ``class_order``, later ones over earlier ones; elsewhere is 0.

    Raises:
        InferenceError: another number of regions than of values.
    """
    if _class_count(logits) != len(class_order):
        raise InferenceError(
            f"logits of {len(logits)} regions", expected=f"as many as values to write, {len(class_order)}"
        )
    labels = np.zeros(logits.shape[1:], np.min_scalar_type(max(class_order)))
    for logit, value in zip(logits, class_order, strict=True):
        labels[logit > 0] = value
    return labels


def region_probabilities_from_logits(logits: np.ndarray) -> np.ndarray:
    """Probabilities (float32) of regions (regions, *spatial), same shape: the sigmoid of each logit.

    Raises:
        InferenceError: no axis of regions.
    """
    _class_count(logits)
    return _sigmoid(logits)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # The exponent is never positive, so it cannot overflow.
    small = np.exp(-np.abs(logits.astype(np.float32)))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)


def _class_count(logits: np.ndarray) -> int:
    if logits.ndim < 2 or not 1 <= logits.shape[0] <= 65536:
        raise InferenceError(f"logits of shape {logits.shape}", expected="(classes, *spatial) with 1 to 65536 classes")
    return int(logits.shape[0])
