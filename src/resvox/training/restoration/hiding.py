"""Which voxels of a patch are hidden, and the loss of their restoration."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from resvox.training.distributed.sums import summed
from resvox.training.losses import deep_supervision_weights, nothing_of


def hidden_blocks(
    size: Sequence[int], block: Sequence[int], fraction: float, rng: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """(*size) bool: a share of the blocks of a grid with a random origin. At least one is hidden and one is not."""
    origin = [int(rng.integers(side)) for side in block]
    counts = [math.ceil((n + at) / side) for n, at, side in zip(size, origin, block, strict=True)]
    chosen = np.zeros(math.prod(counts), np.bool_)
    hidden = min(max(1, round(fraction * chosen.size)), max(1, chosen.size - 1))
    chosen[rng.permutation(chosen.size)[:hidden]] = True
    mask = chosen.reshape(counts)
    for axis, side in enumerate(block):
        mask = mask.repeat(side, axis)
    return np.ascontiguousarray(mask[tuple(slice(at, at + n) for at, n in zip(origin, size, strict=True))])


def with_hidden(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """An image (channels, *size) whose hidden voxels are 0, the mean of a normalised scan."""
    return image.masked_fill(mask, 0.0)


def target_of(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(channels + 1, *size) float32: what is to be restored, and 1 where it is hidden."""
    return torch.cat([values, mask[None].to(values.dtype)])


class HiddenLoss(nn.Module):
    """Loss of restored values (batch, channels, *spatial) against (batch, channels + 1, *spatial), see `target_of`.

    ``l1``: mean absolute difference; ``mse``: mean square; each over the voxels of the batch. A list of outputs, finest
    first, is deep supervision; values and the share of each voxel that is hidden come to a coarser size by linear
    interpolation.

    Args:
        visible_weight: what a voxel that was shown counts, where a hidden one counts 1.
        shared: the batch is that of all processes that train together, each of which must call this.
    """

    def __init__(
        self, kind: str, *, visible_weight: float = 0.0, drops_coarsest: bool = False, shared: bool = False
    ) -> None:
        super().__init__()
        self.kind = kind
        self.visible_weight = visible_weight
        self.shared = shared
        self.drops_coarsest = drops_coarsest

    def forward(self, output: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """The weighted sum of the losses of all outputs."""
        outputs = [output] if isinstance(output, torch.Tensor) else list(output)
        total = torch.zeros((), device=target.device)
        weights = deep_supervision_weights(len(outputs), drops_coarsest=self.drops_coarsest)
        for weight, values in zip(weights, outputs, strict=True):
            total = total + (weight * self.single(values.float(), target) if weight else nothing_of(values))
        return total

    def single(self, values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of one output."""
        if values.shape[2:] != target.shape[2:]:
            linear = "trilinear" if target.ndim == 5 else "bilinear"
            target = F.interpolate(target, size=values.shape[2:], mode=linear, align_corners=False)
        difference, hidden = values - target[:, :-1], target[:, -1:]
        errors = difference.abs() if self.kind == "l1" else difference.square()
        weights = hidden + self.visible_weight * (1 - hidden)
        sums = torch.stack([(errors * weights).sum(), weights.sum() * values.shape[1]])
        error, count = summed(sums) if self.shared else sums
        loss: torch.Tensor = error / count.clamp(min=1.0)
        return loss
