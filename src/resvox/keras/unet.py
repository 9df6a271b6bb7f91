"""The U-Net and the attention U-Net. The twin of ``torch/unet.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resvox.blueprint import networks as net
from resvox.keras.layers import LayerScope, Tensor, add, concatenate, cut_to, layer, multiply, through
from resvox.keras.model import registered_model
from resvox.keras.resnet import pyramid
from resvox.keras.segmentation import SegmentationModel, logits_of, supervised


def attention_gate(node: net.AttentionGate, scope: LayerScope, skip: Tensor, below: Tensor) -> Tensor:
    """A skip with weighted voxels; the weights are computed from it and from the map below (arXiv:1804.03999)."""
    theta = layer(node.theta, scope.at("theta"), skip)
    phi = layer(node.phi, scope.at("phi"), below)
    weight = through(node, ("act", "psi", "gate", "up"), scope, add(scope, theta, phi))
    return multiply(scope, skip, cut_to(scope, weight, skip))


def unet_decoder_block(
    node: net.UNetDecoderBlock, scope: LayerScope, below: Tensor, references: Sequence[Tensor]
) -> Tensor:
    """One level of the decoder: enlarge, crop to the size of the skip, concatenate, convolve."""
    skip = references[0]
    if node.gate is not None:
        skip = attention_gate(node.gate, scope.at("gate"), skip, below)
    x = cut_to(scope, layer(node.up, scope.at("up"), below), skip)
    if node.joins:
        x = concatenate(scope, x, skip, *references[1:])
    return through(node, ("conv1", "bn1", "act1", "conv2", "bn2", "act2"), scope, x)


def unet_decoder(node: net.UNetDecoder, scope: LayerScope, image: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of all blocks, deep to shallow, for maps [P1, ..., P<depth>]; the last has the image's size."""
    references = [image, *maps]
    x, outputs = references.pop(), []
    for name, block in node.blocks.children():
        assert isinstance(block, net.UNetDecoderBlock)
        x = unet_decoder_block(block, scope.at(f"blocks.{name}"), x, [references.pop()])
        outputs.append(x)
    return outputs


def unet(node: net.UNet | net.AttentionUNet, scope: LayerScope, x: Tensor) -> tuple[Any, list[Tensor]]:
    """Logits (batch, \\*size, num_classes) of the image's size, a list if supervised; and the encoder's maps."""
    maps = pyramid(node.encoder, scope.at("encoder"), x)
    outputs = unet_decoder(node.decoder, scope.at("decoder"), x, maps)
    full = scope.full_precision
    return supervised(node, full, logits_of(node, full, outputs, x)), maps


@registered_model
class UNet(SegmentationModel):
    """U-Net (arXiv:1505.04597) on a residual encoder; any input size from 1 voxel.

    Args:
        blueprint: from ``get_blueprint("unet", ...)``; or None, with the arguments below.
        input_shape: ``(*spatial, channels)``; a size may be ``None``.
        input_tensor: a ``keras.Input`` to build on.
        encoder: a residual model of this package. Its blueprint, cut at ``encoder_depth``, becomes the encoder, and
            its weights are copied: training one afterwards does not change the other.
        include_rescaling: divide the image by 255 first.
        name: name of the model.
        dtype: dtype policy of the model; by default the current one.
        **options: ``encoder_name="resnet18"``, ``encoder_depth=5``, ``num_classes=1``,
            ``classifier_activation=None``, ``decoder_filters=(256, 128, 64, 32, 16)``,
            ``decoder_block_type="upsampling" | "transpose"``, ``decoder_normalization="batch"``,
            ``decoder_activation="relu"``, ``deep_supervision=False``, and the others of
            ``create_model("unet", ...)``.

    Input (batch, \\*size, channels); output logits (batch, \\*size, num_classes) in float32, with
    ``deep_supervision=True`` a list of them, finest first.

    Raises:
        BlueprintError: an argument that is unknown, missing or not valid.

    Example:
        >>> model = UNet(encoder_name="resnet18", input_shape=(96, 96, 96, 4), num_classes=3)
    """

    model = "unet"
    kind = net.UNet
    spell = staticmethod(unet)


@registered_model
class AttentionUNet(SegmentationModel):
    """Attention U-Net (arXiv:1804.03999) on a residual encoder: every skip is weighted by the map below it.

    Arguments, inputs, outputs and errors are those of :class:`UNet`.
    """

    model = "attention_unet"
    kind = net.AttentionUNet
    spell = staticmethod(unet)
