"""The residual network for dense prediction. The twin of ``keras/dense.py``."""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from resvox.blueprint import Blueprint, NormChoice, ResNetRecipe, activation_of, per_axis
from resvox.blueprint import networks as net
from resvox.blueprint.choices import plain
from resvox.blueprint.leaves import is_whole, require
from resvox.blueprint.resnet_blocks import basic_block
from resvox.catalog import get_blueprint
from resvox.errors import BlueprintError
from resvox.torch import blocks
from resvox.torch.initialize import Unfilled, materialize
from resvox.torch.layers import cut_to, layer
from resvox.torch.resnet import as_blueprint, checkpoint_stages, expect

torch.fx.wrap("cut_to")


class BasicBlock(blocks.BasicBlock):
    """A single residual block: two 3-wide convolutions and a shortcut (arXiv:1512.03385).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; where they differ the shortcut is a 1-wide convolution.
        stride: of the first convolution, one number or one per axis.
        spatial_dims: 3 or 2.
        norm: ``"batch"``, ``"instance"`` or ``"group"``, or a pair with its arguments.
        activation: of both layers, such as ``"relu"``.

    Input (batch, in_channels, \\*size); output (batch, out_channels, \\*ceil(size / stride)).

    Raises:
        BlueprintError: numbers that are not valid.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int | tuple[int, ...] = 1,
        *,
        spatial_dims: int = 3,
        norm: Any = "batch",
        activation: Any = "relu",
    ) -> None:
        in_channels, out_channels, spatial_dims = plain((in_channels, out_channels, spatial_dims))
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            require(is_whole(value, 1), f"{name}={value!r}", "a whole number of at least 1")
        style = ResNetRecipe(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            block="basic",
            depths=(1, 1, 1, 1),
            norm=NormChoice.of(norm),
            activation=activation_of(activation),
        )
        node = basic_block(style, in_channels, out_channels, per_axis("stride", stride, spatial_dims))
        with Unfilled():
            super().__init__(node, spatial_dims)
        materialize(self, node)


class ResNet18_3D(nn.Module):  # noqa: N801 - the name in the package that it replaces
    """ResNet-18 for one prediction per voxel: the output has the size of the input, which may be any from 1 voxel.

    A 3-wide convolution at full size, stages of :class:`BasicBlock` of which the second halves the size once, a
    transposed convolution that doubles it again, a convolutional head.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        spatial_dims: 3 (default) or 2.
        blueprint: the resolved network instead of all other arguments.
        **options: ``depths`` and ``widths`` (one number per stage), ``stride``, ``norm``, ``activation``,
            ``output_activation``, ``shortcut``, ``zero_init_residual``; unknown ones are rejected by name.

    Input (batch, in_channels, \\*size); output (batch, out_channels, \\*size), not activated.

    Raises:
        BlueprintError: an option that is unknown or not valid.
    """

    __constants__ = ("activates",)

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 6,
        *,
        spatial_dims: int = 3,
        blueprint: Blueprint | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if blueprint and (in_channels, out_channels, spatial_dims) != (3, 6, 3):
            raise BlueprintError(
                "a blueprint and channels or dims of its own",
                expected="one of the two",
                fix="give the arguments to resvox.get_blueprint",
            )
        made = (
            as_blueprint(blueprint, options)
            if blueprint
            else get_blueprint(
                "resnet18_3d",
                spatial_dims=spatial_dims,
                in_channels=in_channels,
                num_classes=out_channels,
                **options,
            )
        )
        node = expect(made, net.DenseResNet, "ResNet18_3D", "resvox.create_model")
        with Unfilled():
            self.conv1 = layer(node.conv1, made.spatial_dims)
            self.bn1 = layer(node.bn1, made.spatial_dims)
            self.act1 = layer(node.act1, made.spatial_dims)
            self.layers = nn.Sequential(*(blocks.stage(each, made.spatial_dims) for each in node.layers.items))
            self.up = layer(node.up, made.spatial_dims)
            self.head = layer(node.head, made.spatial_dims)
            self.activates = node.activation is not None
            if node.activation is not None:  # otherwise the head is the last child, which children()[:-1] excludes
                self.activation = layer(node.activation, made.spatial_dims)
        self.blueprint = made
        materialize(self, node)

    @staticmethod
    def _make_layer(
        in_channels: int, out_channels: int, blocks: int, stride: int | tuple[int, ...] = 1
    ) -> nn.Sequential:
        """A sequence of basic blocks: the first one strides and changes the channels."""
        first = BasicBlock(in_channels, out_channels, stride)
        return nn.Sequential(first, *(BasicBlock(out_channels, out_channels) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(self.act1(self.bn1(self.conv1(x))))
        # a strided convolution turns n into ceil(n / 2), which doubled is n or n + 1
        y = cut_to(self.up(y), x)
        y = self.head(y)
        if self.activates:
            y = self.activation(y)
        return y

    @torch.jit.unused
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: store only the input of each block and recompute the rest."""
        checkpoint_stages(self, enable)
