"""The TransUNet. The twin of ``keras/trans_unet.py``."""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from resvox.blueprint import Blueprint
from resvox.blueprint import networks as net
from resvox.torch.layers import cut_to, layer
from resvox.torch.segmentation import SegmentationModel, SupervisionHead, segmenter_blueprint
from resvox.torch.transformers import QueryDecoder, VisionTransformer
from resvox.torch.unet import UNetDecoderBlock

torch.fx.wrap("cut_to")


class TransDecoder(nn.Module):
    """A transformer on the deepest map, learned class queries (cross-attention), and a decoder with skips."""

    def __init__(self, node: net.TransDecoder, spatial_dims: int) -> None:
        super().__init__()
        self.vit = VisionTransformer(node.vit, spatial_dims)
        self.queries = QueryDecoder(node.queries, spatial_dims)
        self.up = layer(node.up, spatial_dims)
        self.conv = layer(node.conv, spatial_dims)
        self.bn = layer(node.bn, spatial_dims)
        self.act = layer(node.act, spatial_dims)
        self.blocks = nn.ModuleList(
            UNetDecoderBlock(block, spatial_dims)
            for block in node.blocks.items
            if isinstance(block, net.UNetDecoderBlock)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Outputs of the decoder at every level, from the deepest to P1, for maps [P1, ..., P<depth>]."""
        vit = self.vit(maps[-1])
        x = torch.cat([vit, self.queries(vit, maps)], 1)
        x = self.act(self.bn(self.conv(cut_to(self.up(x), maps[-1]))))
        outputs = [x]
        for number, block in enumerate(self.blocks):
            x = block(x, [maps[len(maps) - 2 - number]])
            outputs.append(x)
        return outputs


_SPELL = {"decoder": TransDecoder, "supervision": SupervisionHead}


class TransUNet(SegmentationModel):
    """The hybrid of a residual encoder and a vision transformer (arXiv:2102.04306) with learned class queries.

    The queries attend to the maps of the encoder from coarse to fine (arXiv:2310.07781). Any input size from 1 voxel.

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
        self, model: Blueprint | str = "trans_unet", /, *, encoder: nn.Module | None = None, **arguments: Any
    ) -> None:
        super().__init__(segmenter_blueprint(model, arguments, encoder, net.TransUNet, "TransUNet"), _SPELL, encoder)

    def decoder_outputs(self, x: Tensor) -> list[Tensor]:
        return self.decoder(self.encoder(x))
