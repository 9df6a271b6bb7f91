"""From the outputs of a bundle's network to its label map, in the order in which the bundle does it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from resvox.cards.outputs import Largest
from resvox.errors import InferenceError
from resvox.inference import labels_from_logits, labels_from_regions
from resvox.inference.decisions import Decision
from resvox.preprocessing import Crop
from resvox.volumes import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from resvox.cards import SegmentationCard
    from resvox.prediction.options import PredictOptions
    from resvox.preprocessing import Prepared

Array = np.ndarray
Made = tuple[Volume, "Volume | None", "Volume | None"]  # label map, probabilities, masks of regions


def decision_of(card: SegmentationCard) -> Decision | None:
    """What is interpolated and compared; None for models that compare logits."""
    rule = card.outputs
    if rule is None:
        return None
    threshold = rule.threshold
    if rule.restored == "probabilities":
        return Decision(activation=rule.activation, threshold=threshold, order=rule.order)
    if threshold is not None and rule.activation == "sigmoid":
        threshold = math.log(threshold / (1 - threshold))  # the logit whose sigmoid is the threshold
    return Decision(threshold=threshold, order=rule.order)


def labels_first(card: SegmentationCard) -> bool:
    """Whether the label map is made on the network's grid, and brought to the scan's."""
    return card.outputs is not None and card.outputs.restored == "labels"


def labels_of(card: SegmentationCard, values_of: Sequence[int]) -> Callable[[Array], Array]:
    """A function from logits (outputs, *spatial) to labels of one type."""
    decision, order = decision_of(card), card.class_order
    kind = np.min_scalar_type(int(max(values_of)))
    table = np.asarray(values_of).astype(kind)

    def of(logits: Array) -> Array:
        compared = logits if decision is None else decision.values(logits)
        if order is not None:
            return labels_from_regions(compared, order)
        labels: Array = table[labels_from_logits(compared)]
        return labels

    return of


def check_options(card: SegmentationCard, options: PredictOptions, path: Path) -> None:
    """Refuse options that a model with its own way to labels does not have.

    Raises:
        InferenceError: naming the option.
    """
    if card.outputs is None:
        return
    names = ("resample", *(("probabilities", "region_masks") if labels_first(card) else ()))
    for name in names:
        if name in options.changed():
            raise InferenceError(
                f"{name}={getattr(options, name)!r} with a model that states how its outputs become labels",
                expected=f"its own way: {card.outputs.restored} are brought to the scan's grid",
                fix=f"leave --{name.replace('_', '-')} out",
                path=path,
            )


def cleaned(labels: Array, card: SegmentationCard, *, on_scan: bool) -> Array:
    """A label map with the largest components of the labels for which that is asked on this grid."""
    for rule in card.outputs.largest if card.outputs is not None else ():
        if rule.on_scan is on_scan:
            labels = _kept(labels, rule)
    return labels


def _kept(labels: Array, rule: Largest) -> Array:
    made, values = labels.copy(), rule.labels or tuple(int(value) for value in np.unique(labels) if value)
    groups = [values] if rule.together else [(value,) for value in values]
    for group in groups:
        mask = np.isin(made, np.asarray(group, made.dtype))
        made[mask & ~_largest(mask, rule)] = 0
    return made


def _largest(mask: Array, rule: Largest) -> Array:
    from scipy.ndimage import generate_binary_structure, label

    reach = min(rule.reach or mask.ndim, mask.ndim)
    components, count = label(mask, generate_binary_structure(mask.ndim, reach))
    if count <= rule.count:
        return mask
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    wanted = np.zeros(len(sizes), np.bool_)
    wanted[np.argsort(sizes)[::-1][: rule.count]] = True
    kept: Array = wanted[components]
    return kept


def finish_whole(
    prepared: Prepared,
    logits: Array,
    card: SegmentationCard,
    values_of: Sequence[int],
    *,
    probabilities: bool,
    masks: bool,
) -> Made:
    """The label map from the logits of a whole scan, for steps that cannot be undone in slices.

    Args:
        prepared: the preprocessed scan, with its steps.
        logits: (outputs, *spatial) on the network's grid.
        card: the model's.
        values_of: the label of every class.
        probabilities: also return (outputs, *source) float32.
        masks: of a model for regions also return one mask per region, (regions, *source) uint8.
    """
    decision = decision_of(card)
    values = logits if decision is None else decision.values(logits)
    for step in reversed(prepared.steps):
        if isinstance(step, Crop):  # outside is 0 for every output
            whole = np.zeros((len(values), *step.source.shape), values.dtype)
            whole[step.box] = values
            values = whole
        else:
            values = step.inverse(values, "scores")
    regions = likely = None
    if card.class_order is not None:
        labels = labels_from_regions(values, card.class_order)
        regions = Volume.on_grid((values > 0).astype(np.uint8), prepared.source) if masks else None
    else:
        labels = np.asarray(values_of).astype(np.min_scalar_type(int(max(values_of))))[labels_from_logits(values)]
    if probabilities:
        found = values if decision is None else decision.probabilities(values)
        likely = Volume.on_grid(np.ascontiguousarray(found, np.float32), prepared.source)
    return Volume.on_grid(np.ascontiguousarray(labels), prepared.source), likely, regions
