"""The U-Net and the attention U-Net. The twin of ``keras/unet.py``."""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from resvox.blueprint import Blueprint
from resvox.blueprint import networks as net
from resvox.torch.layers import cut_to, layer
from resvox.torch.segmentation import SegmentationModel, SupervisionHead, segmenter_blueprint

torch.fx.wrap("cut_to")


class AttentionGate(nn.Module):
    """Weights the voxels of a skip, computed from it and from the map below (arXiv:1804.03999)."""

    def __init__(self, node: net.AttentionGate, spatial_dims: int) -> None:
        super().__init__()
        self.theta = layer(node.theta, spatial_dims)
        self.phi = layer(node.phi, spatial_dims)
        self.act = layer(node.act, spatial_dims)
        self.psi = layer(node.psi, spatial_dims)
        self.gate = layer(node.gate, spatial_dims)
        self.up = layer(node.up, spatial_dims)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        weight = self.gate(self.psi(self.act(self.theta(skip) + self.phi(below))))
        return skip * cut_to(self.up(weight), skip)


class UNetDecoderBlock(nn.Module):
    """One level of the decoder: enlarge, crop to the size of the skip, concatenate, convolve."""

    __constants__ = ("gated", "joins")

    def __init__(self, node: net.UNetDecoderBlock, spatial_dims: int) -> None:
        super().__init__()
        self.joins = node.joins
        self.gated = node.gate is not None
        self.gate = AttentionGate(node.gate, spatial_dims) if node.gate else nn.Identity()
        self.up = layer(node.up, spatial_dims)
        self.conv1 = layer(node.conv1, spatial_dims)
        self.bn1 = layer(node.bn1, spatial_dims)
        self.act1 = layer(node.act1, spatial_dims)
        self.conv2 = layer(node.conv2, spatial_dims)
        self.bn2 = layer(node.bn2, spatial_dims)
        self.act2 = layer(node.act2, spatial_dims)

    def forward(self, below: Tensor, references: list[Tensor]) -> Tensor:
        skip = references[0]
        if self.gated:
            skip = self.gate(skip, below)
        x = cut_to(self.up(below), skip)
        if self.joins:
            x = torch.cat([x, skip] + references[1:], 1)  # noqa: RUF005 (TorchScript)
        x = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(x)))


class UNetDecoder(nn.Module):
    """The decoder blocks, deep to shallow."""

    def __init__(self, node: net.UNetDecoder, spatial_dims: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            UNetDecoderBlock(block, spatial_dims)
            for block in node.blocks.items
            if isinstance(block, net.UNetDecoderBlock)
        )

    def forward(self, image: Tensor, maps: list[Tensor]) -> list[Tensor]:
        """Outputs of all blocks for maps [P1, ..., P<depth>]; the last one has the size of the image."""
        references = [image] + maps  # noqa: RUF005 (TorchScript has no starred lists)
        x = references[-1]
        outputs: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            x = block(x, [references[len(references) - 2 - number]])
            outputs.append(x)
        return outputs


class _UNet(SegmentationModel):
    """Common base of the U-Net and the attention U-Net. Abstract."""

    def decoder_outputs(self, x: Tensor) -> list[Tensor]:
        return self.decoder(x, self.encoder(x))

    def main_logits(self, output: Tensor, image: Tensor) -> Tensor:
        return self.head(output)  # the output of the last block has been cropped to the image


_SPELL = {"decoder": UNetDecoder, "supervision": SupervisionHead}


class UNet(_UNet):
    """U-Net (arXiv:1505.04597) on a residual encoder; any input size from 1 voxel.

    Args:
        model: a blueprint, or a name of the catalog with the arguments of :func:`resvox.create_model`.
        encoder: a residual network of this package. Its blueprint, cut at ``encoder_depth``, becomes the encoder,
            and its weights are copied.

    Input (batch, channels, \\*size); output logits (batch, num_classes, \\*size) of the same size. In training
    with ``deep_supervision=True`` a list of them, finest first.

    Raises:
        ValueError: in training with batch norm, a batch with which a norm would get one value per channel.
    """

    def __init__(
        self, model: Blueprint | str = "unet", /, *, encoder: nn.Module | None = None, **arguments: Any
    ) -> None:
        super().__init__(segmenter_blueprint(model, arguments, encoder, net.UNet, "UNet"), _SPELL, encoder)


class AttentionUNet(_UNet):
    """Attention U-Net (arXiv:1804.03999) on a residual encoder: every skip is weighted by the map below it.

    Arguments, inputs, outputs and errors are those of :class:`UNet`.
    """

    def __init__(
        self, model: Blueprint | str = "attention_unet", /, *, encoder: nn.Module | None = None, **arguments: Any
    ) -> None:
        blueprint = segmenter_blueprint(model, arguments, encoder, net.AttentionUNet, "AttentionUNet")
        super().__init__(blueprint, _SPELL, encoder)
