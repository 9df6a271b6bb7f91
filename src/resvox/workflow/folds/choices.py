"""Which post-processing helps, judged on predictions out of fold alone: no case is judged by a network that saw it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.cards.postprocessing import LabelRule
from resvox.prediction.postprocessing.rules import apply_rules, box_of, chosen, components_of, holes_of
from resvox.workflow.folds.out_of_fold import Predicted, label_set, members

if TYPE_CHECKING:
    from resvox.datasets.segmentation import Dataset

SIZES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)  # mm³ or mm²
LEAST_GAIN = 0.001  # of a label's mean Dice
LEAST_CASES = 3  # fewer show nothing
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The rules that were chosen, and the mean Dice out of fold of each label without and with them.

    A label that neither prediction nor reference has counts as 1 here, so that removing what is not there is a gain.
    """

    rules: tuple[LabelRule, ...]
    before: dict[str, float]
    after: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "rules": [rule.to_dict() for rule in self.rules],
            "dice_without": {name: round(value, 6) for name, value in self.before.items()},
            "dice_with": {name: round(value, 6) for name, value in self.after.items()},
        }


def choose_rules(dataset: Dataset, predicted: Sequence[Predicted], say: Callable[[str], None]) -> Choice:
    """For each label the rule with the highest mean Dice out of fold, where it helps; then all of them together.

    A rule is taken if the mean rises by `LEAST_GAIN` and more cases become better than worse. What is taken must raise
    the mean over all labels when it is applied, or nothing is.
    """
    labels = label_set(dataset).scored
    tables = {name: [_case_table(each, dataset, values) for each in predicted] for name, values in labels.items()}
    rules = []
    for name, values in labels.items():
        rows = [
            row for each, row in zip(predicted, tables[name], strict=True) if name in dataset.labelled_with(each.case)
        ]
        rule = _best(values, rows)
        if rule is not None:
            say(f"post-processing of {name}: {rule.words}")
            rules.append(rule)
    before = _means(dataset, predicted, ())
    after = _means(dataset, predicted, rules) if rules else before
    if rules and not np.mean(list(after.values())) > np.mean(list(before.values())):
        rules, after = [], before
    return Choice(rules=tuple(rules), before=before, after=after)


def _candidates(values: tuple[int, ...]) -> list[LabelRule | None]:
    """What is tried: nothing, then the mildest first."""
    removing: list[LabelRule | None] = [LabelRule(values=values, smallest=size) for size in SIZES]
    removing = [None, *removing, LabelRule(values=values, largest=True)]
    if len(values) > 1:
        return removing
    filling = [LabelRule(values=values, holes=True) if each is None else replace(each, holes=True) for each in removing]
    return [*removing, *filling]


def _best(values: tuple[int, ...], rows: Sequence[Sequence[float]]) -> LabelRule | None:
    """The rule with the highest mean of its column; the first column is that of doing nothing."""
    if len(rows) < LEAST_CASES:
        return None
    scores = np.asarray(rows)  # (cases, candidates)
    means = scores.mean(axis=0)
    at = int(means.argmax())
    gains = scores[:, at] - scores[:, 0]
    helps = means[at] - means[0] >= LEAST_GAIN and (gains > 0).sum() > (gains < 0).sum()
    return _candidates(values)[at] if helps else None


def _case_table(each: Predicted, dataset: Dataset, values: tuple[int, ...]) -> list[float]:
    """Dice of one label of one case under every candidate; components are found once.

    Components, their sizes and holes are those of the whole map, as in a prediction. What the reference does not
    annotate is left out when voxels are counted for the Dice.
    """
    prediction, reference, known = each.read_whole(dataset)
    ours, theirs = members(prediction.array, values), members(reference.array, values)
    voxel, total = math.prod(prediction.spacing_mm), int(np.count_nonzero(theirs))
    box = box_of(ours)
    if box is None:
        return [1.0 if total == 0 else 0.0] * len(_candidates(values))
    background = prediction.array[box] == 0
    mask, truth = ours[box], theirs[box]
    components, sizes = components_of(mask)
    counted = np.ones_like(mask) if known is None else known[box]
    inside = np.bincount(components[counted], minlength=len(sizes) + 1)[1:]
    overlaps = np.bincount(components.ravel(), weights=truth.ravel(), minlength=len(sizes) + 1)[1:]
    found = []
    for rule in _candidates(values):
        keep = np.ones(len(sizes), bool) if rule is None else chosen(sizes, rule, voxel=voxel)
        size, overlap = int(inside[keep].sum()), float(overlaps[keep].sum())
        if rule is not None and rule.holes:
            kept = np.concatenate([[False], keep])[components]
            holes = holes_of(kept) & (background | (mask & ~kept))
            size += int(np.count_nonzero(holes & counted))
            overlap += int(np.count_nonzero(holes & truth))
        found.append(2 * overlap / (size + total) if size + total else 1.0)
    return found


def _means(dataset: Dataset, predicted: Sequence[Predicted], rules: Sequence[LabelRule]) -> dict[str, float]:
    """Mean Dice of each label over the cases that are labelled with it."""
    labels = label_set(dataset).scored
    scores: dict[str, list[float]] = {name: [] for name in labels}
    for each in predicted:
        prediction, reference, known = each.read_whole(dataset)
        changed = apply_rules(prediction, rules).array
        changed = changed if known is None else changed * known
        for name in dataset.labelled_with(each.case):
            scores[name].append(_dice(changed, reference.array, labels[name]))
    return {name: float(np.mean(values)) if values else 0.0 for name, values in scores.items()}


def _dice(prediction: Array, reference: Array, values: tuple[int, ...]) -> float:
    ours, theirs = members(prediction, values), members(reference, values)
    size = int(np.count_nonzero(ours)) + int(np.count_nonzero(theirs))
    return 2 * int(np.count_nonzero(ours & theirs)) / size if size else 1.0
