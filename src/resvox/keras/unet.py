"""The U-Net and the attention U-Net. The twin of ``torch/unet.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resvox.blueprint import networks as net
from resvox.keras.layers import Place, Tensor, add, concatenate, cut_to, layer, multiply, through
from resvox.keras.operations import registered
from resvox.keras.resnet import pyramid
from resvox.keras.segmentation import SegmentationModel, supervised, supervision_head


def attention_gate(node: net.AttentionGate, place: Place, skip: Tensor, below: Tensor) -> Tensor:
    """A skip whose voxels are weighed, seen from it and from the map below it (arXiv:1804.03999)."""
    theta = layer(node.theta, place.at("theta"), skip)
    phi = layer(node.phi, place.at("phi"), below)
    weight = through(node, ("act", "psi", "gate", "up"), place, add(place, theta, phi))
    return multiply(place, skip, cut_to(place, weight, skip))


def unet_decoder_block(node: net.UNetDecoderBlock, place: Place, below: Tensor, references: Sequence[Tensor]) -> Tensor:
    """One level up: enlarge, cut to the size of what it meets, join, convolve."""
    skip = references[0]
    if node.gate is not None:
        skip = attention_gate(node.gate, place.at("gate"), skip, below)
    x = cut_to(place, layer(node.up, place.at("up"), below), skip)
    if node.joins:
        x = concatenate(place, x, skip, *references[1:])
    return through(node, ("conv1", "bn1", "act1", "conv2", "bn2", "act2"), place, x)


def unet_decoder(node: net.UNetDecoder, place: Place, image: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
    """Maps [P1, ..., P<depth>] to what every block gives, deep to shallow; the last is of the image's size."""
    references = [image, *maps]
    x, ways = references.pop(), []
    for name, block in node.blocks.children():
        assert isinstance(block, net.UNetDecoderBlock)
        x = unet_decoder_block(block, place.at(f"blocks.{name}"), x, [references.pop()])
        ways.append(x)
    return ways


def unet(node: net.UNet | net.AttentionUNet, place: Place, x: Tensor) -> tuple[Any, list[Tensor]]:
    """Logits (batch, \\*size, num_classes) of the image's size, a list if supervised; and the encoder's maps."""
    maps = pyramid(node.encoder, place.at("encoder"), x)
    ways = unet_decoder(node.decoder, place.at("decoder"), x, maps)
    full = place.full_precision
    logits = [layer(node.head, full.at("head"), ways[-1])]
    if node.supervision is not None:
        for (name, head), way in zip(node.supervision.children(), reversed(ways[:-1]), strict=True):
            assert isinstance(head, net.SupervisionHead)
            logits.append(supervision_head(head, full.at(f"supervision.{name}"), way, x))
    return supervised(node, full, logits), maps


@registered
class UNet(SegmentationModel):
    """U-Net (arXiv:1505.04597) on a residual encoder; any input size from 1 voxel up.

    Args:
        blueprint: of ``get_blueprint("unet", ...)``; or none, and the arguments below.
        input_shape: ``(*spatial, channels)``; a size may be ``None``.
        input_tensor: a ``keras.Input`` to build on.
        encoder: a residual model of this package. Its blueprint, cut at ``encoder_depth``, becomes the encoder, and
            its weights are copied: training one afterwards leaves the other as it is.
        include_rescaling: divide the image by 255 first.
        name, dtype: of the model; the dtype policy in force by default.
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


@registered
class AttentionUNet(SegmentationModel):
    """Attention U-Net (arXiv:1804.03999) on a residual encoder: every skip is weighed by what lies below it.

    Takes, gives and raises what :class:`UNet` does.
    """

    model = "attention_unet"
    kind = net.AttentionUNet
    spell = staticmethod(unet)
