"""The U-Net. The twin of ``torch/unet.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resvox.blueprint import Blueprint
from resvox.blueprint import networks as net
from resvox.catalog import get_blueprint
from resvox.catalog.registry import segmenter_on
from resvox.errors import BlueprintError
from resvox.keras.arguments import need_input_shape
from resvox.keras.layers import Place, Tensor, concatenate, cut_to, layer, through
from resvox.keras.model import BlueprintModel, expect
from resvox.keras.operations import registered
from resvox.keras.resnet import pyramid
from resvox.keras.tensors import copy_encoder


def unet_decoder_block(node: net.UNetDecoderBlock, place: Place, x: Tensor, reference: Tensor) -> Tensor:
    """One level up: enlarge, cut to the size of what it meets, join, convolve."""
    x = cut_to(place, layer(node.up, place.at("up"), x), reference)
    if node.joins:
        x = concatenate(place, x, reference)
    return through(node, ("conv1", "bn1", "act1", "conv2", "bn2", "act2"), place, x)


def unet_decoder(node: net.UNetDecoder, place: Place, image: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Maps [P1, ..., P<depth>] to features at the image's size, deep to shallow."""
    references = [image, *maps]
    x = references.pop()
    for name, block in node.blocks.children():
        assert isinstance(block, net.UNetDecoderBlock)
        x = unet_decoder_block(block, place.at(f"blocks.{name}"), x, references.pop())
    return x


def unet(node: net.UNet, place: Place, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits (batch, \\*size, num_classes) of the image's size; and the encoder's maps."""
    maps = pyramid(node.encoder, place.at("encoder"), x)
    x = unet_decoder(node.decoder, place.at("decoder"), x, maps)
    return through(node, ("head", "activation"), place.full_precision, x), maps


@registered
class UNet(BlueprintModel):
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
            ``decoder_activation="relu"``, and the others of ``create_model("unet", ...)``.

    Input (batch, \\*size, channels); output logits (batch, \\*size, num_classes) in float32.

    Raises:
        BlueprintError: an argument that is unknown, missing or not valid.

    Example:
        >>> model = UNet(encoder_name="resnet18", input_shape=(96, 96, 96, 4), num_classes=3)
    """

    def __init__(
        self,
        blueprint: Blueprint | None = None,
        /,
        *,
        input_shape: Sequence[int | None] | None = None,
        input_tensor: Tensor | None = None,
        encoder: Any = None,
        include_rescaling: bool = False,
        name: str | None = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        if blueprint is None:
            if encoder is not None:
                _check_encoder(encoder)
                if input_shape is None and input_tensor is None:
                    input_shape = encoder.input_shape[1:]
                include_rescaling = include_rescaling or encoder.include_rescaling
            shape = need_input_shape("UNet", input_shape, input_tensor)
            blueprint = _blueprint(shape, encoder, options)
            name = name or "UNet"
        elif options or encoder is not None:
            given = [*options, *(["encoder"] if encoder is not None else [])]
            raise BlueprintError(f"a blueprint and arguments {sorted(given)}", expected="one of the two")
        expect(blueprint, (net.UNet,), "UNet")
        super().__init__(
            blueprint,
            spell=unet,
            input_shape=input_shape,
            input_tensor=input_tensor,
            include_rescaling=include_rescaling,
            name=name,
            dtype=dtype,
        )
        if encoder is not None:
            copy_encoder(encoder, self)


def _check_encoder(encoder: Any) -> None:
    if not isinstance(encoder, BlueprintModel):
        raise BlueprintError(
            f"an encoder that is a {type(encoder).__name__}",
            expected="a residual model of resvox.keras",
            fix="build it with resvox.keras.ResNetBackbone or resvox.keras.ResNet50, or give encoder_name=",
        )


def _blueprint(shape: Sequence[int | None], encoder: Any, options: dict[str, Any]) -> Blueprint:
    if encoder is None:
        return get_blueprint("unet", input_shape=shape, **options)
    if "encoder_name" in options:
        raise BlueprintError(
            f"encoder= and encoder_name={options['encoder_name']!r}", expected="exactly one of the two"
        )
    return segmenter_on(encoder.blueprint, "unet", **options)
