"""The loss: MONAI's Dice + cross-entropy, over one output or a list of them (deep supervision)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceCELoss
from torch import nn
from torch.nn import functional as F

from resvox.errors import PlanError


class SegmentationLoss(nn.Module):
    """Loss of logits (batch, classes, *spatial) against class indices (batch, *spatial).

    ``dice_ce``: soft Dice over the foreground classes, summed over the batch before the ratio (a class absent
    from one patch says little), plus cross-entropy. ``ce``: cross-entropy alone.

    A list of logits, finest first, is deep supervision: output k weighs 1/2**k, the weights add up to 1, and
    the labels are brought to each size by nearest neighbour (Isensee et al. 2021).
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in ("dice_ce", "ce"):
            raise PlanError(f"loss={kind!r}", expected="dice_ce or ce")
        self.single = (
            DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
            if kind == "dice_ce"
            else _CrossEntropy()
        )

    def forward(self, output: torch.Tensor | Sequence[torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        outputs = [output] if isinstance(output, torch.Tensor) else list(output)
        weights = [0.5**k for k in range(len(outputs))]
        target = label.unsqueeze(1)
        total = torch.zeros((), device=label.device)
        for weight, logits in zip(weights, outputs, strict=True):
            sized = target
            if logits.shape[2:] != target.shape[2:]:
                sized = F.interpolate(target.float(), size=logits.shape[2:], mode="nearest-exact").long()
            # float32 whatever the precision of the network: sums over a patch overflow half precision
            total = total + weight / sum(weights) * self.single(logits.float(), sized)
        return total


class _CrossEntropy(nn.Module):
    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, target[:, 0])
