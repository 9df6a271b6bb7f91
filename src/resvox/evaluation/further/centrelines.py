"""Centreline Dice (clDice) of tubular structures: whether the connection is found, however thick the tube."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from resvox.errors import EvaluationError

Array = np.ndarray[Any, Any]


def centreline_dice(
    prediction: Array, reference: Array, spacing_mm: Sequence[float]
) -> tuple[tuple[str, float | None], ...]:
    """The harmonic mean of two shares of skeletons (Shit et al., arXiv:2003.07311).

    How much of the prediction's skeleton lies in the reference, and of the reference's in the prediction. None where
    both masks are empty, 0 where one is. Skeletons are those of scikit-image: Zhang's in 2D, Lee's in 3D.

    Raises:
        EvaluationError: scikit-image is not installed.
    """
    if not prediction.any() and not reference.any():
        return (("cldice", None),)
    if not prediction.any() or not reference.any():
        return (("cldice", 0.0),)
    own, true = skeleton(prediction), skeleton(reference)
    precision = np.count_nonzero(own & reference) / np.count_nonzero(own)
    sensitivity = np.count_nonzero(true & prediction) / np.count_nonzero(true)
    total = precision + sensitivity
    return (("cldice", 2 * precision * sensitivity / total if total else 0.0),)


def skeleton(mask: Array) -> Array:
    """The centrelines of a mask that is not empty, as a mask; a blob that vanishes keeps its own voxels."""
    try:
        from skimage.morphology import skeletonize
    except ImportError as error:
        raise EvaluationError(
            "cldice without scikit-image", expected="the extra 'vessels'", fix="pip install 'resvox[vessels]'"
        ) from error
    thin: Any = skeletonize  # not typed in all versions
    found = np.asarray(thin(mask)) > 0
    return found if found.any() else mask
