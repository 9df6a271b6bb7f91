"""The UNet++. The twin of ``torch/unet_plus_plus.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from resvox.blueprint import Node
from resvox.blueprint import networks as net
from resvox.blueprint.unet_plus_plus import grid, original, prune
from resvox.keras.layers import LayerScope, Tensor, cut_to, layer
from resvox.keras.model import registered_model
from resvox.keras.resnet import pyramid
from resvox.keras.segmentation import SegmentationModel, supervised
from resvox.keras.tensors import copy_tensors
from resvox.keras.unet import unet_decoder_block


def unet_plus_plus_decoder(node: net.UNetPlusPlusDecoder, scope: LayerScope, maps: Sequence[Tensor]) -> list[Tensor]:
    """Maps [P1, ..., P<depth>] to the finest row: X(0, 0), which is P1, to X(0, N)."""
    left = list(maps)
    row = [left.pop()]
    for number, blocks in enumerate(grid(node)):
        below, row = row, [left.pop()]
        for column, (block, lower) in enumerate(zip(blocks, below, strict=True)):
            row.append(unet_decoder_block(block, scope.at(f"rows.{number}.{column}"), lower, row))
    return row


def unet_plus_plus(node: net.UNetPlusPlus, scope: LayerScope, x: Tensor) -> tuple[Any, list[Tensor]]:
    """Logits (batch, \\*size, num_classes) of the image's size, a list if supervised; and the encoder's maps."""
    maps = pyramid(node.encoder, scope.at("encoder"), x)
    row = unet_plus_plus_decoder(node.decoder, scope.at("decoder"), maps)
    full = scope.full_precision
    heads: list[tuple[str, Node]] = [("head", node.head)]
    if node.supervision is not None:
        heads += [(f"supervision.{name}", head) for name, head in node.supervision.children()]
    logits = []
    for number, ((name, head), output) in enumerate(zip(heads, reversed(row), strict=False)):
        bridge = scope.at("decoder.bridge" if number == 0 else f"supervision.{number - 1}.bridge")
        upsampling: Node = node.decoder.bridge
        if isinstance(head, net.BridgedHead):
            name, upsampling, head = f"{name}.conv", head.bridge, head.conv
        enlarged = cut_to(bridge, layer(upsampling, bridge, output), x)
        logits.append(layer(head, full.at(name), enlarged))
    return supervised(node, full, logits), maps


@registered_model
class UNetPlusPlus(SegmentationModel):
    """UNet++ (arXiv:1912.05074) on a residual encoder; any input size from 1 voxel.

    Arguments, inputs, outputs and errors are those of :class:`resvox.keras.UNet`, with ``decoder_filter_order``.
    """

    model = "unet_plus_plus"
    kind = net.UNetPlusPlus
    spell = staticmethod(unet_plus_plus)

    def pruned(self, level: int) -> UNetPlusPlus:
        """The smaller network that ends at X(0, level), as a separate model with copied weights.

        This is the pruning of the paper: deep supervision has trained that node's output.

        Raises:
            BlueprintError: the level does not exist, or the model has no deep supervision.
        """
        network: Any = self.blueprint.network
        smaller, moved = prune(network, level)
        model = UNetPlusPlus(
            replace(self.blueprint, network=smaller),
            input_shape=self.inputs[0].shape[1:],
            include_rescaling=self.include_rescaling,
            dtype=self.dtype_policy,
        )
        copy_tensors(self, model, lambda name: original(name, moved))
        return model
