"""Initial values of the blueprint, written once into tensors that are allocated once."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from resvox.blueprint import leaves as lf
from resvox.blueprint import transformers as tf
from resvox.blueprint.monai.networks import PReLU
from resvox.blueprint.node import Node


class Unfilled(TorchFunctionMode):
    """Create layers with memory but without values: PyTorch's own initialization is skipped.

    Values are written once, by :func:`materialize` of the outermost network; initializing them before would double the
    work. Inside ``torch.device("meta")`` there is no memory either, as usual.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func in _WRITES:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


_WRITES = frozenset(
    {
        nn.init.kaiming_uniform_,
        nn.init.uniform_,
        torch.Tensor.uniform_,
        torch.Tensor.normal_,
        torch.Tensor.fill_,
        torch.Tensor.zero_,
    }
)


def materialize(module: nn.Module, network: Node) -> None:
    """Write the initial values of the blueprint into a module whose layers were created without values.

    Device and dtype are the defaults at the creation of the model; on the meta device nothing is written.
    """
    if torch.get_default_device().type == "meta":
        return
    with torch.no_grad():
        for path, leaf in network.leaves():
            _fill(module.get_submodule(path), leaf)


def give_memory(model: Any) -> None:
    """Layers of a model that have no memory (meta device) get it, and their initial values.

    The device is the one in force; where that is the meta device itself, the processor.
    """
    here = torch.get_default_device()
    device = torch.device("cpu") if here.type == "meta" else here
    without = [module for module in model.modules() if any(each.is_meta for each in _own_tensors(module))]
    for module in without:
        module.to_empty(device=device, recurse=False)
    if without:
        with torch.no_grad():
            for path, leaf in model.blueprint.network.leaves():
                module = model.get_submodule(path)
                if any(module is each for each in without):
                    _fill(module, leaf)


def _own_tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def fill_layer(module: nn.Module, leaf: Node | None, *, like: torch.Tensor) -> None:
    """Memory and initial values of a layer that is added later, on the device and with the dtype of ``like``."""
    module.to_empty(device=like.device).to(like.dtype)
    if leaf is not None and like.device.type != "meta":
        with torch.no_grad():
            _fill(module, leaf)


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
    elif isinstance(leaf, PReLU):
        module.weight.fill_(leaf.initial_slope)
    elif isinstance(leaf, tf.LayerNorm):
        module.weight.fill_(1.0)
        module.bias.zero_()
    elif isinstance(leaf, (tf.PositionEmbedding, tf.Queries)):
        module.weight.normal_(0.0, tf.EMBEDDING_STD)


def _fill_conv(module: Any, leaf: lf.Conv | lf.TransposedConv) -> None:
    if isinstance(leaf, lf.TransposedConv):
        # PyTorch takes the fan-in of a transposed kernel from its second axis; kept for equal initial values.
        _uniform_fan_in(module, leaf.out_channels * math.prod(leaf.kernel))
    elif leaf.init == "zeros":
        module.weight.zero_()
        if leaf.bias:
            module.bias.zero_()
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
