"""Validation: whole volumes through the sliding window, Dice of each label or region on the prepared grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from resvox.datasets.segmentation import Dataset
from resvox.inference import TorchEngine, labels_from_logits, labels_from_regions, sliding_window_inference
from resvox.training.plans.precision import Precision
from resvox.training.records import WORST, Snapshot, snapshot_of
from resvox.training.segmentation.cache import PreparedCase, members_of
from resvox.training.segmentation.plan import Plan
from resvox.training.segmentation.temperature import TEMPERATURES, best_temperature, losses_of_case
from resvox.training.task import LARGEST_OVERLAP


@dataclass(frozen=True, kw_only=True)
class LabelDice:
    """Mean Dice over cases of each label or region; None where neither a reference nor a prediction holds it.

    ``referenced``: the labels that a reference holds. ``temperature``: see `resvox.training.segmentation.temperature`;
    None where no voxel is known. ``cases``: the Dice of each case; ``worst``: slices of this process's worst cases.
    """

    dice: dict[str, float | None]
    referenced: frozenset[str]
    temperature: float | None = None
    cases: dict[str, dict[str, float | None]] = field(default_factory=dict)
    worst: tuple[Snapshot, ...] = ()

    @property
    def mean(self) -> float | None:
        """Mean over the labels that have a value; None where no label has one."""
        return _mean(self.dice.values())

    @property
    def score(self) -> float | None:
        """Mean over the labels that a reference holds; None where no reference holds any.

        For the others, Dice only shows whether something was predicted where nothing is: 0, or no value. That must not
        choose the weights.
        """
        return _mean(value for name, value in self.dice.items() if name in self.referenced)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def validate(
    module: nn.Module,
    cases: Sequence[PreparedCase],
    plan: Plan,
    dataset: Dataset,
    *,
    fabric: Fabric,
    precision: Precision = Precision.float32,
    between: Callable[[], None] = lambda: None,
) -> LabelDice:
    """Predict every case and compare; the cases are shared among the processes and the answer is everyone's.

    Args:
        dataset: whose labels or regions are scored: of each case those with which it is labelled, without the voxels
            that are ignored.
        between: called before each case; what it raises ends the validation.
    """
    engine = TorchEngine(module, device=fabric.device, precision=precision.for_inference)
    names = dataset.targets
    members = np.asarray(members_of(dataset))
    sums = torch.zeros(3, len(names), dtype=torch.float64, device=fabric.device)
    losses = torch.zeros(len(TEMPERATURES) + 1, dtype=torch.float64, device=fabric.device)
    table = torch.zeros(len(cases), len(names), dtype=torch.float64, device=fabric.device)  # Dice + 1, 0 for none
    is_softmax = dataset.regions is None
    worst = _Worst(plan, members, is_softmax=is_softmax)
    for place in range(fabric.global_rank, len(cases), fabric.world_size):
        case = cases[place]
        between()
        logits, reference = _predicted(case, engine, plan, ignored=len(members), is_softmax=is_softmax)
        scores = dice_of_case(logits, case, members, is_softmax=is_softmax)
        for index, score in enumerate(scores):
            if not math.isnan(score):
                sums[0, index] += score
                sums[1, index] += 1
                table[place, index] = score + 1
        worst.see(case, logits, scores)
        for target in case.targets:
            sums[2, target - 1] += 1
        if case.known is None or all(case.known):
            found = losses_of_case(logits, reference, members, is_softmax=is_softmax)
            losses += torch.from_numpy(found).to(fabric.device)
    totals, counts, references = _gathered(sums, fabric).tolist()
    return LabelDice(
        dice={name: total / count if count else None for name, total, count in zip(names, totals, counts, strict=True)},
        referenced=frozenset(name for name, count in zip(names, references, strict=True) if count),
        cases={
            case.id: {name: value - 1 if value else None for name, value in zip(names, row, strict=True)}
            for case, row in zip(cases, _gathered(table, fabric).tolist(), strict=True)
        },
        worst=tuple(worst.snapshots),
        temperature=best_temperature(_gathered(losses, fabric).cpu().numpy()),
    )


def _predicted(
    case: PreparedCase, engine: TorchEngine, plan: Plan, *, ignored: int, is_softmax: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The logits (outputs, *spatial) of a case, and its label for the temperature.

    In the label, voxels outside of what a prediction keeps are ``ignored``: they are background at any temperature.
    """
    logits = sliding_window_inference(
        np.asarray(case.image),
        engine,
        roi_size=plan.patch_size,
        overlap=min(plan.overlap, LARGEST_OVERLAP),
        sw_batch_size=plan.batch_size,
    )
    outside, label = case.outside, np.asarray(case.label)
    if outside is None:
        return logits, label
    clear_outside(logits, outside, is_softmax=is_softmax)
    return logits, np.where(outside, ignored, label)


def clear_outside(logits: np.ndarray[Any, Any], outside: np.ndarray[Any, Any], *, is_softmax: bool) -> None:
    """Make background of what a prediction makes background, in place.

    Args:
        logits: (outputs, *spatial).
        outside: (*spatial) bool, see `PreparedCase.outside`.
        is_softmax: as in `dice_of_case`.
    """
    lowest, highest = min(float(logits.min()), -1.0), max(float(logits.max()), 1.0)  # 0 is the limit of a region
    for place, each in enumerate(logits):
        each[outside] = highest if place == 0 and is_softmax and len(logits) > 1 else lowest


class _Worst:
    """Slices of the cases with the lowest mean Dice so far."""

    def __init__(self, plan: Plan, members: np.ndarray[Any, Any], *, is_softmax: bool) -> None:
        self.plan, self.members, self.is_softmax = plan, members, is_softmax
        self._kept: list[tuple[float, Snapshot]] = []

    @property
    def snapshots(self) -> list[Snapshot]:
        """The worst one first."""
        return [each for _, each in self._kept]

    def see(self, case: PreparedCase, logits: np.ndarray[Any, Any], scores: Sequence[float]) -> None:
        known = [score for score in scores if not math.isnan(score)]
        if not known or (len(self._kept) == WORST and np.mean(known) >= self._kept[-1][0]):
            return
        reference = np.asarray(case.label)
        valid = reference < len(self.members)
        if self.is_softmax:
            prediction, truth = labels_from_logits(logits), np.where(valid, reference, 0)
        else:
            order = range(1, len(logits) + 1)
            belongs = self.members[np.where(valid, reference, 0)]
            prediction = labels_from_regions(logits, order)
            truth = labels_from_regions(np.where(np.moveaxis(belongs, -1, 0), 1, -1), order)
        spacing_mm = self.plan.spacing_mm or (1.0,) * self.plan.spatial_dims
        made = snapshot_of(case.id, np.asarray(case.image), prediction * valid, truth, spacing_mm)
        self._kept = sorted([*self._kept, (float(np.mean(known)), made)], key=lambda each: each[0])[:WORST]


def _gathered(sums: torch.Tensor, fabric: Fabric) -> torch.Tensor:
    """Sums over all processes."""
    gathered = fabric.all_reduce(sums, reduce_op="sum") if fabric.world_size > 1 else sums
    assert isinstance(gathered, torch.Tensor)
    return gathered


def dice_of_case(
    logits: np.ndarray[Any, Any], case: PreparedCase, members: np.ndarray[Any, Any], *, is_softmax: bool
) -> list[float]:
    """Dice of each target of a case, NaN where both maps lack it or the case was not annotated with it.

    Args:
        logits: (outputs, *spatial).
        members: (labels, targets) whether a class index belongs to a target; indices after the last are ignored.
        is_softmax: whether outputs are labels, of which the largest one counts; otherwise each is a target of its own.
    """
    reference = np.asarray(case.label)
    valid = reference < len(members)
    reference = reference[valid]
    if is_softmax:
        scores = dice_per_class(labels_from_logits(logits)[valid], reference, len(members))[1:]
    else:
        scores = [dice_of_masks(each[valid] > 0, members[reference, at]) for at, each in enumerate(logits)]
    known = case.known or (True,) * len(scores)
    return [score if is_known else math.nan for score, is_known in zip(scores, known, strict=True)]


def dice_of_masks(prediction: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> float:
    """Dice of two masks, NaN where both are empty."""
    size = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
    return 2 * int(np.count_nonzero(prediction & reference)) / size if size else math.nan


def dice_per_class(prediction: np.ndarray[Any, Any], reference: np.ndarray[Any, Any], num_classes: int) -> list[float]:
    """Dice of each class, NaN where both maps lack it; one pass over the voxels."""
    pairs = reference.ravel().astype(np.int64) * num_classes + prediction.ravel()
    table = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    sizes = table.sum(axis=0) + table.sum(axis=1)
    return [float(2 * table[index, index] / sizes[index]) if sizes[index] else math.nan for index in range(num_classes)]
