"""nnU-Net's networks. The twin of ``keras/peer_networks/staged_unet.py``."""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from resvox.blueprint import Blueprint
from resvox.blueprint.node import Node, Sequence
from resvox.blueprint.staged import networks as sn
from resvox.torch.blocks import Stage, block
from resvox.torch.layers import cut_to, layer
from resvox.torch.resnet import as_blueprint, expect
from resvox.torch.segmentation import LevelDecoder, SegmentationModel, SupervisionHead

torch.fx.wrap("cut_to")


def _stage(node: Node, spatial_dims: int) -> Stage:
    """Residual blocks, or sequences of convolution, norm and activation."""
    assert isinstance(node, Sequence)
    return Stage(
        *(layer(item, spatial_dims) if isinstance(item, Sequence) else block(item, spatial_dims) for item in node.items)
    )


class StagedEncoder(nn.Module):
    """A convolution at full size where the network has one, then stages."""

    __constants__ = ("has_stem",)

    def __init__(self, node: sn.StagedEncoder, spatial_dims: int) -> None:
        super().__init__()
        self.has_stem = node.stem is not None
        self.stem = layer(node.stem, spatial_dims)
        self.stages = nn.ModuleList(_stage(stage, spatial_dims) for stage in node.stages.items)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps [P1, ..., P<stages>], fine to coarse."""
        if self.has_stem:
            x = self.stem(x)
        maps: list[Tensor] = []
        for each in self.stages:
            x = each(x)
            maps.append(x)
        return maps


class StagedLevel(nn.Module):
    """One level of the decoder: enlarge, crop to the size of the skip, concatenate, convolve."""

    def __init__(self, node: sn.StagedLevel, spatial_dims: int) -> None:
        super().__init__()
        self.up = layer(node.up, spatial_dims)
        self.blocks = _stage(node.blocks, spatial_dims)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        return self.blocks(torch.cat([cut_to(self.up(below), skip), skip], 1))


class StagedDecoder(LevelDecoder):
    """The levels, deep to shallow."""

    def __init__(self, node: sn.StagedDecoder, spatial_dims: int) -> None:
        super().__init__(
            StagedLevel(level, spatial_dims) for level in node.levels.items if isinstance(level, sn.StagedLevel)
        )


_SPELL = {"encoder": StagedEncoder, "decoder": StagedDecoder, "supervision": SupervisionHead}


class _StagedUNet(SegmentationModel):
    """Common base of the three networks. Abstract."""

    def decoder_outputs(self, x: Tensor) -> list[Tensor]:
        return self.decoder(self.encoder(x))

    def main_logits(self, output: Tensor, image: Tensor) -> Tensor:
        return self.head(output)  # the output of the last level has the size of the image


class ResEncUNet(_StagedUNet):
    """nnU-Net's U-Net with a residual encoder (arXiv:2404.09556); any input size from 1 voxel.

    Args:
        model: a blueprint, or a name of the catalog with the arguments of :func:`resvox.create_model`.

    Input (batch, channels, \\*size); output logits (batch, num_classes, \\*size) of the same size. In training
    with ``deep_supervision=True`` a list of them, finest first.

    Raises:
        ValueError: in training with batch norm, a batch with which a norm would get one value per channel.
    """

    def __init__(self, model: Blueprint | str = "resenc_unet", /, **arguments: Any) -> None:
        blueprint = as_blueprint(model, arguments)
        expect(blueprint, sn.ResEncUNet, "ResEncUNet", "resvox.create_model")
        super().__init__(blueprint, _SPELL, None)


class PlainUNet(_StagedUNet):
    """nnU-Net's U-Net of plain convolutions (doi:10.1038/s41592-020-01008-z).

    Arguments, inputs, outputs and errors are those of :class:`ResEncUNet`.
    """

    def __init__(self, model: Blueprint | str = "plain_unet", /, **arguments: Any) -> None:
        blueprint = as_blueprint(model, arguments)
        expect(blueprint, sn.PlainUNet, "PlainUNet", "resvox.create_model")
        super().__init__(blueprint, _SPELL, None)


class ResidualUNet(_StagedUNet):
    """nnU-Net's U-Net with residual blocks in its encoder and in its decoder.

    Arguments, inputs, outputs and errors are those of :class:`ResEncUNet`.
    """

    def __init__(self, model: Blueprint | str = "residual_unet", /, **arguments: Any) -> None:
        blueprint = as_blueprint(model, arguments)
        expect(blueprint, sn.ResidualUNet, "ResidualUNet", "resvox.create_model")
        super().__init__(blueprint, _SPELL, None)
