"""The TransUNet. The twin of ``torch/trans_unet.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resvox.blueprint import networks as net
from resvox.keras.layers import LayerScope, Tensor, concatenate, cut_to, layer, through
from resvox.keras.model import registered_model
from resvox.keras.resnet import pyramid
from resvox.keras.segmentation import SegmentationModel, supervised, supervision_head
from resvox.keras.transformers import query_decoder, vision_transformer
from resvox.keras.unet import unet_decoder_block


def trans_decoder(node: net.TransDecoder, scope: LayerScope, maps: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of the decoder at every level, from the deepest to P1, for maps [P1, ..., P<depth>]."""
    *skips, deepest = maps
    vit = vision_transformer(node.vit, scope.at("vit"), deepest)
    x = concatenate(scope, vit, query_decoder(node.queries, scope.at("queries"), vit, maps))
    x = cut_to(scope.at("up"), layer(node.up, scope.at("up"), x), deepest)
    outputs = [through(node, ("conv", "bn", "act"), scope, x)]
    for name, block in node.blocks.children():
        assert isinstance(block, net.UNetDecoderBlock)
        outputs.append(unet_decoder_block(block, scope.at(f"blocks.{name}"), outputs[-1], [skips.pop()]))
    return outputs


def trans_unet(node: net.TransUNet, scope: LayerScope, x: Tensor) -> tuple[Any, list[Tensor]]:
    """Logits (batch, \\*size, num_classes) of the image's size, or a list of them; and the encoder's maps."""
    maps = pyramid(node.encoder, scope.at("encoder"), x)
    outputs = trans_decoder(node.decoder, scope.at("decoder"), maps)
    full = scope.full_precision
    logits = [cut_to(full.at("head"), layer(node.head, full.at("head"), outputs[-1]), x)]
    heads = node.supervision.children() if node.supervision is not None else ()
    for (name, head), output in zip(heads, reversed(outputs[:-1]), strict=False):
        assert isinstance(head, net.SupervisionHead)
        logits.append(supervision_head(head, full.at(f"supervision.{name}"), output, x))
    return supervised(node, full, logits), maps


@registered_model
class TransUNet(SegmentationModel):
    """The hybrid of a residual encoder and a vision transformer (arXiv:2102.04306) with learned class queries.

    The queries attend to the maps of the encoder from coarse to fine (arXiv:2310.07781). Any input size from 1 voxel.

    Args:
        blueprint: from ``get_blueprint("trans_unet", ...)``; or None, with the arguments below.
        input_shape: ``(*spatial, channels)``; a size may be ``None``. The position embedding is stored for that size,
            unless ``image_size`` is given, and interpolated for others.
        input_tensor: a ``keras.Input`` to build on.
        encoder: a residual model of this package. Its blueprint, cut at ``encoder_depth``, becomes the encoder, and
            its weights are copied: training one afterwards does not change the other.
        include_rescaling: divide the image by 255 first.
        name: name of the model.
        dtype: dtype policy of the model; by default the current one.
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
