"""Validation: whole volumes through the sliding window, Dice of each label on the prepared grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from resvox.inference import TorchEngine, labels_from_logits, sliding_window_inference
from resvox.training.plans.precision import Precision
from resvox.training.segmentation.cache import PreparedCase
from resvox.training.segmentation.plan import Plan
from resvox.training.task import LARGEST_OVERLAP


@dataclass(frozen=True, kw_only=True)
class LabelDice:
    """Mean Dice over cases of each label; None where neither a reference nor a prediction holds the label.

    ``referenced``: the labels that a reference holds.
    """

    dice: dict[str, float | None]
    referenced: frozenset[str]

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
    label_names: Sequence[str],
    *,
    fabric: Fabric,
    precision: Precision = Precision.float32,
    between: Callable[[], None] = lambda: None,
) -> LabelDice:
    """Predict every case and compare; the cases are shared among the processes and the answer is everyone's.

    Args:
        label_names: names of classes 0, 1, ...; class 0 (background) is not scored.
        between: called before each case; what it raises ends the validation.
    """
    engine = TorchEngine(module, device=fabric.device, precision=precision.for_inference)
    sums = torch.zeros(3, len(label_names), dtype=torch.float64, device=fabric.device)
    for case in cases[fabric.global_rank :: fabric.world_size]:
        between()
        logits = sliding_window_inference(
            np.asarray(case.image),
            engine,
            roi_size=plan.patch_size,
            overlap=min(plan.overlap, LARGEST_OVERLAP),
            sw_batch_size=plan.batch_size,
        )
        scores = dice_per_class(labels_from_logits(logits), case.label, len(label_names))
        for index, score in enumerate(scores):
            if not math.isnan(score):
                sums[0, index] += score
                sums[1, index] += 1
        for index in case.voxels_of:
            sums[2, index] += 1
    gathered = fabric.all_reduce(sums, reduce_op="sum") if fabric.world_size > 1 else sums
    assert isinstance(gathered, torch.Tensor)
    totals, counts, references = gathered.tolist()
    return LabelDice(
        dice={
            name: total / count if count else None
            for name, total, count in list(zip(label_names, totals, counts, strict=True))[1:]
        },
        referenced=frozenset(name for name, count in zip(label_names, references, strict=True) if count),
    )


def dice_per_class(prediction: np.ndarray[Any, Any], reference: np.ndarray[Any, Any], num_classes: int) -> list[float]:
    """Dice of each class, NaN where both maps lack it; one pass over the voxels."""
    pairs = reference.ravel().astype(np.int64) * num_classes + prediction.ravel()
    table = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    sizes = table.sum(axis=0) + table.sum(axis=1)
    return [float(2 * table[index, index] / sizes[index]) if sizes[index] else math.nan for index in range(num_classes)]
