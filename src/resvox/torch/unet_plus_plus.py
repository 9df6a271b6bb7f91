"""The UNet++. The twin of ``keras/unet_plus_plus.py``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from resvox.blueprint import Blueprint
from resvox.blueprint import networks as net
from resvox.blueprint.node import Node
from resvox.blueprint.unet_plus_plus import grid, original, prune
from resvox.torch.layers import cut_to, layer
from resvox.torch.segmentation import SegmentationModel, segmenter_blueprint
from resvox.torch.unet import UNetDecoderBlock

torch.fx.wrap("cut_to")


class Row(nn.ModuleList):
    """The nodes of one resolution, X(i, 1), X(i, 2), ..."""

    def forward(self, below: list[Tensor], skip: Tensor) -> list[Tensor]:
        """From the row below and X(i, 0) to the row X(i, 0), X(i, 1), ..."""
        row = [skip]
        for column, block in enumerate(self):
            row.append(block(below[column], row))
        return row


class UNetPlusPlusDecoder(nn.Module):
    """The grid of nodes, row by row, deep to shallow."""

    def __init__(self, node: net.UNetPlusPlusDecoder, spatial_dims: int) -> None:
        super().__init__()
        self.rows = nn.ModuleList(Row(UNetDecoderBlock(block, spatial_dims) for block in row) for row in grid(node))
        self.bridge = layer(node.bridge, spatial_dims)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps [P1, ..., P<depth>] to the finest row: X(0, 0), which is P1, to X(0, N)."""
        row = [maps[-1]]
        for number, each in enumerate(self.rows):
            row = each(row, maps[len(maps) - 2 - number])
        return row


class BridgedHead(nn.Module):
    """Logits of a node of the finest row, by an enlarging of its own."""

    def __init__(self, node: net.BridgedHead, spatial_dims: int) -> None:
        super().__init__()
        self.bridge = layer(node.bridge, spatial_dims)
        self.conv = layer(node.conv, spatial_dims)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        return self.conv(cut_to(self.bridge(x), image))


def _supervision(node: Node, spatial_dims: int) -> nn.Module:
    return BridgedHead(node, spatial_dims) if isinstance(node, net.BridgedHead) else layer(node, spatial_dims)


class UNetPlusPlus(SegmentationModel):
    """UNet++ (arXiv:1912.05074) on a residual encoder; any input size from 1 voxel.

    Arguments, inputs, outputs and errors are those of :class:`resvox.torch.UNet`, with ``decoder_filter_order``.
    """

    def __init__(
        self, model: Blueprint | str = "unet_plus_plus", /, *, encoder: nn.Module | None = None, **arguments: Any
    ) -> None:
        blueprint = segmenter_blueprint(model, arguments, encoder, net.UNetPlusPlus, "UNetPlusPlus")
        super().__init__(blueprint, {"decoder": UNetPlusPlusDecoder, "supervision": _supervision}, encoder)

    def decoder_outputs(self, x: Tensor) -> list[Tensor]:
        """The outputs X(0, 1) to X(0, N) of the finest row."""
        return self.decoder(self.encoder(x))[1:]

    def main_logits(self, output: Tensor, image: Tensor) -> Tensor:
        return self.head(cut_to(self.decoder.bridge(output), image))

    @torch.jit.unused
    def auxiliary_logits(self, head: nn.Module, output: Tensor, image: Tensor) -> Tensor:
        learned = isinstance(head, BridgedHead)
        logits: Tensor = head(output, image) if learned else head(cut_to(self.decoder.bridge(output), image))
        return logits

    @torch.jit.unused
    def pruned(self, level: int) -> UNetPlusPlus:
        """The smaller network that ends at X(0, level), as a separate model with copied weights.

        This is the pruning of the paper: deep supervision has trained that node's output.

        Raises:
            BlueprintError: the level does not exist, or the model has no deep supervision.
        """
        network: Any = self.blueprint.network
        smaller, moved = prune(network, level)
        model = UNetPlusPlus(replace(self.blueprint, network=smaller))
        values = self.state_dict()
        model.load_state_dict({name: values[original(name, moved)] for name in model.state_dict()}, strict=True)
        return model.train(self.training)
