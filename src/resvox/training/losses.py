"""The loss: Dice + cross-entropy with MONAI's values, over one output or a list of them (deep supervision)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from resvox.errors import PlanError
from resvox.training.dice_cross_entropy import DiceCrossEntropy


class SegmentationLoss(nn.Module):
    """Loss of logits (batch, classes, *spatial) against class indices (batch, *spatial).

    ``dice_ce``: soft Dice over the foreground classes, summed over the batch before the ratio (a class absent
    from one patch is imprecise), plus cross-entropy. ``ce``: cross-entropy alone.

    A list of logits, finest first, is deep supervision: output k weighs 1/2**k, the weights add up to 1, and
    the labels are brought to each size by nearest neighbour (Isensee et al. 2021).

    Args:
        kind: ``"dice_ce"`` or ``"ce"``.
        batch_dice: False takes the Dice of each patch and then the mean over them.
        label_smoothing: of the cross-entropy (Szegedy et al. 2016).
        drops_coarsest: see `deep_supervision_weights`.
    """

    def __init__(
        self, kind: str, *, batch_dice: bool = True, label_smoothing: float = 0.0, drops_coarsest: bool = False
    ) -> None:
        super().__init__()
        if kind not in ("dice_ce", "ce"):
            raise PlanError(f"loss={kind!r}", expected="dice_ce or ce")
        self.drops_coarsest = drops_coarsest
        self.single = (
            DiceCrossEntropy(batch_dice=batch_dice, label_smoothing=label_smoothing)
            if kind == "dice_ce"
            else _CrossEntropy(label_smoothing)
        )

    def forward(self, output: torch.Tensor | Sequence[torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        """The weighted sum of the losses of all outputs."""
        outputs = [output] if isinstance(output, torch.Tensor) else list(output)
        weights = deep_supervision_weights(len(outputs), drops_coarsest=self.drops_coarsest)
        target = label.unsqueeze(1)
        total = torch.zeros((), device=label.device)
        for weight, logits in zip(weights, outputs, strict=True):
            if not weight:
                total = total + nothing_of(logits)
                continue
            sized = target
            if logits.shape[2:] != target.shape[2:]:
                sized = F.interpolate(target.float(), size=logits.shape[2:], mode="nearest-exact").long()
            # float32 whatever the precision of the network: sums over a patch overflow half precision
            total = total + weight * self.single(logits.float(), sized[:, 0])
        return total


def deep_supervision_weights(count: int, *, drops_coarsest: bool = False) -> list[float]:
    """1, 1/2, 1/4, ... over their sum: what each of ``count`` outputs counts, finest first (Isensee et al. 2021).

    Args:
        drops_coarsest: the last of several outputs counts nothing, as in nnU-Net.
    """
    weights = [0.5**k for k in range(count)]
    if drops_coarsest and count > 1:
        weights[-1] = 0.0
    return [weight / sum(weights) for weight in weights]


def nothing_of(output: torch.Tensor) -> torch.Tensor:
    """0, with gradients of 0: processes that train together wait for a gradient of every weight."""
    return output.flatten()[:0].float().sum()


class RegressionLoss(nn.Module):
    """Loss of values (batch, outputs, *spatial) against target values of the same shape.

    ``l1``: mean absolute difference; ``mse``: mean square; ``huber``: the one far from, the other near to the target.
    A list of outputs, finest first, is deep supervision as in `SegmentationLoss`; targets come to a coarser size by
    linear interpolation.
    """

    def __init__(self, kind: str, *, drops_coarsest: bool = False) -> None:
        super().__init__()
        self.drops_coarsest = drops_coarsest
        kinds = {"l1": nn.L1Loss, "mse": nn.MSELoss, "huber": nn.SmoothL1Loss}
        if kind not in kinds:
            raise PlanError(f"loss={kind!r}", expected=" or ".join(kinds))
        self.single = kinds[kind]()

    def forward(self, output: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """The weighted sum of the losses of all outputs."""
        outputs = [output] if isinstance(output, torch.Tensor) else list(output)
        linear = "trilinear" if target.ndim == 5 else "bilinear"
        total = torch.zeros((), device=target.device)
        weights = deep_supervision_weights(len(outputs), drops_coarsest=self.drops_coarsest)
        for weight, values in zip(weights, outputs, strict=True):
            if not weight:
                total = total + nothing_of(values)
                continue
            sized = target
            if values.shape[2:] != target.shape[2:]:
                sized = F.interpolate(target, size=values.shape[2:], mode=linear, align_corners=False)
            total = total + weight * self.single(values.float(), sized)
        return total


class ClassificationLoss(nn.Module):
    """Cross-entropy of logits (batch, classes) against class indices (batch).

    Args:
        class_weights: of each class, None for none; a case's loss is multiplied by its class's, and the mean is over
            cases, so that several processes come to the same as one.
        label_smoothing: share of the certainty that is spread over all classes (Szegedy et al. 2016).
    """

    def __init__(self, *, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.single = nn.CrossEntropyLoss(weight=weight, label_smoothing=label_smoothing, reduction="none")

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch."""
        loss: torch.Tensor = self.single(output.float(), target).mean()
        return loss


class _CrossEntropy(nn.Module):
    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)
