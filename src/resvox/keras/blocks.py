"""The residual blocks, each with its forward written out. The twin of ``torch/blocks.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resvox.blueprint import blocks as b
from resvox.blueprint.leaves import MaxPool
from resvox.blueprint.node import Node, Sequence
from resvox.errors import BlueprintError
from resvox.keras.layers import LayerScope, Tensor, add, layer, multiply, spatial_mean, through


def squeeze_excitation(node: b.SqueezeExcitation, scope: LayerScope, x: Tensor) -> Tensor:
    """Squeeze-and-excitation: channels weighted by a function of the whole map (arXiv:1709.01507)."""
    weight = spatial_mean(scope, x)
    weight = through(node, ("fc1", "act", "fc2", "gate"), scope, weight)
    return multiply(scope, x, weight)


def preact_shortcut(node: b.PreActShortcut, scope: LayerScope, x: Tensor) -> Tensor:
    """Shortcut of a pre-activation block: pooling where it strides, then a convolution, without a norm."""
    return through(node, ("pool", "conv"), scope, x)


def basic_block(node: b.BasicBlock, scope: LayerScope, x: Tensor) -> Tensor:
    """Two convolutions and a shortcut (arXiv:1512.03385). (batch, \\*size, channels) in and out."""
    y = through(node, ("conv1", "bn1", "act1"), scope, x)
    y = layer(node.conv2, scope.at("conv2"), y)
    y = _norm_and_gate(node, "bn2", scope, y)
    y = layer(node.droppath, scope.at("droppath"), y)
    return layer(node.act2, scope.at("act2"), add(scope, y, _shortcut(node.downsample, scope, x)))


def bottleneck_block(node: b.BottleneckBlock, scope: LayerScope, x: Tensor) -> Tensor:
    """Three convolutions and a shortcut (arXiv:1512.03385). (batch, \\*size, channels) in and out."""
    y = through(node, ("conv1", "bn1", "act1"), scope, x)
    y = through(node, ("conv2", "bn2", "act2"), scope, y)
    y = layer(node.conv3, scope.at("conv3"), y)
    y = _norm_and_gate(node, "bn3", scope, y)
    y = layer(node.droppath, scope.at("droppath"), y)
    return layer(node.act3, scope.at("act3"), add(scope, y, _shortcut(node.downsample, scope, x)))


def preact_basic_block(node: b.PreActBasicBlock, scope: LayerScope, x: Tensor) -> Tensor:
    """Norm and activation before each convolution (arXiv:1603.05027). A projection takes the activated input."""
    active = through(node, ("norm1", "act1"), scope, x)
    shortcut = _shortcut(node.downsample, scope, active if _projects(node.downsample) else x)
    y = layer(node.conv1, scope.at("conv1"), active)
    y = through(node, ("norm2", "act2", "conv2"), scope, y)
    y = layer(node.droppath, scope.at("droppath"), _gate(node.se, scope, y))
    return add(scope, y, shortcut)


def preact_bottleneck_block(node: b.PreActBottleneckBlock, scope: LayerScope, x: Tensor) -> Tensor:
    """Norm and activation before each convolution (arXiv:1603.05027). A projection takes the activated input."""
    active = through(node, ("norm1", "act1"), scope, x)
    shortcut = _shortcut(node.downsample, scope, active if _projects(node.downsample) else x)
    y = layer(node.conv1, scope.at("conv1"), active)
    y = through(node, ("norm2", "act2", "conv2"), scope, y)
    y = through(node, ("norm3", "act3", "conv3"), scope, y)
    y = layer(node.droppath, scope.at("droppath"), _gate(node.se, scope, y))
    return add(scope, y, shortcut)


_BLOCKS: dict[type[Node], Callable[[Any, LayerScope, Tensor], Tensor]] = {
    b.BasicBlock: basic_block,
    b.BottleneckBlock: bottleneck_block,
    b.PreActBasicBlock: preact_basic_block,
    b.PreActBottleneckBlock: preact_bottleneck_block,
}


def block(node: Node, scope: LayerScope, x: Tensor) -> Tensor:
    """Apply a residual block."""
    spell = _BLOCKS.get(type(node))
    if spell is None:
        raise BlueprintError(f"{type(node).__name__} as a block", expected="a residual block")
    return spell(node, scope, x)


def stage(node: Sequence, scope: LayerScope, x: Tensor) -> Tensor:
    """Apply the blocks of a stage in sequence."""
    for name, item in node.children():
        x = block(item, scope.at(name), x)
    return x


def _norm_and_gate(node: b.BasicBlock | b.BottleneckBlock, norm: str, scope: LayerScope, y: Tensor) -> Tensor:
    """Apply the last norm of a branch and its gate, in the order of the block."""
    if node.se_before_norm:
        return layer(getattr(node, norm), scope.at(norm), _gate(node.se, scope, y))
    return _gate(node.se, scope, layer(getattr(node, norm), scope.at(norm), y))


def _gate(node: b.SqueezeExcitation | None, scope: LayerScope, x: Tensor) -> Tensor:
    return x if node is None else squeeze_excitation(node, scope.at("se"), x)


def _projects(node: Node | None) -> bool:
    """Whether a pre-activation block's shortcut takes the activated input; identity and subsampling do not."""
    return node is not None and not isinstance(node, MaxPool)


def _shortcut(node: Node | None, scope: LayerScope, x: Tensor) -> Tensor:
    if isinstance(node, b.PreActShortcut):
        return preact_shortcut(node, scope.at("downsample"), x)
    return layer(node, scope.at("downsample"), x)
