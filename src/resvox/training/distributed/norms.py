"""Batch norm with the statistics of the whole batch, however many processes share it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resvox.blueprint import Blueprint
from resvox.training.distributed.sums import process_count, summed

FEWEST_VALUES = 4  # of a channel: the variance of fewer is no estimate


class SharedBatchNorm(_BatchNorm):
    """Batch norm over the samples of all processes, as one process with the whole batch computes it.

    PyTorch's ``SyncBatchNorm``, and DDP with a subclass of it, runs on GPUs alone. Without a group of processes, or in
    eval mode, this is a batch norm.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(batch, channels, *spatial), normalized."""
        if not self.training or process_count() == 1:
            return super().forward(input)
        made: tuple[torch.Tensor, ...] = _Shared.apply(input, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        out, mean, variance, count = made
        self._follow(mean, variance, float(count))
        return out

    @torch.no_grad()
    def _follow(self, mean: torch.Tensor, variance: torch.Tensor, count: float) -> None:
        """The running statistics, with the unbiased variance."""
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum  # type: ignore[arg-type]
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        unbiased = variance * (count / max(count - 1, 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), rate)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Every number of axes is right."""


class _Shared(torch.autograd.Function):
    """Batch norm over all processes; sums are taken in float64, as PyTorch's batch norm on a CPU takes them."""

    @staticmethod
    def forward(
        ctx: Any, input: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
    ) -> tuple[torch.Tensor, ...]:
        axes, shape = [0, *range(2, input.ndim)], (1, -1, *[1] * (input.ndim - 2))
        values = input if input.dtype == torch.float64 else input.float()
        count = torch.full((1,), values.numel() / values.shape[1], dtype=torch.float64, device=values.device)
        totals = summed(torch.cat([values.sum(axes, dtype=torch.float64), count]))
        mean = totals[:-1] / totals[-1]
        centred = values - mean.to(values.dtype).reshape(shape)
        # A second sum, around the mean: the difference of two large sums would lose the digits.
        variance = summed(centred.square().sum(axes, dtype=torch.float64)) / totals[-1]
        scale = (variance + eps).rsqrt().to(values.dtype).reshape(shape)
        normed = centred.mul_(scale)
        ctx.save_for_backward(normed, scale, weight, totals[-1:])
        out = normed if weight is None or bias is None else normed * weight.reshape(shape) + bias.reshape(shape)
        noted = (mean, variance, totals[-1:].clone())
        ctx.mark_non_differentiable(*noted)
        return out.to(input.dtype), *noted

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        normed, scale, weight, count = ctx.saved_tensors
        axes, shape = [0, *range(2, normed.ndim)], scale.shape
        gradient = gradients[0].to(normed.dtype)
        own = torch.stack([gradient.sum(axes, dtype=torch.float64), (gradient * normed).sum(axes, dtype=torch.float64)])
        means = (summed(own) / count).to(normed.dtype)
        inner = gradient - means[0].reshape(shape) - normed * means[1].reshape(shape)
        inner = inner * (scale if weight is None else scale * weight.reshape(shape))
        of_bias, of_weight = own.to(normed.dtype)
        return (
            inner.to(gradients[0].dtype),
            None if weight is None else of_weight,
            None if weight is None else of_bias,
            None,
        )


def share_batch_norms(module: nn.Module, device: torch.device) -> int:
    """Put norms over the whole batch in place of a network's batch norms; tensors, names and modes stay.

    Args:
        device: on CUDA, PyTorch's own ``SyncBatchNorm`` is used.

    Returns:
        How many there are.
    """
    count = 0
    for parent in list(module.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
                setattr(parent, name, _shared(norm, nn.SyncBatchNorm if device.type == "cuda" else SharedBatchNorm))
                count += 1
    return count


def _shared(norm: _BatchNorm, kind: Any) -> nn.Module:
    made: nn.Module = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name, parameter in norm.named_parameters(recurse=False):
        setattr(made, name, parameter)
    for name, tensor in norm.named_buffers(recurse=False):
        made.register_buffer(name, tensor)
    return made.train(norm.training)


def too_few_values(
    module: nn.Module, blueprint: Blueprint, batch: int, size: tuple[int, ...]
) -> tuple[str, int] | None:
    """The batch norm with the fewest values per channel, if there are fewer than `FEWEST_VALUES`: its name, how many.

    Args:
        module: the network, as it is trained: norms that are frozen or of another kind do not count.
        batch: samples over which a norm takes its statistics.
        size: of a sample, (D,) H, W.
    """
    sizes = {row.name: row.input_shape[2:] for top in blueprint.stages(size) for row in top.walk()}
    found = [
        (batch * math.prod(sizes[name]), name)
        for name, norm in module.named_modules()
        if isinstance(norm, _BatchNorm) and norm.training and name in sizes
    ]
    fewest, name = min(found, default=(FEWEST_VALUES, ""))
    return (name, fewest) if fewest < FEWEST_VALUES else None
