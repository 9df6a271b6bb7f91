"""The residual blocks and their parts, named as in torchvision (post-activation) and timm (pre-activation)."""

from __future__ import annotations

from dataclasses import dataclass

from resvox.blueprint.leaves import (
    Activation,
    AveragePool,
    Axes,
    Conv,
    DropPath,
    MaxPool,
    Norm,
    require,
)
from resvox.blueprint.node import Node, Sequence


@dataclass(frozen=True, kw_only=True)
class ZeroPadShortcut(Node):
    """The parameter-free shortcut (option A of arXiv:1512.03385): every stride-th voxel, new channels zero."""

    in_channels: int
    out_channels: int
    stride: Axes

    def __post_init__(self) -> None:
        require(
            self.out_channels >= self.in_channels,
            f"zero-padded shortcut from {self.in_channels} to {self.out_channels} channels",
            "at least as many channels out as in",
            "use shortcut='projection'",
        )

    def output_size(self, size: Axes) -> Axes:
        """Spatial size after the operation."""
        return tuple(-(-n // s) for n, s in zip(size, self.stride, strict=True))


@dataclass(frozen=True, kw_only=True)
class SqueezeExcitation(Node):
    """Channel gating (arXiv:1709.01507), as timm has it: mean, 1x1 conv, activation, 1x1 conv, sigmoid."""

    fc1: Conv
    act: Activation
    fc2: Conv
    gate: Activation


@dataclass(frozen=True, kw_only=True)
class PreActShortcut(Node):
    """The shortcut of a pre-activation block: an optional average pool, then a convolution without norm."""

    pool: AveragePool | None
    conv: Conv


@dataclass(frozen=True, kw_only=True)
class BasicBlock(Node):
    """Two convolutions and a shortcut; activation after the sum (arXiv:1512.03385).

    ``se_before_norm``: whether the gate stands before the last norm instead of after it.
    """

    conv1: Conv
    bn1: Norm
    act1: Activation
    conv2: Conv
    bn2: Norm
    se: SqueezeExcitation | None
    se_before_norm: bool
    droppath: DropPath | None
    downsample: Sequence | ZeroPadShortcut | None
    act2: Activation


@dataclass(frozen=True, kw_only=True)
class BottleneckBlock(Node):
    """1x1, 3x3, 1x1 and a shortcut; activation after the sum (arXiv:1512.03385, grouped: arXiv:1611.05431).

    ``se_before_norm``: whether the gate stands before the last norm instead of after it.
    """

    conv1: Conv
    bn1: Norm
    act1: Activation
    conv2: Conv
    bn2: Norm
    act2: Activation
    conv3: Conv
    bn3: Norm
    se: SqueezeExcitation | None
    se_before_norm: bool
    droppath: DropPath | None
    downsample: Sequence | ZeroPadShortcut | None
    act3: Activation


@dataclass(frozen=True, kw_only=True)
class PreActBasicBlock(Node):
    """Norm and activation before each of two convolutions (arXiv:1603.05027).

    A projecting shortcut takes the pre-activated input; an identity one, or one that only picks voxels (max pooling
    of kernel 1), the raw input.
    """

    norm1: Norm
    act1: Activation
    conv1: Conv
    norm2: Norm
    act2: Activation
    conv2: Conv
    se: SqueezeExcitation | None
    droppath: DropPath | None
    downsample: PreActShortcut | ZeroPadShortcut | MaxPool | None


@dataclass(frozen=True, kw_only=True)
class PreActBottleneckBlock(Node):
    """Norm and activation before each of three convolutions (arXiv:1603.05027)."""

    norm1: Norm
    act1: Activation
    conv1: Conv
    norm2: Norm
    act2: Activation
    conv2: Conv
    norm3: Norm
    act3: Activation
    conv3: Conv
    se: SqueezeExcitation | None
    droppath: DropPath | None
    downsample: PreActShortcut | ZeroPadShortcut | MaxPool | None


Block = BasicBlock | BottleneckBlock | PreActBasicBlock | PreActBottleneckBlock
