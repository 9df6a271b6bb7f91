"""The temperature of a segmentation, by which logits are divided so that probabilities are calibrated.

One number, fitted on validation cases (Guo et al., arXiv:1706.04599). Labels do not change by it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from resvox.evaluation.calibration.boxes import box_around

Array = np.ndarray[Any, Any]
TEMPERATURES = np.geomspace(0.2, 20.0, 47)  # 10 % apart; the minimum is found between them
VOXELS = 20_000  # of a case, at most


def losses_of_case(logits: Array, reference: Array, members: Array, *, is_softmax: bool) -> Array:
    """The negative log-likelihood of a case at each of `TEMPERATURES`, summed over voxels, and their number behind it.

    Args:
        logits: (outputs, *spatial).
        reference: (*spatial) class indices; those after the last are ignored.
        members: (labels, targets) whether a class index belongs to a target.
        is_softmax: whether outputs are labels, of which a voxel has one; otherwise each is a target of its own.
    """
    found = np.zeros(len(TEMPERATURES) + 1)
    predicted = logits.argmax(axis=0) > 0 if is_softmax and len(logits) > 1 else (logits > 0).any(axis=0)
    known = reference < len(members)
    box = box_around(predicted | (known & (reference > 0)))
    flat, truth, valid = (
        logits[(slice(None), *box)].reshape(len(logits), -1),
        reference[box].ravel(),
        known[box].ravel(),
    )
    places = np.flatnonzero(valid)
    places = places[:: max(1, -(-len(places) // VOXELS))]
    if not len(places):
        return found
    sample, truth = flat[:, places].astype(np.float64), truth[places]
    of = _softmax_losses if is_softmax and len(logits) > 1 else _sigmoid_losses
    wanted = truth if of is _softmax_losses else _targets(truth, members, len(logits))
    found[:-1] = [of(sample / temperature, wanted) for temperature in TEMPERATURES]
    found[-1] = len(places)
    return found


def best_temperature(losses: Array) -> float | None:
    """The temperature with the lowest loss; None where no voxel was seen. Sums of several cases are added before.

    Between the tried temperatures a parabola through three neighbours (in the logarithm) has its minimum.
    """
    if losses[-1] <= 0 or not np.isfinite(losses).all():
        return None
    sums, at = losses[:-1], int(losses[:-1].argmin())
    shift = 0.0
    if 0 < at < len(sums) - 1:
        low, mid, high = sums[at - 1 : at + 2]
        bend = low - 2 * mid + high
        shift = float(0.5 * (low - high) / bend) if bend > 0 else 0.0
    step = np.log(TEMPERATURES[1] / TEMPERATURES[0])
    return round(float(TEMPERATURES[at] * np.exp(shift * step)), 4)


def _softmax_losses(logits: Array, truth: Array) -> float:
    highest = logits.max(axis=0)
    total = highest + np.log(np.exp(logits - highest).sum(axis=0))
    return float((total - np.take_along_axis(logits, truth[np.newaxis].astype(np.intp), axis=0)[0]).sum())


def _sigmoid_losses(logits: Array, truth: Array) -> float:
    return float((np.logaddexp(0, logits) - logits * truth).sum())


def _targets(truth: Array, members: Array, outputs: int) -> Array:
    """(outputs, voxels) 0 or 1: of a network with one output the foreground, else each target."""
    found: Array = members[truth].T
    return (truth > 0)[np.newaxis] if outputs == 1 and len(found) != 1 else found
