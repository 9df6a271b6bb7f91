"""Tensors allocated once and filled once, as the blueprint says."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from resvox.blueprint import leaves as lf
from resvox.blueprint.node import Node


def materialize(module: nn.Module, network: Node) -> None:
    """Give a module built on the meta device its memory and its initial values.

    Building on meta and filling afterwards writes every value once; PyTorch's layers would first draw initial
    values of their own. The device and dtype are those in force where the model is made.
    """
    device = torch.get_default_device()
    if device.type == "meta":
        return
    module.to_empty(device=device)
    for path, leaf in network.leaves():
        _fill(module.get_submodule(path), leaf)


def fill_layer(module: nn.Module, leaf: Node | None, *, like: torch.Tensor) -> None:
    """Memory and initial values for one layer added later, on the device and with the dtype of ``like``."""
    module.to_empty(device=like.device).to(like.dtype)
    if leaf is not None and like.device.type != "meta":
        _fill(module, leaf)


@torch.no_grad()
def _fill(module: Any, leaf: Node) -> None:
    if isinstance(leaf, (lf.Conv, lf.TransposedConv)):
        _fill_conv(module, leaf)
    elif isinstance(leaf, lf.Linear):
        _uniform_fan_in(module, leaf.in_features)
    elif isinstance(leaf, lf.Norm):
        if leaf.affine:
            module.weight.fill_(leaf.initial_weight)
            module.bias.zero_()
        if leaf.kind == "batch":
            module.running_mean.zero_()
            module.running_var.fill_(1.0)
            module.num_batches_tracked.zero_()


def _fill_conv(module: Any, leaf: lf.Conv | lf.TransposedConv) -> None:
    if isinstance(leaf, lf.TransposedConv):
        # PyTorch counts the fan-in of a transposed kernel on its second axis; kept, as its users expect it.
        _uniform_fan_in(module, leaf.out_channels * math.prod(leaf.kernel))
    elif leaf.init == "zeros":
        module.weight.zero_()
    elif leaf.init == "he_fan_out":
        fan_out = leaf.out_channels * math.prod(leaf.kernel)
        module.weight.normal_(0.0, math.sqrt(2.0 / fan_out))
        if leaf.bias:
            module.bias.zero_()
    else:
        _uniform_fan_in(module, leaf.in_channels // leaf.groups * math.prod(leaf.kernel))


def _uniform_fan_in(module: Any, fan_in: int) -> None:
    bound = 1.0 / math.sqrt(fan_in)
    module.weight.uniform_(-bound, bound)
    if module.bias is not None:
        module.bias.uniform_(-bound, bound)
