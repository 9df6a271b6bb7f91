"""Losses of voxels that are partly known: regions with a sigmoid each, ignored voxels, cases with some of the labels.

A voxel that was not annotated has the target `IGNORED`. What is not known weighs nothing: a loss is that of the known
voxels alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from monai.losses import DiceLoss
from torch import nn
from torch.nn import functional as F

from resvox.errors import PlanError
from resvox.training.dice_cross_entropy import IGNORED, SMOOTH, DiceCrossEntropy
from resvox.training.distributed.sums import process_count, summed
from resvox.training.losses import deep_supervision_weights, nothing_of

KINDS = ("dice_ce", "ce")


class MaskedLoss(nn.Module, ABC):
    """Loss of logits (batch, outputs, *spatial) against class indices (batch, *spatial), `IGNORED` where unknown.

    ``dice_ce`` is the sum of soft Dice, summed over the batch before the ratio, and cross-entropy; ``ce`` is
    cross-entropy alone. A list of logits, finest first, is deep supervision as in
    `resvox.training.losses.SegmentationLoss`, as are the other arguments. Abstract.
    """

    def __init__(
        self, kind: str, *, batch_dice: bool = True, label_smoothing: float = 0.0, drops_coarsest: bool = False
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise PlanError(f"loss={kind!r}", expected=" or ".join(KINDS))
        self.has_dice = kind == "dice_ce"
        self.batch_dice = batch_dice
        self.label_smoothing = label_smoothing
        self.drops_coarsest = drops_coarsest

    def forward(
        self,
        output: torch.Tensor | Sequence[torch.Tensor],
        label: torch.Tensor,
        known: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The weighted sum of the losses of all outputs.

        Args:
            known: (batch, targets) whether a case was annotated with a label or region; None for all. ``targets`` are
                the regions, or the labels without the background.
        """
        outputs = [output] if isinstance(output, torch.Tensor) else list(output)
        total = torch.zeros((), device=label.device)
        weights = deep_supervision_weights(len(outputs), drops_coarsest=self.drops_coarsest)
        for weight, logits in zip(weights, outputs, strict=True):
            if not weight:
                total = total + nothing_of(logits)
                continue
            sized = label
            if logits.shape[2:] != label.shape[1:]:
                sized = F.interpolate(label.unsqueeze(1).float(), size=logits.shape[2:], mode="nearest-exact")
                sized = sized.long()[:, 0]
            total = total + weight * self.single(logits.float(), sized, known)
        return total

    @abstractmethod
    def single(self, logits: torch.Tensor, label: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
        """The loss of one output."""


class MaskedLabelLoss(MaskedLoss):
    """For labels of which each voxel has one: softmax.

    A voxel of the background in a case without some of the labels may belong to one of those, so its probability is
    that of the background and of the labels that were not annotated together (the marginal loss of Shi et al. 2021,
    Med. Image Anal. 70:101979).
    """

    def __init__(self, kind: str, **settings: Any) -> None:
        super().__init__(kind, **settings)
        self.dice_and_entropy = DiceCrossEntropy(batch_dice=self.batch_dice, label_smoothing=self.label_smoothing)

    def single(self, logits: torch.Tensor, label: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
        """The loss of one output of labels."""
        if known is not None:
            logits = with_unknown_in_background(logits, known)
            if self.label_smoothing:
                raise PlanError(
                    f"label_smoothing={self.label_smoothing} with cases that are labelled in part",
                    expected="0: certainty cannot be spread over labels that are not known",
                    fix="set label_smoothing to 0",
                )
        if self.has_dice:
            loss: torch.Tensor = self.dice_and_entropy(logits, label)
            return loss
        count = _shared_count((label != IGNORED).sum())
        return (
            F.cross_entropy(logits, label, ignore_index=IGNORED, reduction="sum", label_smoothing=self.label_smoothing)
            / count
        )


class RegionLoss(MaskedLoss):
    """For regions, of which a voxel may have several: sigmoid and binary cross-entropy.

    Args:
        members: for each class index of the targets, whether it belongs to each region.
    """

    members: torch.Tensor

    def __init__(self, kind: str, members: Sequence[Sequence[bool]], **settings: Any) -> None:
        super().__init__(kind, **settings)
        # takes probabilities from which unknown voxels were removed
        self.dice = _RegionDice(batch_dice=self.batch_dice)
        self.register_buffer("members", torch.tensor(members, dtype=torch.float32), persistent=False)

    def single(self, logits: torch.Tensor, label: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
        """The loss of one output of regions."""
        truth = self.members[label.clamp(min=0)].movedim(-1, 1)
        weight = (label != IGNORED).unsqueeze(1).expand_as(logits)
        if known is not None:
            weight = weight & known.reshape(*known.shape, *[1] * (logits.ndim - 2))
        weight = weight.to(logits.dtype)
        wanted = truth * (1 - self.label_smoothing) + 0.5 * self.label_smoothing if self.label_smoothing else truth
        entropy = F.binary_cross_entropy_with_logits(logits, wanted, weight=weight, reduction="sum")
        loss = entropy / _shared_count(weight.sum())
        if self.has_dice:
            loss = loss + self.dice(logits.sigmoid() * weight, truth * weight)
        return loss


class _RegionDice(nn.Module):
    """1 less the soft Dice of each region, the mean over regions: MONAI's, also of a batch that processes share."""

    def __init__(self, *, batch_dice: bool) -> None:
        super().__init__()
        self.batch_dice = batch_dice
        self.own = DiceLoss(batch=batch_dice)

    def forward(self, chances: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        if not self.batch_dice or process_count() == 1:
            single: torch.Tensor = self.own(chances, truth)
            return single
        axes = [0, *range(2, chances.ndim)]
        both, total = summed(torch.stack([(chances * truth).sum(axes), (chances + truth).sum(axes)]))
        shared: torch.Tensor = (1 - (2 * both + SMOOTH) / (total + SMOOTH)).mean()
        return shared


def _shared_count(known: torch.Tensor) -> torch.Tensor:
    """What a sum of losses is divided by: the mean over processes is the sum of all over the count of all."""
    if process_count() == 1:
        return known.clamp(min=1)
    return (summed(known.double()) / process_count()).clamp(min=1 / process_count()).to(torch.float32)


def with_unknown_in_background(logits: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Logits (batch, classes, *spatial) whose class 0 has the probability of all classes that are not known.

    Args:
        known: (batch, classes - 1) of the classes after the background.
    """
    shape = (*known.shape, *[1] * (logits.ndim - 2))
    unknown = ~known.reshape(shape)
    rest = logits[:, 1:]
    joined = torch.cat([logits[:, :1], rest.masked_fill(~unknown, -torch.inf)], dim=1).logsumexp(1, keepdim=True)
    return torch.cat([joined, rest.masked_fill(unknown, -torch.inf)], dim=1)
