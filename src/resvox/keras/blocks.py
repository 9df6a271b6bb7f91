"""The residual blocks, each with its forward written out. The twin of ``torch/blocks.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resvox.blueprint import blocks as b
from resvox.blueprint.leaves import MaxPool
from resvox.blueprint.node import Node, Sequence
from resvox.errors import BlueprintError
from resvox.keras.layers import Place, Tensor, add, layer, multiply, spatial_mean, through


def squeeze_excitation(node: b.SqueezeExcitation, place: Place, x: Tensor) -> Tensor:
    """Channels weighed by what the whole map holds (arXiv:1709.01507)."""
    weight = spatial_mean(place, x)
    weight = through(node, ("fc1", "act", "fc2", "gate"), place, weight)
    return multiply(place, x, weight)


def preact_shortcut(node: b.PreActShortcut, place: Place, x: Tensor) -> Tensor:
    """Pool where it strides, then a convolution; no norm."""
    return through(node, ("pool", "conv"), place, x)


def basic_block(node: b.BasicBlock, place: Place, x: Tensor) -> Tensor:
    """Two convolutions and a shortcut (arXiv:1512.03385). (batch, \\*size, channels) in and out."""
    y = through(node, ("conv1", "bn1", "act1"), place, x)
    y = layer(node.conv2, place.at("conv2"), y)
    y = _norm_and_gate(node, "bn2", place, y)
    y = layer(node.droppath, place.at("droppath"), y)
    return layer(node.act2, place.at("act2"), add(place, y, _shortcut(node.downsample, place, x)))


def bottleneck_block(node: b.BottleneckBlock, place: Place, x: Tensor) -> Tensor:
    """Three convolutions and a shortcut (arXiv:1512.03385). (batch, \\*size, channels) in and out."""
    y = through(node, ("conv1", "bn1", "act1"), place, x)
    y = through(node, ("conv2", "bn2", "act2"), place, y)
    y = layer(node.conv3, place.at("conv3"), y)
    y = _norm_and_gate(node, "bn3", place, y)
    y = layer(node.droppath, place.at("droppath"), y)
    return layer(node.act3, place.at("act3"), add(place, y, _shortcut(node.downsample, place, x)))


def preact_basic_block(node: b.PreActBasicBlock, place: Place, x: Tensor) -> Tensor:
    """Norm and activation before each convolution (arXiv:1603.05027). A projection takes the activated input."""
    active = through(node, ("norm1", "act1"), place, x)
    shortcut = _shortcut(node.downsample, place, active if _projects(node.downsample) else x)
    y = layer(node.conv1, place.at("conv1"), active)
    y = through(node, ("norm2", "act2", "conv2"), place, y)
    y = layer(node.droppath, place.at("droppath"), _gate(node.se, place, y))
    return add(place, y, shortcut)


def preact_bottleneck_block(node: b.PreActBottleneckBlock, place: Place, x: Tensor) -> Tensor:
    """Norm and activation before each convolution (arXiv:1603.05027). A projection takes the activated input."""
    active = through(node, ("norm1", "act1"), place, x)
    shortcut = _shortcut(node.downsample, place, active if _projects(node.downsample) else x)
    y = layer(node.conv1, place.at("conv1"), active)
    y = through(node, ("norm2", "act2", "conv2"), place, y)
    y = through(node, ("norm3", "act3", "conv3"), place, y)
    y = layer(node.droppath, place.at("droppath"), _gate(node.se, place, y))
    return add(place, y, shortcut)


_BLOCKS: dict[type[Node], Callable[[Any, Place, Tensor], Tensor]] = {
    b.BasicBlock: basic_block,
    b.BottleneckBlock: bottleneck_block,
    b.PreActBasicBlock: preact_basic_block,
    b.PreActBottleneckBlock: preact_bottleneck_block,
}


def block(node: Node, place: Place, x: Tensor) -> Tensor:
    """A residual block applied."""
    spell = _BLOCKS.get(type(node))
    if spell is None:
        raise BlueprintError(f"{type(node).__name__} as a block", expected="a residual block")
    return spell(node, place, x)


def stage(node: Sequence, place: Place, x: Tensor) -> Tensor:
    """The blocks of a stage, one after another."""
    for name, item in node.children():
        x = block(item, place.at(name), x)
    return x


def _norm_and_gate(node: b.BasicBlock | b.BottleneckBlock, norm: str, place: Place, y: Tensor) -> Tensor:
    """The last norm of a branch and its gate, in the order that the block has them."""
    if node.se_before_norm:
        return layer(getattr(node, norm), place.at(norm), _gate(node.se, place, y))
    return _gate(node.se, place, layer(getattr(node, norm), place.at(norm), y))


def _gate(node: b.SqueezeExcitation | None, place: Place, x: Tensor) -> Tensor:
    return x if node is None else squeeze_excitation(node, place.at("se"), x)


def _projects(node: Node | None) -> bool:
    """Whether a pre-activation block's shortcut takes the activated input: not where it passes on or picks voxels."""
    return node is not None and not isinstance(node, MaxPool)


def _shortcut(node: Node | None, place: Place, x: Tensor) -> Tensor:
    if isinstance(node, b.PreActShortcut):
        return preact_shortcut(node, place.at("downsample"), x)
    return layer(node, place.at("downsample"), x)
