"""The residual blocks, each with its forward written out. The twin of ``keras/blocks.py``."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.fx
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from resvox.blueprint import blocks as b
from resvox.blueprint.leaves import MaxPool
from resvox.blueprint.node import Node, Sequence
from resvox.errors import BlueprintError
from resvox.torch.layers import layer


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation: channels weighted by a function of the whole map (arXiv:1709.01507)."""

    def __init__(self, node: b.SqueezeExcitation, spatial_dims: int) -> None:
        super().__init__()
        self.axes = list(range(2, 2 + spatial_dims))
        self.fc1 = layer(node.fc1, spatial_dims)
        self.act = layer(node.act, spatial_dims)
        self.fc2 = layer(node.fc2, spatial_dims)
        self.gate = layer(node.gate, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        weight = x.mean(self.axes, keepdim=True)
        weight = self.gate(self.fc2(self.act(self.fc1(weight))))
        return x * weight


class PreActShortcut(nn.Module):
    """Shortcut of a pre-activation block: pooling where it strides, then a convolution, without a norm."""

    def __init__(self, node: b.PreActShortcut, spatial_dims: int) -> None:
        super().__init__()
        self.pool = layer(node.pool, spatial_dims)
        self.conv = layer(node.conv, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pool(x))


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut (arXiv:1512.03385). (batch, channels, \\*size) in and out."""

    __constants__ = ("se_before_norm",)

    def __init__(self, node: b.BasicBlock, spatial_dims: int) -> None:
        super().__init__()
        self.conv1 = layer(node.conv1, spatial_dims)
        self.bn1 = layer(node.bn1, spatial_dims)
        self.act1 = layer(node.act1, spatial_dims)
        self.conv2 = layer(node.conv2, spatial_dims)
        self.bn2 = layer(node.bn2, spatial_dims)
        self.se_before_norm = node.se_before_norm
        self.se = _gate(node.se, spatial_dims)
        self.droppath = layer(node.droppath, spatial_dims)
        self.downsample = _shortcut(node.downsample, spatial_dims)
        self.act2 = layer(node.act2, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.conv2(y)
        y = self.bn2(self.se(y)) if self.se_before_norm else self.se(self.bn2(y))
        y = self.droppath(y)
        return self.act2(y + self.downsample(x))


class BottleneckBlock(nn.Module):
    """Three convolutions and a shortcut (arXiv:1512.03385). (batch, channels, \\*size) in and out."""

    __constants__ = ("se_before_norm",)

    def __init__(self, node: b.BottleneckBlock, spatial_dims: int) -> None:
        super().__init__()
        self.conv1 = layer(node.conv1, spatial_dims)
        self.bn1 = layer(node.bn1, spatial_dims)
        self.act1 = layer(node.act1, spatial_dims)
        self.conv2 = layer(node.conv2, spatial_dims)
        self.bn2 = layer(node.bn2, spatial_dims)
        self.act2 = layer(node.act2, spatial_dims)
        self.conv3 = layer(node.conv3, spatial_dims)
        self.bn3 = layer(node.bn3, spatial_dims)
        self.se_before_norm = node.se_before_norm
        self.se = _gate(node.se, spatial_dims)
        self.droppath = layer(node.droppath, spatial_dims)
        self.downsample = _shortcut(node.downsample, spatial_dims)
        self.act3 = layer(node.act3, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.act2(self.bn2(self.conv2(y)))
        y = self.conv3(y)
        y = self.bn3(self.se(y)) if self.se_before_norm else self.se(self.bn3(y))
        y = self.droppath(y)
        return self.act3(y + self.downsample(x))


class PreActBasicBlock(nn.Module):
    """Norm and activation before each convolution (arXiv:1603.05027). A projection takes the activated input."""

    def __init__(self, node: b.PreActBasicBlock, spatial_dims: int) -> None:
        super().__init__()
        self.projects = _projects(node.downsample)
        self.norm1 = layer(node.norm1, spatial_dims)
        self.act1 = layer(node.act1, spatial_dims)
        self.conv1 = layer(node.conv1, spatial_dims)
        self.norm2 = layer(node.norm2, spatial_dims)
        self.act2 = layer(node.act2, spatial_dims)
        self.conv2 = layer(node.conv2, spatial_dims)
        self.se = _gate(node.se, spatial_dims)
        self.droppath = layer(node.droppath, spatial_dims)
        self.downsample = _shortcut(node.downsample, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        active = self.act1(self.norm1(x))
        shortcut = self.downsample(active if self.projects else x)
        y = self.conv1(active)
        y = self.conv2(self.act2(self.norm2(y)))
        return self.droppath(self.se(y)) + shortcut


class PreActBottleneckBlock(nn.Module):
    """Norm and activation before each convolution (arXiv:1603.05027). A projection takes the activated input."""

    def __init__(self, node: b.PreActBottleneckBlock, spatial_dims: int) -> None:
        super().__init__()
        self.projects = _projects(node.downsample)
        self.norm1 = layer(node.norm1, spatial_dims)
        self.act1 = layer(node.act1, spatial_dims)
        self.conv1 = layer(node.conv1, spatial_dims)
        self.norm2 = layer(node.norm2, spatial_dims)
        self.act2 = layer(node.act2, spatial_dims)
        self.conv2 = layer(node.conv2, spatial_dims)
        self.norm3 = layer(node.norm3, spatial_dims)
        self.act3 = layer(node.act3, spatial_dims)
        self.conv3 = layer(node.conv3, spatial_dims)
        self.se = _gate(node.se, spatial_dims)
        self.droppath = layer(node.droppath, spatial_dims)
        self.downsample = _shortcut(node.downsample, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        active = self.act1(self.norm1(x))
        shortcut = self.downsample(active if self.projects else x)
        y = self.conv1(active)
        y = self.conv2(self.act2(self.norm2(y)))
        y = self.conv3(self.act3(self.norm3(y)))
        return self.droppath(self.se(y)) + shortcut


def block(node: Node, spatial_dims: int) -> nn.Module:
    """The module of a residual block."""
    if isinstance(node, b.BasicBlock):
        return BasicBlock(node, spatial_dims)
    if isinstance(node, b.BottleneckBlock):
        return BottleneckBlock(node, spatial_dims)
    if isinstance(node, b.PreActBasicBlock):
        return PreActBasicBlock(node, spatial_dims)
    if isinstance(node, b.PreActBottleneckBlock):
        return PreActBottleneckBlock(node, spatial_dims)
    raise BlueprintError(f"{type(node).__name__} as a block", expected="a residual block")


class _SameStatistics(AbstractContextManager[None]):
    """While a block is recomputed for its gradient, its norms update copies of their running statistics.

    The forward pass has updated them already; a second update would count the batch twice.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._kept: list[tuple[nn.Module, str, Tensor]] = []

    def __enter__(self) -> None:
        for each in self._module.modules():
            for name, buffer in each.named_buffers(recurse=False):
                self._kept.append((each, name, buffer))
                each._buffers[name] = buffer.clone()

    def __exit__(self, *details: object) -> None:
        for each, name, buffer in self._kept:
            each._buffers[name] = buffer
        self._kept.clear()


def _again(block: nn.Module, x: Tensor) -> Tensor:
    """A block whose inner maps are recomputed for the gradient instead of stored."""
    if isinstance(x, torch.fx.Proxy):  # a graph is traced: nothing is stored
        return block(x)
    if torch.compiler.is_compiling():  # a compiled graph updates statistics once, and does not support this context
        return checkpoint(block, x, use_reentrant=False)
    return checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _SameStatistics(block)))


class Stage(nn.Sequential):
    """Blocks in sequence; in training their inner maps can be recomputed instead of stored."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__(*blocks)
        self.checkpointing = False

    def forward(self, input: Tensor) -> Tensor:
        for each in self:
            if self.checkpointing and not torch.jit.is_scripting():  # noqa: SIM108 (TorchScript does not compile the other branch)
                input = _again(each, input)
            else:
                input = each(input)
        return input


def stage(node: Sequence | None, spatial_dims: int) -> nn.Module:
    """The blocks of a stage; empty where the network is cut before it."""
    if node is None:
        return nn.Identity()
    return Stage(*(block(item, spatial_dims) for item in node.items))


def _gate(node: b.SqueezeExcitation | None, spatial_dims: int) -> nn.Module:
    return nn.Identity() if node is None else SqueezeExcitation(node, spatial_dims)


def _projects(node: Node | None) -> bool:
    """Whether a pre-activation block's shortcut takes the activated input; identity and subsampling do not."""
    return node is not None and not isinstance(node, MaxPool)


def _shortcut(node: Node | None, spatial_dims: int) -> nn.Module:
    if isinstance(node, b.PreActShortcut):
        return PreActShortcut(node, spatial_dims)
    return layer(node, spatial_dims)
