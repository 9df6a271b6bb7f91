"""MONAI's UNet. The twin of ``keras/monai_umn.py``."""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from resvox.blueprint import Blueprint
from resvox.blueprint.monai import networks as mn
from resvox.torch.layers import cut_to, layer
from resvox.torch.segmentation import SegmentationModel, segmenter_blueprint

torch.fx.wrap("cut_to")


class ConvUnit(nn.Module):
    """A convolution, or a transposed one, then norm, dropout and activation."""

    def __init__(self, node: mn.ConvUnit, spatial_dims: int) -> None:
        super().__init__()
        self.conv = layer(node.conv, spatial_dims)
        self.norm = layer(node.norm, spatial_dims)
        self.dropout = layer(node.dropout, spatial_dims)
        self.act = layer(node.act, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.dropout(self.norm(self.conv(x))))


class ResidualUnit(nn.Module):
    """Convolutions with norm and activation, and a shortcut; the sum is not activated."""

    __constants__ = ("adds",)

    def __init__(self, node: mn.ResidualUnit, spatial_dims: int) -> None:
        super().__init__()
        self.adds = node.adds
        units = [ConvUnit(unit, spatial_dims) for unit in node.convs.items if isinstance(unit, mn.ConvUnit)]
        self.convs = nn.Sequential(*units)
        self.shortcut = layer(node.shortcut, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs(x)
        return y + self.shortcut(x) if self.adds else y


class MonaiUNetEncoder(nn.Module):
    """The units: (batch, channels, \\*size) to the maps [P1, ...], fine to coarse."""

    def __init__(self, node: mn.MonaiUNetEncoder, spatial_dims: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            ResidualUnit(unit, spatial_dims) for unit in node.levels.items if isinstance(unit, mn.ResidualUnit)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps


class MonaiUpLevel(nn.Module):
    """Enlarge the skip and the map below it, crop to the size of the level above, then the residual unit."""

    def __init__(self, node: mn.MonaiUpLevel, spatial_dims: int) -> None:
        super().__init__()
        self.up = ConvUnit(node.up, spatial_dims)
        self.unit = ResidualUnit(node.unit, spatial_dims) if node.unit is not None else nn.Identity()

    def forward(self, joined: Tensor, reference: Tensor) -> Tensor:
        return self.unit(cut_to(self.up(joined), reference))


class MonaiUNetDecoder(nn.Module):
    """The levels but the last one, deep to shallow."""

    def __init__(self, node: mn.MonaiUNetDecoder, spatial_dims: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            MonaiUpLevel(level, spatial_dims) for level in node.levels.items if isinstance(level, mn.MonaiUpLevel)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """What the head enlarges, for maps [P1, ...]: P1 and the map below it, concatenated."""
        x = maps[-1]
        for number, level in enumerate(self.levels):
            above = len(maps) - 3 - number
            x = level(torch.cat([maps[above + 1], x], 1), maps[above])
        return [torch.cat([maps[0], x], 1)]


class MonaiUNet(SegmentationModel):
    """MONAI's UNet: residual units whose strides begin at the image; any input size from 1 voxel.

    Args:
        model: a blueprint, or a name of the catalog with the arguments of :func:`resvox.create_model`.

    Input (batch, channels, \\*size); output logits (batch, num_classes, \\*size) of the same size: MONAI's where the
    strides divide the size.
    """

    def __init__(self, model: Blueprint | str = "monai_unet", /, **arguments: Any) -> None:
        blueprint = segmenter_blueprint(model, arguments, None, mn.MonaiUNet, "MonaiUNet")
        spell = {"encoder": MonaiUNetEncoder, "decoder": MonaiUNetDecoder, "head": MonaiUpLevel}
        super().__init__(blueprint, spell, None)

    def decoder_outputs(self, x: Tensor) -> list[Tensor]:
        return self.decoder(self.encoder(x))

    def main_logits(self, output: Tensor, image: Tensor) -> Tensor:
        return self.head(output, image)
