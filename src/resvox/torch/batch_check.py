"""Detection of batches that are too small for batch norm in training, before the forward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn

from resvox.blueprint import Blueprint

CHECKED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def norm_of_one_value(
    model: nn.Module, blueprint: Blueprint, shape: Sequence[int], reduction: Sequence[int]
) -> str | None:
    """The batch norm that would get one value per channel, which it normalizes to 0; None if there is no such norm.

    Norms that are frozen (in eval mode), replaced by another kind, or synchronized over several processes are not
    checked: they have more than one value, or do not use the statistics of the batch.

    Args:
        model: the network in training.
        blueprint: the blueprint of the model.
        shape: (batch, channels, \\*size) of the input.
        reduction: stride of the deepest map relative to the input, per axis.
    """
    batch, size = shape[0], tuple(int(side) for side in shape[2:])
    if batch * math.prod(-(-side // step) for side, step in zip(size, reduction, strict=True)) > 1:
        return None  # the deepest map is the smallest
    sizes = {row.name: row.input_shape[2:] for top in blueprint.stages(size) for row in top.walk()}
    for name, module in model.named_modules():
        takes_batch = isinstance(module, CHECKED) and module.training and not _is_synchronized(module)
        if takes_batch and name in sizes and batch * math.prod(sizes[name]) == 1:
            return name
    return None


def _is_synchronized(norm: nn.Module) -> bool:
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return isinstance(norm, nn.SyncBatchNorm) and several


def is_traced(x: object) -> bool:
    """Whether a graph is traced, scripted or compiled: sizes are unknown then."""
    return isinstance(x, torch.fx.Proxy) or torch.compiler.is_compiling()
