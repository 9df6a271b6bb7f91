"""The U-Net. The twin of ``keras/unet.py``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resvox.blueprint import Blueprint
from resvox.blueprint import networks as net
from resvox.blueprint.blueprint import encoder_blueprint
from resvox.torch.initialize import Unfilled, materialize
from resvox.torch.layers import layer
from resvox.torch.resnet import as_blueprint, backbone, checkpoint_stages, expect


class UNetDecoderBlock(nn.Module):
    """One level up: enlarge, cut to the size of what it meets, join, convolve."""

    __constants__ = ("joins",)

    def __init__(self, node: net.UNetDecoderBlock, spatial_dims: int) -> None:
        super().__init__()
        self.joins = node.joins
        self.up = layer(node.up, spatial_dims)
        self.conv1 = layer(node.conv1, spatial_dims)
        self.bn1 = layer(node.bn1, spatial_dims)
        self.act1 = layer(node.act1, spatial_dims)
        self.conv2 = layer(node.conv2, spatial_dims)
        self.bn2 = layer(node.bn2, spatial_dims)
        self.act2 = layer(node.act2, spatial_dims)

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        x = cut_to(self.up(x), reference)
        if self.joins:
            x = torch.cat([x, reference], 1)
        x = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(x)))


class UNetDecoder(nn.Module):
    """Deep to shallow."""

    def __init__(self, node: net.UNetDecoder, spatial_dims: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            UNetDecoderBlock(block, spatial_dims)
            for block in node.blocks.items
            if isinstance(block, net.UNetDecoderBlock)
        )

    def forward(self, image: Tensor, maps: list[Tensor]) -> Tensor:
        """Maps [P1, ..., P<depth>] to features at the image's size."""
        references = [image] + maps  # noqa: RUF005 (TorchScript has no starred lists)
        x = references[-1]
        for number, block in enumerate(self.blocks):
            x = block(x, references[len(references) - 2 - number])
        return x


class UNet(nn.Module):
    """U-Net (arXiv:1505.04597) on a residual encoder; any input size from 1 voxel up.

    Args:
        model: a blueprint, or a name of the catalog with the arguments of :func:`resvox.create_model`.

    Input (batch, channels, \\*size); output logits (batch, num_classes, \\*size) of the same size.
    """

    def __init__(self, model: Blueprint | str = "unet", /, **arguments: Any) -> None:
        super().__init__()
        blueprint = as_blueprint(model, arguments)
        node = expect(blueprint, net.UNet, "UNet", "resvox.create_model")
        with Unfilled():
            self.encoder = backbone(encoder_blueprint(blueprint))
            self.decoder = UNetDecoder(node.decoder, blueprint.spatial_dims)
            self.head = layer(node.head, blueprint.spatial_dims)
            self.activation = layer(node.activation, blueprint.spatial_dims)
        self.blueprint = blueprint
        materialize(self, node)

    def forward(self, x: Tensor) -> Tensor:
        x = self.decoder(x, self.encoder(x))
        return self.activation(self.head(x))

    def forward_pyramid(self, x: Tensor) -> list[Tensor]:
        """The encoder's maps [P1, ..., P<depth>], fine to coarse."""
        return self.encoder(x)

    @torch.jit.unused
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: keep a block's input alone and compute the rest again."""
        checkpoint_stages(self, enable)


def cut_to(x: Tensor, reference: Tensor) -> Tensor:
    """The near corner of ``x`` with the spatial size of ``reference``: the one rule for sizes that do not divide.

    A strided layer makes ceil(n / 2) of n, so an enlarged map is never smaller than what it meets; where the
    sizes divide nothing is cut.
    """
    # Padding by less than nothing, not a slice: a slice's strides tie an exported graph to sizes that divide (or to
    # those that do not), as the example's did.
    cut: list[int] = []
    for axis in range(x.dim() - 1, 1, -1):
        cut += [0, reference.shape[axis] - x.shape[axis]]
    return F.pad(x, cut)
