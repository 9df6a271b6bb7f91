"""Soft Dice and cross-entropy of logits and class indices, without a one-hot label map.

With 117 classes, a one-hot label map, the probabilities and the intermediate results that autograd keeps take several
times the memory of the logits. Here the forward pass works slab by slab and keeps the logits, the class indices and two
numbers per class; the backward pass makes the gradient in one array of the size of the logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from resvox.training.distributed.sums import process_count, summed

IGNORED = -1
SMOOTH = 1e-5  # added to both sides of the ratio of Dice, so that a class that is nowhere has a loss of 0
SLAB_VALUES = 4_000_000  # logits that are worked on at once


class DiceCrossEntropy(nn.Module):
    """Soft Dice over the foreground classes plus cross-entropy.

    Values and gradients of MONAI's ``DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)``. Voxels
    with the target `IGNORED` do not contribute.

    Args:
        batch_dice: sums over the batch, that of all processes, come before the ratio; False takes the ratio of each
            sample.
        label_smoothing: of the cross-entropy (Szegedy et al. 2016).
    """

    def __init__(self, *, batch_dice: bool = True, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.batch_dice, self.label_smoothing = batch_dice, label_smoothing

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The loss of logits (batch, classes, *spatial), at least two classes, and class indices (batch, *spatial)."""
        loss: torch.Tensor = _DiceCrossEntropy.apply(  # type: ignore[no-untyped-call]
            logits, label, self.batch_dice, self.label_smoothing
        )
        return loss


class _DiceCrossEntropy(torch.autograd.Function):
    """The sums over voxels in the forward pass; the gradient of Dice needs those of a class alone.

    With I the sum of a class's probabilities where it is true and S that of all its probabilities and true voxels, its
    loss is 1 - (2 I + s) / (S + s), whose gradient in a probability is (2 I + s) / (S + s)² everywhere, less
    2 / (S + s) where it is true.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        context: Any, logits: torch.Tensor, label: torch.Tensor, batch_dice: bool, label_smoothing: float
    ) -> torch.Tensor:
        samples, classes = logits.shape[:2]
        shared = torch.zeros(3, samples, classes, dtype=torch.float64, device=logits.device)
        intersections, probability_sums, voxel_counts = shared  # per sample and class
        entropy = torch.zeros((), dtype=torch.float64, device=logits.device)
        for sample, part, true in _slabs(logits, label):
            known = true != IGNORED
            true = true.clamp(min=0)
            logs = part.log_softmax(0)
            own = logs.gather(0, true[None])[0]
            entropy -= (1 - label_smoothing) * own.masked_fill(~known, 0).sum().double()
            if label_smoothing:
                entropy -= label_smoothing * logs.mean(0).masked_fill(~known, 0).sum().double()
            likely = logs.exp_().masked_fill_(~known[None], 0)
            probability_sums[sample] += likely.flatten(1).sum(1).double()
            found = likely.gather(0, true[None])[0].flatten().double()
            intersections[sample].index_add_(0, true.flatten(), found)
            voxel_counts[sample].index_add_(0, true.flatten(), known.flatten().double())
        processes = process_count()
        # the mean over processes of a sum over this count is the sum of all over the count of all
        count = (summed(voxel_counts.sum()) / processes).clamp(min=1 / processes)
        if batch_dice:
            shared = summed(shared.sum(1, keepdim=True))
        above, below = 2 * shared[0] + SMOOTH, shared[1] + shared[2] + SMOOTH
        ratios = len(above) * (classes - 1)
        # what the loss gains with each probability of a class, and what it loses where the class is true
        everywhere, where_true = above / below**2 / ratios, 2 / below / ratios
        if batch_dice:
            # Each process has the loss of the whole batch; the mean of their gradients must be its gradient.
            everywhere, where_true = everywhere * processes, where_true * processes
        everywhere[:, 0] = where_true[:, 0] = 0
        context.save_for_backward(logits, label, everywhere, where_true, count)
        context.label_smoothing = label_smoothing
        loss: torch.Tensor = (entropy / count + (1 - above / below)[:, 1:].mean()).to(logits.dtype)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(context: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        logits, label, everywhere, where_true, count = context.saved_tensors
        kind = logits.dtype
        everywhere, where_true, each = everywhere.to(kind), where_true.to(kind), (1 / count).to(kind)
        smoothing = context.label_smoothing
        gradient = torch.empty_like(logits)
        for (sample, part, true), (_, made, _) in zip(_slabs(logits, label), _slabs(gradient, label), strict=True):
            row = sample if len(everywhere) > 1 else 0
            known = true != IGNORED
            true = true.clamp(min=0)
            likely = part.softmax(0)
            own = likely.gather(0, true[None])
            gain = everywhere[row].reshape(-1, *[1] * true.ndim)
            loss_of_true = where_true[row][true][None]
            # through the softmax: a probability times what it gains beyond the mean over all classes
            mean = torch.tensordot(everywhere[row], likely, 1)[None] - own * loss_of_true
            torch.mul(likely, gain - mean + each, out=made)
            if smoothing:
                made -= smoothing / len(part) * each
            made.scatter_add_(0, true[None], -own * loss_of_true - (1 - smoothing) * each)
            made.masked_fill_(~known[None], 0)
        return gradient.mul_(upstream), None, None, None


def _slabs(logits: torch.Tensor, label: torch.Tensor) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Number, logits (classes, depth, *rest) and class indices (depth, *rest) of the samples, some slices at a time."""
    slices = max(1, SLAB_VALUES // max(1, logits[0, :, :1].numel()))
    for sample in range(len(logits)):
        for start in range(0, logits.shape[2], slices):
            yield sample, logits[sample, :, start : start + slices], label[sample, start : start + slices]
