"""The TransUNet. The twin of ``torch/trans_unet.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resvox.blueprint import networks as net
from resvox.keras.layers import Place, Tensor, concatenate, cut_to, layer, through
from resvox.keras.operations import registered
from resvox.keras.resnet import pyramid
from resvox.keras.segmentation import SegmentationModel, supervised, supervision_head
from resvox.keras.transformers import query_decoder, vision_transformer
from resvox.keras.unet import unet_decoder_block


def trans_decoder(node: net.TransDecoder, place: Place, maps: Sequence[Tensor]) -> list[Tensor]:
    """Maps [P1, ..., P<depth>] to what comes out at every level, from the deepest to P1."""
    *skips, deepest = maps
    vit = vision_transformer(node.vit, place.at("vit"), deepest)
    x = concatenate(place, vit, query_decoder(node.queries, place.at("queries"), vit, maps))
    x = cut_to(place.at("up"), layer(node.up, place.at("up"), x), deepest)
    ways = [through(node, ("conv", "bn", "act"), place, x)]
    for name, block in node.blocks.children():
        assert isinstance(block, net.UNetDecoderBlock)
        ways.append(unet_decoder_block(block, place.at(f"blocks.{name}"), ways[-1], [skips.pop()]))
    return ways


def trans_unet(node: net.TransUNet, place: Place, x: Tensor) -> tuple[Any, list[Tensor]]:
    """Logits (batch, \\*size, num_classes) of the image's size, or a list of them; and the encoder's maps."""
    maps = pyramid(node.encoder, place.at("encoder"), x)
    ways = trans_decoder(node.decoder, place.at("decoder"), maps)
    full = place.full_precision
    logits = [cut_to(full.at("head"), layer(node.head, full.at("head"), ways[-1]), x)]
    heads = node.supervision.children() if node.supervision is not None else ()
    for (name, head), way in zip(heads, reversed(ways[:-1]), strict=False):
        assert isinstance(head, net.SupervisionHead)
        logits.append(supervision_head(head, full.at(f"supervision.{name}"), way, x))
    return supervised(node, full, logits), maps


@registered
class TransUNet(SegmentationModel):
    """The hybrid of a residual encoder and a vision transformer (arXiv:2102.04306) with learnable queries that look
    for the classes from coarse to fine (arXiv:2310.07781). Any input size from 1 voxel up.

    Args:
        blueprint: of ``get_blueprint("trans_unet", ...)``; or none, and the arguments below.
        input_shape: ``(*spatial, channels)``; a size may be ``None``. The position embedding is stored for that size,
            unless ``image_size`` says another, and interpolated for others.
        input_tensor: a ``keras.Input`` to build on.
        encoder: a residual model of this package. Its blueprint, cut at ``encoder_depth``, becomes the encoder, and
            its weights are copied: training one afterwards leaves the other as it is.
        include_rescaling: divide the image by 255 first.
        name, dtype: of the model; the dtype policy in force by default.
        **options: ``encoder_name="resnet18"``, ``encoder_depth=5``, ``num_classes=1``,
            ``classifier_activation=None``, ``decoder_filters=(256, 128, 64, 32, 16)``,
            ``decoder_activation="leaky_relu"``, ``num_vit_layers=12``, ``num_heads=8``, ``num_queries=100``,
            ``embed_dim=512``, ``mlp_dim=1024``, ``dropout_rate=0.1``, and the others of
            ``create_model("trans_unet", ...)``.

    Input (batch, \\*size, channels); output logits (batch, \\*size, num_classes) in float32; with
    ``deep_supervision=True`` the list of them, finest first.

    Raises:
        BlueprintError: an argument that is unknown, missing or not valid.

    Example:
        >>> model = TransUNet(encoder_name="resnet18", input_shape=(96, 96, 96, 1), num_classes=3)
    """

    model = "trans_unet"
    kind = net.TransUNet
    spell = staticmethod(trans_unet)
