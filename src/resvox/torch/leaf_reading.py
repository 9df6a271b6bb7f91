"""From a PyTorch layer back to the leaf of a blueprint: the inverse of ``layers.py``, for layers changed by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from resvox.blueprint import leaves as lf
from resvox.blueprint import transformers as tf
from resvox.blueprint.monai.networks import OutputPaddedConv
from resvox.blueprint.node import Node
from resvox.torch.layers import CONV, MAX_POOL, TRANSPOSED_CONV, DropPath

# from a leaf and the module in its position to the leaf that describes the module; None if no leaf does
Reader = Callable[[Any, Any], Node | None]


def leaf_of(leaf: Node, module: nn.Module) -> Node | None:
    """The leaf that describes a module in the position of ``leaf``: the same leaf if nothing was changed.

    For a module that no leaf describes it returns ``leaf``; the comparison with the built layer then shows the
    difference.
    """
    if type(module) is nn.Identity:
        return _absent(leaf)
    read = _READERS.get(type(leaf))
    found = read(leaf, module) if read is not None else leaf
    return leaf if found is None else found


def _absent(leaf: Node) -> Node | None:
    if isinstance(leaf, lf.Activation):
        return lf.Activation(kind="identity")
    # these are built as an identity
    same = isinstance(leaf, lf.Identity) or (isinstance(leaf, lf.Upsample) and max(leaf.scale) == 1)
    return leaf if same else None


def _conv(leaf: lf.Conv, module: Any) -> Node | None:
    if type(module) is not CONV[leaf.spatial_dims] or isinstance(module.padding, str):
        return None
    return lf.Conv(
        in_channels=module.in_channels,
        out_channels=module.out_channels,
        kernel=module.kernel_size,
        stride=module.stride,
        padding=module.padding,
        dilation=module.dilation,
        groups=module.groups,
        bias=module.bias is not None,
        init=leaf.init,
    )


def _transposed_conv(leaf: lf.TransposedConv, module: Any) -> Node | None:
    if type(module) is not TRANSPOSED_CONV[leaf.spatial_dims]:
        return None
    return type(leaf)(
        in_channels=module.in_channels,
        out_channels=module.out_channels,
        kernel=module.kernel_size,
        stride=module.stride,
        padding=module.padding,
        bias=module.bias is not None,
    )


def _norm(leaf: lf.Norm, module: Any) -> Node | None:
    kind = next((kind for kind, each in _NORMS.items() if isinstance(module, each)), None)
    if kind is None or (kind == "batch" and module.momentum is None):
        return None
    return replace(
        leaf,
        kind=kind,
        channels=module.num_channels if kind == "group" else module.num_features,
        eps=float(module.eps),
        momentum=float(module.momentum) if kind == "batch" else leaf.momentum,
        affine=bool(module.affine),
        groups=module.num_groups if kind == "group" else 0,
    )


_NORMS: dict[str, tuple[type[nn.Module], ...]] = {
    "batch": (nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    "instance": (nn.InstanceNorm2d, nn.InstanceNorm3d),
    "group": (nn.GroupNorm,),
}


def _activation(leaf: lf.Activation, module: Any) -> Node | None:
    kind = _ACTIVATIONS.get(type(module))
    slope = {"leaky_relu": "negative_slope", "elu": "alpha"}.get(kind or "")
    return None if kind is None else lf.Activation(kind=kind, slope=float(getattr(module, slope)) if slope else 0.0)


_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    nn.Softmax: "softmax",
    nn.Tanh: "tanh",
}


def _max_pool(leaf: lf.MaxPool, module: Any) -> Node | None:
    dims = len(leaf.kernel)
    if type(module) is not MAX_POOL[dims]:
        return None
    sizes = [module.kernel_size, module.stride, module.padding]
    kernel, stride, padding = ((side,) * dims if isinstance(side, int) else tuple(side) for side in sizes)
    return lf.MaxPool(kernel=kernel, stride=stride, padding=padding)


def _linear(leaf: lf.Linear, module: Any) -> Node | None:
    if type(module) is not nn.Linear:
        return None
    return lf.Linear(in_features=module.in_features, out_features=module.out_features, bias=module.bias is not None)


_READERS: dict[type[Node], Reader] = {
    lf.Conv: _conv,
    lf.TransposedConv: _transposed_conv,
    OutputPaddedConv: _transposed_conv,
    lf.Norm: _norm,
    lf.Activation: _activation,
    lf.MaxPool: _max_pool,
    lf.Linear: _linear,
    lf.Dropout: lambda leaf, module: lf.Dropout(rate=float(module.p)) if type(module) is nn.Dropout else None,
    lf.DropPath: lambda leaf, module: lf.DropPath(rate=float(module.rate)) if type(module) is DropPath else None,
    tf.LayerNorm: lambda leaf, module: replace(leaf, eps=float(module.eps)) if type(module) is nn.LayerNorm else None,
}
