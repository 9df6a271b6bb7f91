"""SegResNet and SegResNetDS. The twin of ``keras/segresmn.py``."""

from __future__ import annotations

from typing import Any

import torch.fx
from torch import Tensor, nn

from resvox.blueprint import Blueprint
from resvox.blueprint.monai import networks as mn
from resvox.torch.blocks import stage
from resvox.torch.layers import cut_to, layer
from resvox.torch.segmentation import LevelDecoder, SegmentationModel, SupervisionHead, segmenter_blueprint

torch.fx.wrap("cut_to")


class SegResNetLevel(nn.Module):
    """A strided convolution (none at the first level), then pre-activation blocks."""

    def __init__(self, node: mn.SegResNetLevel, spatial_dims: int) -> None:
        super().__init__()
        self.down = layer(node.down, spatial_dims)
        self.blocks = stage(node.blocks, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.down(x))


class SegResNetEncoder(nn.Module):
    """The first convolution and the levels: (batch, channels, \\*size) to the maps [P1, ...], fine to coarse."""

    def __init__(self, node: mn.SegResNetEncoder, spatial_dims: int) -> None:
        super().__init__()
        self.conv = layer(node.conv, spatial_dims)
        self.dropout = layer(node.dropout, spatial_dims)
        self.levels = nn.ModuleList(
            SegResNetLevel(level, spatial_dims) for level in node.levels.items if isinstance(level, mn.SegResNetLevel)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.dropout(self.conv(x))
        maps: list[Tensor] = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps


class SegResNetUpLevel(nn.Module):
    """Enlarge, crop to the size of the skip, add it, then blocks."""

    def __init__(self, node: mn.SegResNetUpLevel, spatial_dims: int) -> None:
        super().__init__()
        self.conv = layer(node.conv, spatial_dims)
        self.up = layer(node.up, spatial_dims)
        self.blocks = stage(node.blocks, spatial_dims)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        return self.blocks(cut_to(self.up(self.conv(below)), skip) + skip)


class SegResNetDecoder(LevelDecoder):
    """The levels, deep to shallow."""

    def __init__(self, node: mn.SegResNetDecoder, spatial_dims: int) -> None:
        super().__init__(
            SegResNetUpLevel(level, spatial_dims)
            for level in node.levels.items
            if isinstance(level, mn.SegResNetUpLevel)
        )


_SPELL = {"encoder": SegResNetEncoder, "decoder": SegResNetDecoder, "supervision": SupervisionHead}


class _SegResNet(SegmentationModel):
    """Common base of both networks. Abstract."""

    def decoder_outputs(self, x: Tensor) -> list[Tensor]:
        return self.decoder(self.encoder(x))

    def main_logits(self, output: Tensor, image: Tensor) -> Tensor:
        return self.head(output)  # the last level has the size of the image


class SegResNet(_SegResNet):
    """SegResNet (arXiv:1810.11654, without its variational branch), as in MONAI; any input size from 1 voxel.

    Args:
        model: a blueprint, or a name of the catalog with the arguments of :func:`resvox.create_model`.

    Input (batch, channels, \\*size); output logits (batch, num_classes, \\*size) of the same size: MONAI's where the
    strides divide the size.
    """

    def __init__(self, model: Blueprint | str = "segresnet", /, **arguments: Any) -> None:
        super().__init__(segmenter_blueprint(model, arguments, None, mn.SegResNet, "SegResNet"), _SPELL, None)


class SegResNetDS(_SegResNet):
    """SegResNet with learned upsampling, and kernels that follow the resolution, as in MONAI.

    Arguments, input and output are those of :class:`SegResNet`. In training with ``dsdepth`` above 1 it gives a list
    of logits, finest first, each of the image's size.
    """

    def __init__(self, model: Blueprint | str = "segresnet_ds", /, **arguments: Any) -> None:
        super().__init__(segmenter_blueprint(model, arguments, None, mn.SegResNetDS, "SegResNetDS"), _SPELL, None)
